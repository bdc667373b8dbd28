# SPDX-License-Identifier: GPL-2.0
"""Shadow entries in the kernel: the tables of shadow rules, and what they would have hit (bpf/stages/shadow.h).

Nothing here drops a packet, so writes need no safe order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.held import HeldMaps
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import counters, settings
from xdpguard.dataplane.tables.entries import SHADOW, Difference, Entries, entries, same_rule
from xdpguard.policy.hits import Hits, Split
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix

CLASSES = ("established", "allowed", "other")  # enum xg_shadow_class
_FIELDS = {"shadow4": settings.SHADOW_RULES4, "shadow6": settings.SHADOW_RULES6}
_PLACES = abi.SHADOW_RULES + abi.LISTS


class ShadowTables(HeldMaps):
    """The instance's maps of shadow rules, opened from their pins. Use as a context manager."""

    COUNTERS = "shadow_hits"
    capacity = abi.SHADOW_RULES

    def __init__(self, pins: Pins) -> None:
        arrays = {"settings": (4, abi.SETTINGS.size), self.COUNTERS: (4, abi.SHADOW_HITS.size)}
        super().__init__(pins, arrays | {name: (key.size, abi.RULE.size) for name, key in SHADOW.items()})

    def add(self, rules: Iterable[Rule]) -> None:
        """Let rules count, or update their end."""
        self._write_rules(entries(rules, shadow=True))
        self._flags()

    def remove(
        self,
        rules: Iterable[Rule],
        still_touched: Callable[[Prefix], bool] | None = None,
        remaining: Callable[[], Iterable[Rule]] | None = None,
    ) -> None:
        """Take rules out. The other arguments, of Tables.remove(), are not needed: there is no pre-filter here."""
        del still_touched, remaining
        self._delete_rules(entries(rules, shadow=True))
        self._flags()

    def sync(self, rules: Iterable[Rule]) -> int:
        """Make the kernel hold exactly these rules; return how many entries were missing, wrong or superfluous."""
        found = Difference(entries(rules, shadow=True), self._rules)
        self._write_rules(found.changed)
        self._delete_rules(found.stale)
        self._flags()
        self.clear_hits(found.moved)
        return found.repaired

    def held(self, rules: Iterable[Rule]) -> int:
        """Count how many of these rules the kernel holds unchanged."""
        fields = self._settings()
        found = 0
        for table, pairs in entries(rules, shadow=True).items():
            if pairs and fields[_FIELDS[table]] and fields[settings.SHADOW]:
                there = self._rules(table)
                found += sum(1 for key, value in pairs.items() if same_rule(there.get(key), value))
        return found

    def all(self) -> Entries:
        """Return every entry by table."""
        return {table: self._rules(table) for table in SHADOW}

    def clear_hits(self, slots: Iterable[int]) -> None:
        """Set hit counters to zero, before their slots are given to new rules."""
        with kernel.mapped(self._maps[self.COUNTERS]) as mapped:
            counters.clear(mapped, _PLACES, abi.SHADOW_HITS.size, slots)

    def hits(self) -> Callable[[int], Split]:
        """Take a snapshot of all hit counters; call it with a slot."""
        with kernel.mapped(self._maps[self.COUNTERS]) as mapped:
            words = counters.snapshot(mapped, _PLACES, abi.SHADOW_HITS.size)

        def of(slot: int) -> Split:
            sums = words(slot)
            return Split(Hits(*sums[0:2]), Hits(*sums[2:4]), Hits(*sums[4:6]))

        return of

    def _flags(self) -> None:
        there = {_FIELDS[table]: kernel.has_entries(self._maps[table], key.size) for table, key in SHADOW.items()}
        with settings.changing(self._maps["settings"]) as fields:
            for field, value in there.items():
                fields[field] = int(value)
        settings.renew_shadow(self._maps["settings"])
