# SPDX-License-Identifier: GPL-2.0
"""Tables of what interfaces receive: packets by reason, and the interfaces themselves."""

from __future__ import annotations

import math
from collections.abc import Hashable

import numpy as np

from xdpguard.dataplane.sys import abi
from xdpguard.policy.target import Label, Target
from xdpguard.tui.draw import Span, bars, scaled
from xdpguard.tui.history import VERDICTS
from xdpguard.tui.table import FILL, Column, Order, Shown, falling, rate_cell, seen_at
from xdpguard.units import byte_count

_ACTION = {"PASS": ("pass", "pass"), "DROP": ("drop", "drop"), "TX": ("answer", "guard")}


class Reasons:
    """Packets by reason, each under exactly one."""

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
        """Those that have occurred, in order of their numbers."""
        course = shown.snapshot.courses.get(shown.place)
        if course is None:
            return np.zeros(0, np.intp)
        wanted = [
            place
            for place, it in enumerate(abi.reasons())
            if (course.totals[f"reason {it.name}"] or it.name == "pass") and shown.wanted.chooses(it.name, it.help)
        ]
        if sort == "number":
            return np.array(wanted, np.intp)
        values = course.rates if sort == "rate" else course.totals
        found = [values[f"reason {abi.reasons()[place].name}"] for place in wanted]
        return np.array(wanted, np.intp)[falling(np.array(found, np.float64))]

    def key(self, _shown: Shown, place: int, /) -> Hashable:
        """The reason."""
        return abi.reasons()[place].name

    def cells(self, shown: Shown, place: int, fill: int, /) -> list[Span]:
        """With the course of its rate."""
        reason = abi.reasons()[place]
        course, name = shown.snapshot.courses[shown.place], f"reason {reason.name}"
        seen = seen_at(shown.snapshot, shown.place)
        counts = seen.counts.reasons[reason.name] if seen and seen.counts else None
        word, style = _ACTION[reason.action]
        total = course.totals[name]
        if counts and counts.observed_packets and reason.action != "PASS":
            word, style = f"({word})", "dim"
        return [
            Span(reason.name, style),
            Span(word, style),
            rate_cell(course.rates[name], style),
            Span(scaled(total), "" if total else "dim"),
            Span(byte_count(counts.bytes + counts.observed_bytes) if counts else ""),
            Span(bars(course.past[name], fill, 1, shown.glyphs)[0] if fill > 0 else "", style),
        ]

    def target(self, _shown: Shown, _place: int, /) -> tuple[Label | None, Target] | None:
        """None: a reason is nobody."""
        return None

    def note(self, shown: Shown, /) -> str:
        """Brackets are explained where there are some."""
        course = shown.snapshot.courses.get(shown.place)
        return "(in brackets: only observed, and passed)" if course and course.totals["would"] else ""


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
        """As they were attached."""
        seen = shown.snapshot.reading.interfaces
        chosen = [place for place, it in enumerate(seen) if shown.wanted.chooses(it.its.name, it.its.netns)]
        return np.array(chosen, np.intp)

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """Name and namespace."""
        return shown.snapshot.reading.interfaces[place].place

    def cells(self, shown: Shown, place: int, _fill: int, /) -> list[Span]:
        """With what the guard does."""
        it = shown.snapshot.reading.interfaces[place]
        course = shown.snapshot.courses.get(it.place)
        rates = course.rates if course else {}
        total = sum(rates[name] for name in VERDICTS) if course else math.nan
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
        """None."""
        return None

    def note(self, shown: Shown, /) -> str:
        """How one is chosen."""
        return "Enter shows it above" if len(shown.snapshot.reading.interfaces) > 1 else ""
