# SPDX-License-Identifier: GPL-2.0
"""Tables of received traffic: packets by reason, and the interfaces."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np

from xdpguard.dataplane.sys import abi
from xdpguard.policy.target import Label, Target
from xdpguard.tui.draw import Span, bars, scaled
from xdpguard.tui.history import VERDICTS
from xdpguard.tui.table import FILL, Column, Order, Shown, descending, rate_cell, seen_at
from xdpguard.units import byte_count

_ACTION = {"PASS": ("pass", "pass"), "DROP": ("drop", "drop"), "TX": ("answer", "guard")}


class Reasons:
    """Packets by reason; each is counted under exactly one."""

    name = "reasons"
    sorts = ("number", "rate", "packets")
    columns = (
        Column("reason", 12),
        Column("verdict", 7),
        Column("packets/s", 10, True, "rate"),
        Column("packets", 8, True, "packets"),
        Column("bytes", 9, True),
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
        """Return the row, with a plot of the rate."""
        reason = abi.reasons()[place]
        trend, name = shown.snapshot.trends[shown.place], f"reason {reason.name}"
        seen = seen_at(shown.snapshot, shown.place)
        counts = seen.counts.reasons[reason.name] if seen and seen.counts else None
        word, style = _ACTION[reason.action]
        total = trend.totals[name]
        if counts and counts.observed_packets and reason.action != "PASS":
            word, style = f"({word})", "dim"
        return [
            Span(reason.name, style),
            Span(word, style),
            rate_cell(trend.rates[name], style),
            Span(scaled(total), "" if total else "dim"),
            Span(byte_count(counts.bytes + counts.observed_bytes) if counts else ""),
            Span(bars(trend.past[name], fill, 1, shown.glyphs)[0] if fill > 0 else "", style),
        ]

    def target(self, _shown: Shown, _place: int, /) -> tuple[Label | None, Target] | None:
        """Return None: a reason cannot be changed."""
        return None

    def note(self, shown: Shown, /) -> str:
        """Explain the brackets if there are any."""
        trend = shown.snapshot.trends.get(shown.place)
        return "(in brackets: only observed, and passed)" if trend and trend.totals["would"] else ""


class Interfaces:
    """The instance's interfaces."""

    name = "interfaces"
    sorts = ("number",)
    columns = (
        Column("interface", 12),
        Column("netns", 15),
        Column("mode", 7),
        Column("state", 8),
        Column("packets/s", 9, True),
        Column("drop/s", 6, True),
        Column("guard", 6),
    )

    def order(self, shown: Shown, _sort: str, /) -> Order:
        """Return the interfaces in the order in which they were attached."""
        seen = shown.snapshot.reading.interfaces
        chosen = [place for place, it in enumerate(seen) if shown.wanted.chooses(it.its.name, it.its.netns)]
        return np.array(chosen, np.intp)

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """Return name and namespace."""
        return shown.snapshot.reading.interfaces[place].place

    def cells(self, shown: Shown, place: int, _fill: int, /) -> list[Span]:
        """Return the row, including the state of the guard."""
        it = shown.snapshot.reading.interfaces[place]
        trend = shown.snapshot.trends.get(it.place)
        rates = trend.rates if trend else {}
        total = sum(rates[name] for name in VERDICTS) if trend else math.nan
        active = it.active_since > 0 and shown.snapshot.reading.mode != "off"
        return [
            Span(it.its.name, "name"),
            Span(it.its.netns or "-"),
            Span(it.its.mode),
            Span(it.its.state, "" if it.its.state == "attached" else "drop"),
            rate_cell(total),
            rate_cell(rates.get("drop", math.nan), "drop"),
            Span("active" if active else "idle", "guard" if active else "dim"),
        ]

    def target(self, _shown: Shown, _place: int, /) -> tuple[Label | None, Target] | None:
        """Return None: an interface cannot be changed here."""
        return None

    def note(self, shown: Shown, /) -> str:
        """Return how to select one."""
        return "Enter shows it above" if len(shown.snapshot.reading.interfaces) > 1 else ""
