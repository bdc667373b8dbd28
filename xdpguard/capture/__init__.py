# SPDX-License-Identifier: GPL-2.0
"""Packets from outside: captures, hex, and lines that describe one."""
