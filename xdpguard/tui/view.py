# SPDX-License-Identifier: GPL-2.0
"""What the user has selected: interface, table, row, order, filter. Kept across readings."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np

from xdpguard.tui.draw import UNICODE, Glyphs, Line, Span
from xdpguard.tui.filters import Filter
from xdpguard.tui.history import Snapshot
from xdpguard.tui.panes import PANES
from xdpguard.tui.reading import ALL, Place, Seen
from xdpguard.tui.table import Order, Pane, Shown, seen_at

_QUIET = Span("")


@dataclass
class Choice:
    """The selection in one table. ``key`` identifies the row, ``at`` is its last index; ``top`` the first shown."""

    sort: str
    reverse: bool = False
    key: Hashable = None
    at: int = 0
    top: int = 0
    height: int = 1  # visible rows when it was last drawn


@dataclass
class View:
    """Everything that is drawn."""

    instance: str
    interval: float
    glyphs: Glyphs = UNICODE
    snapshot: Snapshot | None = None
    place: Place | None = None
    picked: bool = False  # the user chose the interface, or all
    pane: int = 0
    wanted: Filter = field(default_factory=Filter)
    paused: bool = False
    fault: str = ""  # why the figures are stale
    age: float = 0.0  # of the figures, seconds
    message: Span = _QUIET
    prompt: Line = field(default_factory=list)  # a question, in place of the message
    helping: bool = False
    choices: dict[str, Choice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.picked = self.place is not None
        self.choices = {pane.name: Choice(pane.sorts[0]) for pane in PANES}

    def take(self, snapshot: Snapshot) -> None:
        """Show another snapshot: of the interface that was picked while it exists, else of the only one, or of all."""
        self.snapshot = snapshot
        places = [it.place for it in snapshot.reading.interfaces]
        usable = [it.place for it in snapshot.reading.interfaces if it.counts]
        if self.picked and (self.place in places or (self.place == ALL and len(places) > 1)):
            return
        self.picked = False
        if len(usable) > 1:
            self.place = ALL
        elif self.place not in places:
            self.place = usable[0] if usable else self.place if self.place != ALL else None

    def stale(self) -> str:
        """Return why the figures are not current; empty if they are."""
        if self.fault:
            return self.fault
        if self.snapshot and self.place == ALL:
            attached = any(it.its.state == "attached" for it in self.snapshot.reading.interfaces)
            return "" if attached else "no interface is attached any longer"
        seen = self.focus()
        if seen is None or seen.its.state == "attached":
            return "" if seen is None or seen.counts else "created by another version of xdpguard"
        return {
            "detached": "no longer attached",
            "replaced": "another program is attached",
            "renamed": "renamed or moved",
            "gone": "the interface no longer exists",
        }[seen.its.state]

    def focus(self) -> Seen | None:
        """Return the interface whose guard is shown: the selected one, or of all the one that has most to tell."""
        if self.snapshot is None or self.place is None:
            return None
        if self.place != ALL:
            return seen_at(self.snapshot, self.place)
        guarded = [it for it in self.snapshot.reading.interfaces if it.guard]
        return max(guarded, key=self._tells, default=None)

    def _tells(self, seen: Seen) -> tuple[bool, bool, float]:
        assert self.snapshot is not None and seen.guard is not None
        trend = self.snapshot.trends.get(seen.place)
        busy = float(np.nan_to_num(trend.rates["syns"])) if trend else 0.0
        return seen.place in self.snapshot.floods, seen.guard.muted(), busy

    def shown(self) -> Shown | None:
        """Return what panes draw from; None before the first reading."""
        if self.snapshot is None or self.place is None:
            return None
        return Shown(self.snapshot, self.place, self.wanted, self.glyphs)

    def order(self, pane: Pane) -> Order:
        """Return the rows of a pane as they are drawn."""
        shown = self.shown()
        if shown is None:
            return np.zeros(0, np.intp)
        choice = self.choices[pane.name]
        found = pane.order(shown, choice.sort)
        return found[::-1] if choice.reverse else found

    def settle(self, pane: Pane, order: Order) -> int:
        """Return the current index of the selected row, -1 without rows; if it disappeared, select its neighbour."""
        shown, choice = self.shown(), self.choices[pane.name]
        if shown is None or not len(order):
            return -1
        if choice.key is not None:
            found = next((at for at, place in enumerate(order) if pane.key(shown, int(place)) == choice.key), -1)
            if found < 0:
                choice.key = None
            else:
                choice.at = found
        choice.at = min(choice.at, len(order) - 1)
        choice.top = max(0, min(choice.top, choice.at, len(order) - choice.height))
        choice.top = max(choice.top, choice.at - choice.height + 1)
        return choice.at

    def move(self, rows: int) -> None:
        """Select another row of the table in front."""
        self.choose(self.choices[PANES[self.pane].name].at + rows)

    def choose(self, at: int) -> None:
        """Select a row of the table in front by index; it is then followed as it moves."""
        pane = PANES[self.pane]
        order = self.order(pane)
        if self.settle(pane, order) < 0:
            return
        choice, shown = self.choices[pane.name], self.shown()
        assert shown is not None
        choice.at = max(0, min(at, len(order) - 1))
        # The first row is not followed: it stands for whoever is first.
        choice.key = pane.key(shown, int(order[choice.at])) if choice.at else None

    def chosen(self) -> tuple[Pane, Shown, int] | None:
        """Return the selected row of the table in front; None if there is none."""
        pane, shown = PANES[self.pane], self.shown()
        order = self.order(pane)
        at = self.settle(pane, order)
        return (pane, shown, int(order[at])) if shown is not None and at >= 0 else None

    def next_sort(self) -> str:
        """Sort the table in front by its next order; return its name."""
        pane = PANES[self.pane]
        choice = self.choices[pane.name]
        choice.sort = pane.sorts[(pane.sorts.index(choice.sort) + 1) % len(pane.sorts)]
        choice.reverse = False
        return choice.sort

    def next_interface(self) -> None:
        """Show the next interface; after the last one, all of them."""
        if self.snapshot is None or not self.snapshot.reading.interfaces:
            return
        places = [it.place for it in self.snapshot.reading.interfaces]
        if len(places) > 1:
            places.append(ALL)
        at = places.index(self.place) if self.place in places else -1
        self.pick(places[(at + 1) % len(places)])

    def pick(self, place: Place) -> None:
        """Show an interface, or ALL, for as long as it exists."""
        self.place, self.picked = place, True
