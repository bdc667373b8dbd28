# SPDX-License-Identifier: GPL-2.0
"""Where the tables stand: one in front on a small screen, side by side on a wide one, as many as have room."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.tui.panes import PANES
from xdpguard.tui.view import View

_GAP = 2
_LEAST = 4  # rows of a table: its title, its columns, and two
_SHORTEST = 8  # rows that tables side by side need
# Tables by column of the screen, the most important first, from a width on.
_COLUMNS = (
    (180, ((0, 6), (1, 3, 2), (4, 5, 7))),
    (110, ((0, 6, 4, 5, 7), (1, 3, 2))),
)
_ENDLESS = (1, 2, 3)  # tables that take what they get


class Box(NamedTuple):
    """The position of a table on the screen, including its title: cells from the left and top."""

    pane: int
    left: int
    top: int
    width: int
    height: int


def boxes(view: View, width: int, top: int, bottom: int) -> list[Box]:
    """Return the positions of the tables between two rows; the one in front is always among them."""
    rows = bottom - top
    stacks = next((its for least, its in _COLUMNS if width >= least), ())
    if not stacks or rows < _SHORTEST:
        return [Box(view.pane, 0, top, width, rows)]
    wide = (width - _GAP * (len(stacks) - 1)) // len(stacks)
    found = []
    for place, stack in enumerate(stacks):
        left = place * (wide + _GAP)
        at = top
        for pane, height in _heights(view, stack, rows):
            found.append(Box(pane, left, at, width - left if place == len(stacks) - 1 else wide, height))
            at += height
    return found


def _heights(view: View, stack: tuple[int, ...], rows: int) -> list[tuple[int, int]]:
    """Return the tables of a stack that have room, with their rows."""
    needs = {pane: _need(view, pane) for pane in stack}
    shown: list[int] = []
    # The one in front comes first, so that it has room.
    for pane in sorted(stack, key=lambda it: it != view.pane):
        if sum(min(_LEAST, needs[it]) for it in (*shown, pane)) <= rows:
            shown.append(pane)
    shown.sort(key=stack.index)
    heights: dict[int, int] = {}
    # Who needs least gets all of it, and leaves the more to the others.
    for number, pane in enumerate(sorted(shown, key=needs.__getitem__)):
        heights[pane] = min(needs[pane], (rows - sum(heights.values())) // (len(shown) - number))
    heights[shown[-1]] += rows - sum(heights.values())
    return [(pane, heights[pane]) for pane in shown]


def _need(view: View, pane: int) -> int:
    """Return the rows that a table can use: its title, its columns, its rows, and one that stays empty."""
    return 1000 if pane in _ENDLESS else 3 + max(1, len(view.order(PANES[pane])))
