# SPDX-License-Identifier: GPL-2.0
"""The rows of a set of filters, each stored once."""

from __future__ import annotations

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables.filterentries import FilterSetFull

WORDS = 16  # of 64 filters
_WIDTH = abi.FILTERS // 8  # bytes
MOST = (1 << 15) - 1  # numbers of rows
_WORD = (1 << 64) - 1


class RowPool:
    """Rows by number."""

    def __init__(self) -> None:
        self._entries: dict[int, int] = {}

    def entry(self, row: int) -> int:
        """Return the entry of a row, bit i for filter i: its number, and a bit for each word that is not zero."""
        found = self._entries.get(row)
        if found is None:
            if len(self._entries) > MOST:
                raise FilterSetFull(f"more than {MOST:,} groups of filters that can match together")
            summary = sum(1 << word for word in range(WORDS) if row >> 64 * word & _WORD)
            found = self._entries[row] = summary << 16 | len(self._entries)
        return found

    def data(self) -> bytes:
        """Return the rows in order of their numbers."""
        return b"".join(row.to_bytes(_WIDTH, "little") for row in self._entries)
