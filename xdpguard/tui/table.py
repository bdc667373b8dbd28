# SPDX-License-Identifier: GPL-2.0
"""A table of the screen: its rows, how they can be sorted, what a filter leaves."""

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
FILL = "fill"  # the column that takes what room there is

Order = NDArray[np.intp]


class Column(NamedTuple):
    """``width`` in cells; ``sort`` names what `keys` gives, empty where it cannot be sorted by."""

    title: str
    width: int
    right: bool = False
    sort: str = ""


class Shown(NamedTuple):
    """What a pane needs of the screen."""

    snapshot: Snapshot
    place: Place
    wanted: Filter
    glyphs: Glyphs


class Pane(Protocol):
    """A table. ``sorts`` begins with the order it has by itself."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def columns(self) -> Sequence[Column]:
        """From the left."""

    @property
    def sorts(self) -> Sequence[str]:
        """Begins with the order it has by itself."""

    def order(self, shown: Shown, sort: str, /) -> Order:
        """Places of the rows that the filter leaves, in order: sums fall, texts and times rise; stable."""

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """What names a row from one reading to the next."""

    def cells(self, shown: Shown, place: int, fill: int, /) -> list[Span]:
        """A row; ``fill`` is the width of the column that takes what room there is."""

    def target(self, shown: Shown, place: int, /) -> tuple[Label | None, Target] | None:
        """What a change is made to, and of which kind the row's rule is; None where there is nothing to change."""

    def note(self, shown: Shown, /) -> str:
        """What is to be known of the whole."""


def seen_at(snapshot: Snapshot, place: Place) -> Seen | None:
    """The interface of a place, if it is there."""
    return next((it for it in snapshot.reading.interfaces if it.place == place), None)


def falling(values: Floats) -> Order:
    """Places in falling order of values, stable; what is not known counts as 0."""
    return np.argsort(-np.nan_to_num(values), kind="stable")


def rate_cell(value: float, style: str = "") -> Span:
    """A rate; one that is 0 or not known steps back."""
    return Span(scaled(value), style if value >= 0.5 else "dim")
