# SPDX-License-Identifier: GPL-2.0
"""Reading what the program counts."""
