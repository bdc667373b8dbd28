# SPDX-License-Identifier: GPL-2.0
"""What the user says about a file, for where its content allows two readings."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.errors import UsageError

LINES = ("plain", "addresses", "ranges", "csv")  # readings of lines, each possible for any text
FORMATS = (*LINES, "dat", "rbldnsd", "spamhaus", "nftables", "ipset", "crowdsec")
NONE = "none"  # --prefix-column none: there is no such column


class Request(NamedTuple):
    """How to read a file. Empty texts leave it to the content.

    ``column`` is a name or a number from 1, or two with a comma between: the first and last address of ranges.
    ``prefix_column`` is the column of prefix lengths or netmasks, or "none". ``now`` is Unix time, against which the
    ends of entries are held.
    """

    format: str = ""
    column: str = ""
    prefix_column: str = ""
    allow_empty: bool = False
    now: float = 0.0

    def checked(self) -> Request:
        """Return this request. Raise UsageError if its parts are not valid or do not go together."""
        if self.format and self.format not in FORMATS:
            raise UsageError(f"not a format: {self.format!r}", f"choose one of {', '.join(FORMATS)}")
        if (self.column or self.prefix_column) and self.format not in ("", "csv"):
            raise UsageError(f"a column does not go with the format {self.format}", "leave one of them out")
        if self.column.count(",") > 1 or (self.column and not all(map(str.strip, self.column.split(",")))):
            raise UsageError(f"not a column: {self.column!r}", "give a name or a number, or two: first,last")
        if "," in self.column and self.prefix_column not in ("", NONE):
            raise UsageError("ranges of two columns have no prefix length", "leave out the prefix column")
        return self

    @property
    def mark(self) -> str:
        """A text that differs between requests that may read the same file differently; empty for the usual one."""
        parts = (self.format, self.column, self.prefix_column)
        return "\t".join(parts) if any(parts) else ""
