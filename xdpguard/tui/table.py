# SPDX-License-Identifier: GPL-2.0
"""A table of the screen: its rows, their orders, and filtering."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from xdpguard.policy.target import Label, Target
from xdpguard.tui.draw import Glyphs, Span, scaled
from xdpguard.tui.filters import Filter
from xdpguard.tui.history import Floats, Snapshot
from xdpguard.tui.reading import Place, Seen

MOST = 1000  # rows that can be scrolled through
_LEAST_FILL = 18  # cells that other columns leave to it, if they can
FILL = "fill"  # the column that takes the remaining width

Order = NDArray[np.intp]


class Column(NamedTuple):
    """``width`` in cells; ``sort`` names the order of `Pane.sorts`, empty if it cannot be sorted by this column.

    ``whole``: its texts, such as addresses, are never cut while there is room: its width is that of the longest.
    ``spare``: the column with the highest number is left out first where there is too little room; 0: never.
    """

    title: str
    width: int
    right: bool = False
    sort: str = ""
    whole: bool = False
    spare: int = 0


class Shown(NamedTuple):
    """The state that a pane draws from."""

    snapshot: Snapshot
    place: Place
    wanted: Filter
    glyphs: Glyphs


class Pane(Protocol):
    """A table."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def columns(self) -> Sequence[Column]:
        """The columns from left to right."""

    @property
    def plots(self) -> bool:
        """Whether its last column is a plot, which must know its width."""

    @property
    def sorts(self) -> Sequence[str]:
        """The names of its orders; the first is the default."""

    def order(self, shown: Shown, sort: str, /) -> Order:
        """Return the indexes of the rows that pass the filter: sums descending, texts and times ascending; stable."""

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """Return what identifies a row across readings."""

    def cells(self, shown: Shown, place: int, fill: int, /) -> list[Span]:
        """Return a row; ``fill`` is the width of the filling column."""

    def target(self, shown: Shown, place: int, /) -> tuple[Label | None, Target] | None:
        """Return what a change applies to, and the label of the row's rule; None if nothing can be changed."""

    def note(self, shown: Shown, /) -> str:
        """Return a note on the whole table."""


def fitted(columns: Sequence[Column], width: int, longest: Sequence[int]) -> list[int]:
    """Return the widths of columns on a table of that width; 0: left out. ``longest``: that of each column's cells."""
    wanted = [
        max(size, len(column.title) + 2) if column.whole else column.width
        for column, size in zip(columns, longest, strict=True)
    ]

    def left() -> int:
        return width - 1 - sum(size + 1 for size in wanted if size)

    fills = columns[-1].title == FILL
    for spare, place in sorted(((column.spare, place) for place, column in enumerate(columns)), reverse=True):
        if spare and left() < (_LEAST_FILL if fills else 0):
            wanted[place] = 0
    if fills:
        wanted[-1] = max(0, left() - 1)
    elif left() < 0:
        place = max(range(len(wanted)), key=wanted.__getitem__)
        wanted[place] = max(1, wanted[place] + left())
    return wanted


def seen_at(snapshot: Snapshot, place: Place) -> Seen | None:
    """Return the interface of a place, if it exists."""
    return next((it for it in snapshot.reading.interfaces if it.place == place), None)


def descending(values: Floats) -> Order:
    """Return the indexes in descending order of values, stable; unknown values count as 0."""
    return np.argsort(-np.nan_to_num(values), kind="stable")


def rate_cell(value: float, style: str = "") -> Span:
    """Format a rate; one that is 0 or unknown is dimmed."""
    return Span(scaled(value), style if value >= 0.5 else "dim")
