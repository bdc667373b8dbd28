# SPDX-License-Identifier: GPL-2.0
"""Ask the program what it would do with one packet or with a whole capture, now or under another policy."""
