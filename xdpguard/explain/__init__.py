# SPDX-License-Identifier: GPL-2.0
"""Asking the program what it would do: about one packet, about all of a capture, now or under another policy."""
