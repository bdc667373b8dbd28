# SPDX-License-Identifier: GPL-2.0
"""Which columns of a list hold what."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.lists.formats.entries import shown
from xdpguard.lists.formats.judges import Judge
from xdpguard.lists.formats.rows import TITLES, Row


class Layout(NamedTuple):
    """The columns that hold the addresses, and those that decide over rows."""

    delimiter: str
    header: Row  # normalised; empty if there is none
    headed: bool  # whether the first row is the header (which may also be a comment)
    first: int
    last: int | None = None  # of a range
    integers: bool = False
    length: int | None = None  # prefix length or netmask
    wildcard: bool = False
    judges: tuple[Judge, ...] = ()

    @property
    def decisions(self) -> bool:
        """Whether this is CrowdSec's export or import format."""
        found = set(self.header)
        return {"ip", "action", "expiration", "simulated"} <= found or (
            {"scope", "value"} <= found and not found.isdisjoint(("duration", "type"))
        )

    def named(self, at: int) -> str:
        """Return the number of a column, and its name if it has one."""
        name = self.header[at] if at < len(self.header) else ""
        return f"{at + 1} ({shown(name)})" if name else f"{at + 1}"

    def __str__(self) -> str:
        """Return what the file is taken for."""
        if self.last is None:
            parts = [f"addresses from column {self.named(self.first)}"]
        else:
            parts = [f"ranges from columns {self.named(self.first)} and {self.named(self.last)}"]
        if self.integers:
            parts.append("written as integers")
        if self.length is not None:
            kind = "wildcard mask" if self.wildcard else "prefix length"
            parts.append(f"{kind} from column {self.named(self.length)}")
        if self.headed:
            parts.append(f"header {shown(' '.join(self.header))}")
        return f"{TITLES[self.delimiter]}, {', '.join(parts)}"
