# SPDX-License-Identifier: GPL-2.0
"""Tables of received traffic: packets by reason, and the interfaces."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np

from xdpguard.dataplane.sys import abi
from xdpguard.policy.target import Label, Target
from xdpguard.tui.draw import Span, bars, highest, scaled, share
from xdpguard.tui.history import VERDICTS, Trend
from xdpguard.tui.reading import ALL
from xdpguard.tui.table import FILL, Column, Order, Shown, descending, rate_cell
from xdpguard.units import byte_count

_ACTION = {"PASS": ("pass", "pass"), "DROP": ("drop", "drop"), "TX": ("answer", "guard")}


class Reasons:
    """Packets by reason; each is counted under exactly one."""

    name = "reasons"
    plots = True
    sorts = ("number", "rate", "packets")
    columns = (
        Column("reason", 12),
        Column("verdict", 7),
        Column("packets/s", 10, True, "rate"),
        Column("packets", 8, True, "packets"),
        Column("bit/s", 6, True),
        Column("bytes", 9, True, spare=1),
        Column(FILL, 0),
    )

    def order(self, shown: Shown, sort: str, /) -> Order:
        """Return the reasons that have occurred, by number by default."""
        trend = shown.snapshot.trends.get(shown.place)
        if trend is None:
            return np.zeros(0, np.intp)
        wanted = [
            place
            for place, it in enumerate(abi.reasons())
            if (trend.totals[f"reason {it.name}"] or it.name == "pass") and shown.wanted.chooses(it.name, it.help)
        ]
        if sort == "number":
            return np.array(wanted, np.intp)
        values = trend.rates if sort == "rate" else trend.totals
        found = [values[f"reason {abi.reasons()[place].name}"] for place in wanted]
        return np.array(wanted, np.intp)[descending(np.array(found, np.float64))]

    def key(self, _shown: Shown, place: int, /) -> Hashable:
        """Return the reason's name."""
        return abi.reasons()[place].name

    def cells(self, shown: Shown, place: int, fill: int, /) -> list[Span]:
        """Return the row, with a plot of the rate; all plots have one scale."""
        reason = abi.reasons()[place]
        trend, name = shown.snapshot.trends[shown.place], f"reason {reason.name}"
        word, style = _ACTION[reason.action]
        total = trend.totals[name]
        if trend.totals[f"would {reason.name}"] and reason.action != "PASS":
            word, style = f"({word})", "dim"
        return [
            Span(reason.name, style),
            Span(word, style),
            rate_cell(trend.rates[name], style),
            Span(scaled(total), "" if total else "dim"),
            rate_cell(8 * trend.rates[f"bytes {name}"]),
            Span(byte_count(trend.totals[f"bytes {name}"])),
            Span(bars(trend.past[name], fill, 1, shown.glyphs, _most(trend, fill))[0] if fill > 0 else "", style),
        ]

    def target(self, _shown: Shown, _place: int, /) -> tuple[Label | None, Target] | None:
        """Return None: a reason cannot be changed."""
        return None

    def note(self, shown: Shown, /) -> str:
        """Explain the brackets if there are any."""
        trend = shown.snapshot.trends.get(shown.place)
        return "(in brackets: only observed, and passed)" if trend and trend.totals["would"] else ""


def _most(trend: Trend, width: int) -> float:
    return max(highest(trend.past[f"reason {it.name}"], width) for it in abi.reasons())


class Interfaces:
    """The instance's interfaces."""

    name = "interfaces"
    plots = False
    sorts = ("rate", "drop rate", "number")
    columns = (
        Column("interface", 12, whole=True),
        Column("netns", 12, whole=True, spare=1),
        Column("mode", 7, spare=4),
        Column("state", 8, spare=3),
        Column("packets/s", 10, True, "rate"),
        Column("bit/s", 6, True, spare=2),
        Column("drop/s", 7, True, "drop rate"),
        Column("drop", 5, True),
        Column("guard", 8),
    )

    def order(self, shown: Shown, sort: str, /) -> Order:
        """Return the interfaces, the busiest first; ties in the order in which they were attached."""
        seen = shown.snapshot.reading.interfaces
        chosen = [place for place, it in enumerate(seen) if shown.wanted.chooses(it.its.name, it.its.netns)]
        if sort == "number":
            return np.array(chosen, np.intp)
        names = VERDICTS if sort == "rate" else ("drop",)
        rates = [sum(self._rates(shown, place)[name] for name in names) for place in chosen]
        return np.array(chosen, np.intp)[descending(np.array(rates, np.float64))]

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """Return name and namespace."""
        return shown.snapshot.reading.interfaces[place].place

    def cells(self, shown: Shown, place: int, _fill: int, /) -> list[Span]:
        """Return the row, including the state of the guard."""
        it = shown.snapshot.reading.interfaces[place]
        rates = self._rates(shown, place)
        total = sum(rates[name] for name in VERDICTS)
        bits = 8 * sum(rates[f"bytes {name}"] for name in VERDICTS)
        active = it.active_since > 0 and shown.snapshot.reading.mode != "off"
        guarded = Span("active" if active else "idle", "guard" if active else "dim")
        if it.its.state != "attached":
            guarded = Span(it.its.state, "drop")
        return [
            Span(it.its.name, "name"),
            Span(it.its.netns or "-"),
            Span(it.its.mode),
            Span(it.its.state, "" if it.its.state == "attached" else "drop"),
            rate_cell(total),
            rate_cell(bits),
            rate_cell(rates["drop"], "drop"),
            Span(share(rates["drop"], total), "drop" if rates["drop"] >= 0.5 else "dim"),
            guarded,
        ]

    def _rates(self, shown: Shown, place: int) -> dict[str, float]:
        trend = shown.snapshot.trends.get(shown.snapshot.reading.interfaces[place].place)
        names = (*VERDICTS, *(f"bytes {it}" for it in VERDICTS))
        return trend.rates if trend else dict.fromkeys(names, math.nan)

    def target(self, _shown: Shown, _place: int, /) -> tuple[Label | None, Target] | None:
        """Return None: an interface cannot be changed here."""
        return None

    def note(self, shown: Shown, /) -> str:
        """Return how to select one."""
        if len(shown.snapshot.reading.interfaces) < 2:
            return ""
        return "Enter shows one of them above" + ("" if shown.place == ALL else ", i all together")
