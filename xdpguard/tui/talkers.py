# SPDX-License-Identifier: GPL-2.0
"""Tables of connection attempts and dropped packets by source, destination or port."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from xdpguard.policy.target import Label, Port, Prefix, Target
from xdpguard.telemetry.dropped import By
from xdpguard.telemetry.drops import FILTER, LIST
from xdpguard.telemetry.ranking import Ranking
from xdpguard.tui import crowd
from xdpguard.tui.crowd import Crowd
from xdpguard.tui.draw import Span, scaled
from xdpguard.tui.reading import ALL
from xdpguard.tui.table import MOST, Column, Order, Shown, rate_cell


class Talkers:
    """Initial SYNs and drops by one end."""

    plots = False
    sorts = ("syns", "rate", "drops", "drop rate", "address")

    def __init__(self, name: str, by: By) -> None:
        self.name = name
        self._by: By = by
        self._crowd: tuple[Ranking, Crowd | None] | None = None  # of the ranking that was looked at last
        head = [Column("source" if by == "source" else "destination", 39, False, "address", whole=True)]
        if by == "port":
            head.append(Column("port", 5, True))
        self.columns = (
            *head,
            Column("SYN/s", 6, True, "rate"),
            Column("SYNs", 6, True, "syns", spare=2),
            Column("drop/s", 7, True, "drop rate"),
            Column("drops", 6, True, "drops", spare=3),
            *([] if by == "destination" else [Column("rule", 11 if by == "source" else 6, spare=1)]),
        )

    def order(self, shown: Shown, sort: str, /) -> Order:
        """Return the first rows of the order."""
        ranking = shown.snapshot.reading.syns.by[self._by]
        chosen = np.flatnonzero(shown.wanted.ends(ranking.ends))
        its = self._of(shown)
        if its is not None:
            chosen = its.standing_out
        ends = ranking.ends
        low, high = ends.low[chosen], ends.high[chosen]
        if sort == "address":
            found = chosen[np.lexsort((ends.port[chosen], low, high, ends.version[chosen]))][:MOST]
            return found if its is None else np.append(found, crowd.PLACE)
        syns, rates = ranking.syns[chosen].astype(np.float64), ranking.rates[chosen]
        drops, drop_rates = ranking.drops[chosen], ranking.drop_rates[chosen]
        first, second = {
            "syns": (syns, rates),
            "rate": (rates, syns),
            "drops": (drops, drop_rates),
            "drop rate": (drop_rates, drops),
        }[sort]
        if len(chosen) > MOST:
            # Ties are resolved by address below; those at the cut-off are kept in arbitrary order.
            best = np.argpartition(-(first + second * 1e-9), MOST)[:MOST]
            chosen, first, second, low, high = chosen[best], first[best], second[best], low[best], high[best]
        order = np.lexsort((ends.port[chosen], low, high, -second, -first))
        if its is None:
            return chosen[order]
        mine = {"syns": its.syns, "rate": its.rate, "drops": its.drops, "drop rate": its.drop_rate}[sort]
        return np.insert(chosen[order], np.searchsorted(-first[order], -mine, "right"), crowd.PLACE)

    def _of(self, shown: Shown) -> Crowd | None:
        """Return the sources that are one row, unless somebody looks for some of them."""
        if self._by != "source" or shown.wanted.text:
            return None
        ranking = shown.snapshot.reading.syns.by[self._by]
        if self._crowd is None or self._crowd[0] is not ranking:
            spoofed = any(it.spoofed for it in shown.snapshot.floods.values())
            self._crowd = ranking, crowd.crowd(ranking, shown.snapshot.reading.chance, spoofed)
        return self._crowd[1]

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """Return address and port."""
        if place == crowd.PLACE:
            return crowd.PLACE
        ranking = shown.snapshot.reading.syns.by[self._by]
        return ranking.address(place), int(ranking.ends.port[place])

    def cells(self, shown: Shown, place: int, _fill: int, /) -> list[Span]:
        """Return the row, including the rule that decides on the source, or on the port."""
        its = self._of(shown) if place == crowd.PLACE else None
        if its is not None:
            return _crowded(its, shown)
        ranking = shown.snapshot.reading.syns.by[self._by]
        found = [Span(ranking.text(place), "name")]
        if self._by == "port":
            found.append(Span(str(ranking.ends.port[place]), "name"))
        found += _figures(
            float(ranking.rates[place]),
            int(ranking.syns[place]),
            float(ranking.drop_rates[place]),
            float(ranking.drops[place]),
        )
        if self._by == "source":
            found.append(_decides(shown, ranking.address(place), float(ranking.drop_rates[place])))
        elif self._by == "port":
            port = Port(int(ranking.ends.port[place]), "tcp")
            found.append(Span("closed" if ("port", port) in shown.snapshot.reading.rules.of.places else "", "drop"))
        return found

    def target(self, shown: Shown, place: int, /) -> tuple[Label | None, Target] | None:
        """Return a source, which can be blocked; destinations are the host's own."""
        if self._by != "source" or place == crowd.PLACE:
            return None
        return None, _address(shown.snapshot.reading.syns.by["source"].address(place))

    def note(self, shown: Shown, /) -> str:
        """Return what the figures include."""
        trend = shown.snapshot.trends.get(ALL)
        skipped = trend.rates["skipped"] if trend else 0.0
        more = f"; {scaled(skipped)}/s more are not tracked" if skipped >= 0.5 else ""
        tuples = scaled(shown.snapshot.reading.syns.tuples)
        some = "tuple" if shown.snapshot.reading.syns.tuples == 1 else "tuples"
        return f"SYNs not dropped by rules, from {tuples} {some}{more}; drops by samples"


def _address(address: bytes) -> Prefix:
    return Prefix(address, len(address) * 8)


def _figures(rate: float, syns: int, drop_rate: float, drops: float) -> list[Span]:
    return [
        rate_cell(rate),
        Span(scaled(syns), "" if syns else "dim"),
        rate_cell(drop_rate, "drop"),
        Span(scaled(round(drops)), "" if drops else "dim"),
    ]


def _crowded(its: Crowd, shown: Shown) -> list[Span]:
    each = "1 SYN each" if its.most == 1 else f"{shown.glyphs.at_most}{scaled(its.most)} SYNs each"
    name = Span(f"{scaled(its.sources)} other{'' if its.sources == 1 else 's'}, {each}", "dim")
    return [name, *_figures(its.rate, its.syns, its.drop_rate, its.drops), Span("")]


def _decides(shown: Shown, address: bytes, drop_rate: float) -> Span:
    """Return what decides on a source: its rule, also a prefix that holds it; else the list or filter that drops it."""
    reading = shown.snapshot.reading
    rules, now, bits = reading.rules.of, reading.wall, len(address) * 8
    labels: tuple[tuple[Label, str, str], ...] = (("allow", "allowed", "pass"), ("block", "blocked", "drop"))
    for label, word, style in labels:
        length = rules.longest(label, address, now)
        if length is not None:
            return Span(word if length == bits else f"{word} /{length}", style)
    kind, number = reading.decided.get(address, (0, 0)) if drop_rate >= 0.5 else (0, 0)
    if kind == LIST:
        names = (it.found.its.name for it in reading.lists if it.kind == "block" and it.found.its.number == number)
        return Span(f"list {name}" if (name := next(names, "")) else "", "drop")
    if kind == FILTER:
        filters = (it.its.name for it in reading.filters if it.its.slot == number)
        return Span(f"filter {name}" if (name := next(filters, "")) else "", "drop")
    length = rules.longest("shadow", address, now)
    return Span("" if length is None else f"shadow /{length}", "dim")
