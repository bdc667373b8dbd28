# SPDX-License-Identifier: GPL-2.0
"""Tables of rules and named lists, with their hits."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from xdpguard.policy.target import Label, Target
from xdpguard.tui.draw import Span, scaled
from xdpguard.tui.table import FILL, MOST, Column, Order, Shown, descending, rate_cell
from xdpguard.units import span

_KIND = {"allow": "pass", "block": "drop", "port": "drop", "shadow": "dim"}


class RulesHit:
    """Rules in force with their hits: shows what blocks drop."""

    name = "rules"
    plots = False
    sorts = ("rate", "packets", "expires", "age")
    columns = (
        Column("kind", 6),
        Column("target", 16, whole=True),
        Column("packets/s", 10, True, "rate"),
        Column("packets", 8, True, "packets"),
        Column("ends in", 9, True, "expires", spare=1),
        Column("source", 6, spare=2),
        Column(FILL, 0),
    )

    def order(self, shown: Shown, sort: str, /) -> Order:
        """Return the rows by hits or end; ties in order of age."""
        hits, now = shown.snapshot.reading.rules, shown.snapshot.reading.wall
        chosen = np.flatnonzero(hits.of.ends > now)
        if shown.wanted.text:
            rules = hits.of.rules
            its = (rules[int(place)] for place in chosen)
            chosen = chosen[[shown.wanted.chooses(it.label, str(it.target), it.reason, it.source) for it in its]]
        rates, packets = np.nan_to_num(shown.snapshot.rule_rates), hits.hits[:, 0].astype(np.float64)
        keys = {
            "rate": (-packets, -rates),
            "packets": (-rates, -packets),
            "expires": (hits.of.ends,),
            "age": (hits.of.ids,),
        }[sort]
        return chosen[np.lexsort((hits.of.ids[chosen], *(key[chosen] for key in keys)))][:MOST]

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """Return kind and target."""
        rule = shown.snapshot.reading.rules.of.rules[place]
        return rule.label, rule.target

    def cells(self, shown: Shown, place: int, _fill: int, /) -> list[Span]:
        """Return the row, with the reason last."""
        reading = shown.snapshot.reading
        rule = reading.rules.of.rules[place]
        packets = int(reading.rules.hits[place, 0])
        return [
            Span(rule.label, _KIND[rule.label]),
            Span(str(rule.target), "name"),
            rate_cell(float(shown.snapshot.rule_rates[place]), _KIND[rule.label]),
            Span(scaled(packets), "" if packets else "dim"),
            Span("never" if rule.expires is None else span(rule.expires - reading.wall)),
            Span(rule.source, "dim"),
            Span(rule.reason),
        ]

    def target(self, shown: Shown, place: int, /) -> tuple[Label | None, Target] | None:
        """Return the rule's own label and target."""
        rule = shown.snapshot.reading.rules.of.rules[place]
        return rule.label, rule.target

    def note(self, _shown: Shown, /) -> str:
        """Return what the hits include."""
        return "hits since each rule was added"


class ListsHit:
    """Named lists with their hits."""

    name = "lists"
    plots = False
    sorts = ("rate", "packets", "number")
    columns = (
        Column("kind", 6),
        Column("list", 16, whole=True),
        Column("packets/s", 10, True, "rate"),
        Column("packets", 8, True, "packets"),
        Column("entries", 7, True, spare=2),
        Column("loaded", 11, True, spare=1),
        Column(FILL, 0),
    )

    def order(self, shown: Shown, sort: str, /) -> Order:
        """Return the rows by hits; ties in the order in which lists are looked up."""
        lists = shown.snapshot.reading.lists
        its = ((place, it.kind, it.found.its) for place, it in enumerate(lists))
        chosen = [place for place, kind, it in its if shown.wanted.chooses(kind, it.name, it.file)]
        if sort == "number":
            return np.array(chosen, np.intp)
        rates = shown.snapshot.list_rates
        values = [rates[lists[at].key] if sort == "rate" else lists[at].found.packets for at in chosen]
        return np.array(chosen, np.intp)[descending(np.array(values, np.float64))]

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """Return kind and name."""
        return shown.snapshot.reading.lists[place].key

    def cells(self, shown: Shown, place: int, _fill: int, /) -> list[Span]:
        """Return the row, with the file last."""
        kind, it = shown.snapshot.reading.lists[place].kind, shown.snapshot.reading.lists[place].found
        return [
            Span(kind, _KIND[kind]),
            Span(it.its.name, "name"),
            rate_cell(shown.snapshot.list_rates[kind, it.its.name], _KIND[kind]),
            Span(scaled(it.packets), "" if it.packets else "dim"),
            Span(scaled(it.its.entries)),
            Span(span(shown.snapshot.reading.wall - it.its.loaded) + " ago"),
            Span(it.its.file, "dim"),
        ]

    def target(self, _shown: Shown, _place: int, /) -> tuple[Label | None, Target] | None:
        """Return None: lists are loaded and removed as a whole, on the command line."""
        return None

    def note(self, _shown: Shown, /) -> str:
        """Return no note."""
        return ""
