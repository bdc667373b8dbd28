# SPDX-License-Identifier: GPL-2.0
"""The counts of all shadow entries together, by class of packet."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.build.program import KernelDataplane
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.policy.hits import NO_SPLIT, Hits, Split
from xdpguard.store.database import Store


class ShadowTally(NamedTuple):
    """Shadow rules, entries of shadow lists, and their counts."""

    rules: int
    entries: int
    counted: Split


class ShadowTotals:
    """Sums that only rise: counts of removed or promoted entries remain included."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str, float], Split] = {}
        self._sum = NO_SPLIT

    def read(self, store: Store, pins: Pins) -> ShadowTally:
        """Return the current sums."""
        ruleset = Ruleset(store, KernelDataplane(pins))
        rules, lists = ruleset.shadow_rules.in_force(), ruleset.shadow_lists.in_force()
        now = {("rule", str(it.rule.target), it.rule.created): it.split or NO_SPLIT for it in rules}
        now |= {("list", it.its.name, float(it.its.number)): it.split or NO_SPLIT for it in lists}
        for key, split in now.items():
            last = self._last.get(key, NO_SPLIT)
            # Between a detach and the next attach the store has the counts, and for a moment neither side has.
            self._sum = self._sum.plus(Split(*(_risen(a, b) for a, b in zip(last, split, strict=True))))
            now[key] = Split(*(Hits(max(a[0], b[0]), max(a[1], b[1])) for a, b in zip(last, split, strict=True)))
        self._last = now
        return ShadowTally(len(rules), sum(it.its.entries for it in lists), self._sum)


def _risen(last: Hits, now: Hits) -> Hits:
    return Hits(max(0, now.packets - last.packets), max(0, now.bytes - last.bytes))
