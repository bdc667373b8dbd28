# SPDX-License-Identifier: GPL-2.0
"""Columns and cells of tables: what each shows to people, with -o wide, and in tab-separated values."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

from xdpguard import units
from xdpguard.cli.output import Colour

Clip = Literal["", "end", "start"]


class Column(NamedTuple):
    """A column of a table.

    ``leaves``: on a narrow terminal columns drop out, the highest number first; those with 0 always stay. ``right``:
    align to the right, for numbers. ``clip``: where text that is too long may be cut; an address never is.
    ``keeps``: so many cells of it are worth more than another column that may drop out.
    """

    name: str
    leaves: int = 0
    right: bool = False
    clip: Clip = ""
    colour: Colour = ""
    keeps: int = 24

    @property
    def key(self) -> str:
        """Its name in tab-separated values."""
        return self.name.lower().replace(" ", "_")


class Cell(NamedTuple):
    """A cell: for people, for machines (None: the same), for people with -o wide (None: the same)."""

    text: str
    raw: str | None = None
    wide: str | None = None
    colour: Colour = ""

    @property
    def value(self) -> str:
        """What tab-separated values have; nothing where people see a dash."""
        return self.raw if self.raw is not None else "" if self.text == "-" else self.text


_OF_ACTION: dict[str, Colour] = {"PASS": "green", "DROP": "red", "TX": ""}
REASON_COLUMNS = [
    Column("reason"),
    Column("packets", right=True),
    Column("observed", 2, right=True),
    Column("bytes", 1, right=True),
    Column("meaning", clip="end"),
]


def verdict_colour(reason: str) -> Colour:
    """Return the colour of what a reason of the data plane counts: drops red, passes green."""
    from xdpguard.dataplane.sys.abi import reasons

    actions: dict[str, Colour] = {it.name: _OF_ACTION[it.action] for it in reasons()}
    return actions.get(reason, "")


Row = list[str | Cell]


def number(value: int | None, colour: Colour = "") -> Cell:
    """Return a count: 1,234,567 for people, a dash for None. It takes the colour unless it is 0."""
    if value is None:
        return Cell("-", "")
    return Cell(units.number(value), str(value), colour=colour if value else "")


def size(value: int | None) -> Cell:
    """Return a number of bytes: 1.5 MB for people."""
    return Cell("-", "") if value is None else Cell(units.byte_count(value), str(value))


def ago(moment: float | None, now: float) -> Cell:
    """Return a Unix time as what has passed since: 26m ago."""
    if moment is None:
        return Cell("-", "")
    return Cell(f"{units.about(now - moment)} ago", _iso(moment), units.moment(moment))


def due(moment: float | None, now: float, never: str = "never") -> Cell:
    """Return a Unix time as what is left until it: in 3m. ``never``: what None is called."""
    if moment is None:
        return Cell(never, "")
    return Cell(f"in {units.about(moment - now)}", _iso(moment), units.moment(moment))


def coloured(row: Row, colour: Colour) -> Row:
    """Return a row in one colour."""
    return [(it if isinstance(it, Cell) else Cell(it))._replace(colour=colour) for it in row]


def _iso(moment: float) -> str:
    """Return a Unix time as UTC in the form of ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
