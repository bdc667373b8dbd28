# SPDX-License-Identifier: GPL-2.0
"""The command line: with tui/, the only package that prints."""
