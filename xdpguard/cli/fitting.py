# SPDX-License-Identifier: GPL-2.0
"""How a table fits a terminal: which columns stay, how wide each is, where text is cut. Pure; widths are in cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from xdpguard.cli.columns import Clip, Column

_LEAST = 8  # cells that text keeps at least
# A word that holds an address: cut, it would be another address.
_ADDRESS = re.compile(r"\d\.\d|[0-9A-Fa-f]*:[0-9A-Fa-f]*:|::")


class Fit(NamedTuple):
    """The columns that stay, by place, and the width of each."""

    places: list[int]
    widths: list[int]


def width(text: str) -> int:
    """Return how many cells of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def fit(columns: Sequence[Column], widths: Sequence[int], gap: int, room: int) -> Fit | None:
    """Choose what fits. ``widths``: of the columns with all their cells; None: not even those that always stay fit."""
    places = list(range(len(columns)))
    leaving = sorted((it for it in places if columns[it].leaves), key=lambda it: (-columns[it].leaves, -it))
    while True:
        most = leaving[:1]
        if found := _clipped(columns, widths, places, room - gap * (len(places) - 1), not most):
            return Fit(places, found)
        if not most:
            return None
        places.remove(leaving.pop(0))


def _clipped(
    columns: Sequence[Column], widths: Sequence[int], places: Sequence[int], room: int, last: bool
) -> list[int]:
    """Return widths with which columns fit; empty: there are none. The widest text gives first.

    ``last``: no other column can drop out, so that text keeps no more than a few cells.
    """
    least = [max(_LEAST if last else columns[it].keeps, len(columns[it].name)) for it in places]
    floors = [
        min(widths[it], cells) if columns[it].clip else widths[it] for it, cells in zip(places, least, strict=True)
    ]
    if sum(floors) > room:
        return []
    found = [max(floor, min(widths[it], room)) for it, floor in zip(places, floors, strict=True)]
    for _ in range(sum(found) - room):
        widest = max(range(len(found)), key=lambda it: (found[it] > floors[it], found[it]))
        found[widest] -= 1
    return found


def clipped(text: str, cells: int, where: Clip, mark: str) -> str:
    """Cut a text to so many cells, with a mark where it is cut, and never within an address."""
    if width(text) <= cells:
        return text
    if where == "start":
        return mark + _last(text, cells - len(mark))
    kept = _first(text, cells - len(mark))
    begun = kept.rpartition(" ")[2]
    word = begun + text[len(kept) :].partition(" ")[0]
    if begun != word and _ADDRESS.search(word):
        kept = kept[: len(kept) - len(begun)]
    return kept.rstrip() + mark


def _first(text: str, cells: int) -> str:
    while width(text) > cells:
        text = text[: -max(1, (width(text) - cells) // 2)]
    return text


def _last(text: str, cells: int) -> str:
    while width(text) > cells:
        text = text[max(1, (width(text) - cells) // 2) :]
    return text
