# SPDX-License-Identifier: GPL-2.0
"""Tables of connection attempts and dropped packets by source, destination or port."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from xdpguard.policy.target import Label, Port, Prefix, Target
from xdpguard.telemetry.dropped import By
from xdpguard.tui.draw import Span, scaled
from xdpguard.tui.table import MOST, Column, Order, Shown, rate_cell


class Talkers:
    """Initial SYNs and drops by one end."""

    sorts = ("syns", "rate", "drops", "drop rate", "address")

    def __init__(self, name: str, by: By) -> None:
        self.name = name
        self._by: By = by
        head = [Column("source" if by == "source" else "destination", 39, False, "address")]
        if by == "port":
            head.append(Column("port", 5, True))
        self.columns = (
            *head,
            Column("SYN/s", 7, True, "rate"),
            Column("SYNs", 7, True, "syns"),
            Column("drop/s", 7, True, "drop rate"),
            Column("drops", 7, True, "drops"),
            Column("rule", 7),
        )

    def order(self, shown: Shown, sort: str, /) -> Order:
        """Return the first rows of the order."""
        ranking = shown.snapshot.reading.syns.by[self._by]
        chosen = np.flatnonzero(shown.wanted.ends(ranking.ends))
        ends = ranking.ends
        low, high = ends.low[chosen], ends.high[chosen]
        if sort == "address":
            return chosen[np.lexsort((ends.port[chosen], low, high, ends.version[chosen]))][:MOST]
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
        return chosen[np.lexsort((ends.port[chosen], low, high, -second, -first))]

    def key(self, shown: Shown, place: int, /) -> Hashable:
        """Return address and port."""
        ranking = shown.snapshot.reading.syns.by[self._by]
        return ranking.address(place), int(ranking.ends.port[place])

    def cells(self, shown: Shown, place: int, _fill: int, /) -> list[Span]:
        """Return the row, including whether a rule targets exactly this address."""
        ranking = shown.snapshot.reading.syns.by[self._by]
        found = [Span(ranking.text(place), "name")]
        if self._by == "port":
            found.append(Span(str(ranking.ends.port[place]), "name"))
        drops = float(ranking.drops[place])
        found += [
            rate_cell(float(ranking.rates[place])),
            Span(scaled(int(ranking.syns[place]))),
            rate_cell(float(ranking.drop_rates[place]), "drop"),
            Span(scaled(round(drops)), "" if drops else "dim"),
        ]
        places = shown.snapshot.reading.rules.of.places
        prefix = _address(ranking.address(place))
        if self._by == "source":
            allowed, blocked = ("allow", prefix) in places, ("block", prefix) in places
            found.append(Span("allowed", "pass") if allowed else Span("blocked" if blocked else "", "drop"))
        elif self._by == "port":
            closed = ("port", Port(int(ranking.ends.port[place]), "tcp")) in places
            found.append(Span("closed" if closed else "", "drop"))
        else:
            found.append(Span(""))
        return found

    def target(self, shown: Shown, place: int, /) -> tuple[Label | None, Target] | None:
        """Return a source, which can be blocked; destinations are the host's own."""
        if self._by != "source":
            return None
        return None, _address(shown.snapshot.reading.syns.by["source"].address(place))

    def note(self, shown: Shown, /) -> str:
        """Return what the figures include."""
        count = shown.snapshot.reading.syns.tuples
        return f"SYNs not dropped by rules, from {scaled(count)} tuples; drops by samples"


def _address(address: bytes) -> Prefix:
    return Prefix(address, len(address) * 8)
