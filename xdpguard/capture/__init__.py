# SPDX-License-Identifier: GPL-2.0
"""Packets from outside: captures, hex, and one-line descriptions."""
