# SPDX-License-Identifier: GPL-2.0
"""Entries that are parsed one by one."""

from __future__ import annotations

from array import array

from xdpguard.lists.formats.entries import Entry

_LOWER = (1 << 64) - 1


class Single:
    """Entries with their lines, in arrays: objects would take ten times the memory."""

    def __init__(self) -> None:
        self.lines4, self.first, self.last = array("q"), array("L"), array("L")
        self.lines6, self.high, self.low, self.lengths = array("q"), array("Q"), array("Q"), array("B")
        self.lines, self.ranges = array("q"), tuple(array("Q") for _ in range(4))
        self.cleared = 0

    def add(self, line: int, said: Entry) -> None:
        """Add the entries of a line."""
        self.cleared += said.cleared
        for first, last in said.ranges4:
            self.lines4.append(line)
            self.first.append(first)
            self.last.append(last)
        for network, length in said.prefixes6:
            self.lines6.append(line)
            self.high.append(network >> 64)
            self.low.append(network & _LOWER)
            self.lengths.append(length)
        for first, last in said.ranges6:
            self.lines.append(line)
            for column, half in zip(self.ranges, (*divmod(first, 1 << 64), *divmod(last, 1 << 64)), strict=True):
                column.append(half)
