# SPDX-License-Identifier: GPL-2.0
"""The command line: the only room, with tui/, that prints."""
