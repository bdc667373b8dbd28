# SPDX-License-Identifier: GPL-2.0
"""The hits of the rules of one mode: those in the kernel's counters, and those folded into the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from xdpguard.control.change import Changes
from xdpguard.control.results import RuleHits
from xdpguard.control.tables import RuleTables
from xdpguard.policy.hits import NO_HITS, Hits, Split, with_more
from xdpguard.policy.rule import Mode, Rule

# Facts: which maps this store has filled, and whose hits it has not folded in yet.
MAPS: dict[Mode, str] = {"enforce": "maps", "shadow": "shadow_maps"}


class RuleCounters:
    """The hits of one instance's rules in one mode."""

    def __init__(self, changes: Changes, tables: Callable[[], AbstractContextManager[RuleTables]], mode: Mode) -> None:
        self._changes = changes
        self._store = changes.store
        self._tables = tables
        self._mode: Mode = mode

    def counted_in(self, tables: RuleTables) -> bool:
        """Return whether the counters in these maps belong to this store's rules."""
        return self._store.fact(MAPS[self._mode]) == tables.generation()

    def fold_in(self) -> None:
        """Fold the hits into the store, once, before the maps are removed."""
        with self._tables() as tables:
            if not self.counted_in(tables):
                return
            hits = tables.hits()
            with self._store.transaction():
                self._store.add_hits((hits(rule.slot), rule.id) for rule in self._store.rules(mode=self._mode))
                self._store.put_fact(MAPS[self._mode], "")

    def of(self, rules: Sequence[Rule]) -> list[RuleHits]:
        """Return rules with all their hits."""
        hits = self._new_hits() if rules else None
        found = []
        for rule in rules:
            found.append(RuleHits(rule, *with_more(rule, self._mode, hits(rule.slot) if hits else NO_HITS)))
        return found

    def _new_hits(self) -> Callable[[int], Hits | Split] | None:
        """Return a function from slot to the hits not folded into the store yet; None if there are none."""
        if self._changes.attached():
            with self._tables() as tables:
                if self.counted_in(tables):
                    return tables.hits()
        return None
