# SPDX-License-Identifier: GPL-2.0
"""The table of filters, with their hits and the source that each drops most of."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from xdpguard.capture.packet import text
from xdpguard.policy.target import Label, Target
from xdpguard.tui.draw import Span, scaled
from xdpguard.tui.table import FILL, Column, Order, Shown, descending, rate_cell

_STYLE = {"drop": "drop", "limit": "drop", "pass": "pass", "count": ""}


class FiltersHit:
    """Filters in the order in which they are asked, with their hits."""

    name = "filters"
    plots = False
    sorts = ("number", "rate", "packets")
    columns = (
        Column("no.", 4, True, "number"),
        Column("filter", 12, whole=True),
        Column("action", 13),
        Column("packets/s", 10, True, "rate"),
        Column("packets", 8, True, "packets"),
        Column("above", 6, True, spare=1),
        Column(FILL, 0),
    )

    def order(self, shown: Shown, sort: str, /) -> Order:
        """Return the rows in their own order, or by hits; ties in their own."""
        filters = shown.snapshot.reading.filters
        its = ((place, it.its) for place, it in enumerate(filters))
        chosen = [place for place, it in its if shown.wanted.chooses(it.name, it.text, it.does, it.reason)]
        if sort == "number":
            return np.array(chosen, np.intp)
        rates = shown.snapshot.filter_rates
        values = [rates[filters[at].its.name][0] if sort == "rate" else filters[at].hits.packets for at in chosen]
        return np.array(chosen, np.intp)[descending(np.array(values, np.float64))]

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """Return the name."""
        return shown.snapshot.reading.filters[place].its.name

    def cells(self, shown: Shown, place: int, _fill: int, /) -> list[Span]:
        """Return the row, with the source of most of its drops and the match last."""
        its, hits = shown.snapshot.reading.filters[place]
        style = "dim" if its.mode == "shadow" else _STYLE[its.action]
        return [
            Span(str(place + 1), "dim"),
            Span(its.name, "name"),
            Span(f"({its.does})" if its.mode == "shadow" else its.does, style),
            rate_cell(shown.snapshot.filter_rates[its.name][0], style),
            Span(scaled(hits.packets), "" if hits.packets else "dim"),
            Span(scaled(hits.limited_packets) if its.limit else "-", "" if hits.limited_packets else "dim"),
            Span(_most(shown, its.slot) + its.text),
        ]

    def target(self, _shown: Shown, _place: int, /) -> tuple[Label | None, Target] | None:
        """Return None: filters are changed on the command line."""
        return None

    def note(self, shown: Shown, /) -> str:
        """Return what the columns mean, if there are filters."""
        return "packets matched, and of them above the limit; () is in shadow" if shown.snapshot.reading.filters else ""


def _most(shown: Shown, slot: int) -> str:
    """Return the source with most of what a filter dropped, by samples; empty if that may be chance."""
    shares = shown.snapshot.reading.filtered.get(slot, {})
    found = max((it for it in shares.items() if it[1].significant), key=lambda it: it[1].drops, default=None)
    return f"mostly {text(found[0][0])}; " if found else ""
