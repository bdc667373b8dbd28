# SPDX-License-Identifier: GPL-2.0
"""Shadow rules in the store, and what shadow entries of both kinds have counted. Changes want a transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from xdpguard.policy.hits import NO_SPLIT, Hits, Split
from xdpguard.policy.rule import NewRule, Rule
from xdpguard.policy.target import Prefix, Target
from xdpguard.store.database import Store, around, columns_of, rule_of

Counted = Literal["rule", "list"]

_COLUMNS = "id, 'shadow', version, network, length, reason, source, created, expires, slot, 0, 0"
_HITS = "established_packets, established_bytes, allowed_packets, allowed_bytes, other_packets, other_bytes"


class Shadows:
    """The shadow rules of a store. A rule's packets and bytes are not filled in: `hits` has them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rules(self) -> list[Rule]:
        """Every shadow rule, expired ones included, oldest first."""
        return self._rules("ORDER BY id")

    def expired(self, now: float) -> list[Rule]:
        """Those whose end has passed."""
        return self._rules("WHERE expires <= ?", now)

    def count(self, now: float) -> int:
        """How many count at that time."""
        query = "SELECT count(*) FROM shadow_rules WHERE expires IS NULL OR expires > ?"
        return int(self._store.execute(query, (now,))[0][0])

    def find(self, targets: Iterable[Target]) -> dict[Target, Rule]:
        """Those of the targets that have a shadow rule."""
        found = {}
        for target in targets:
            for rule in self._rules("WHERE target = ?", str(target)):
                found[target] = rule
        return found

    def covering(self, prefix: Prefix, now: float = 0.0) -> list[Rule]:
        """Rules whose prefix holds all of ``prefix``, longest first; those that ended before ``now`` left out."""
        found: list[Rule] = []
        for network, length in around(prefix):
            found += self._rules(
                "WHERE version = ? AND network = ? AND length = ? AND (expires IS NULL OR expires > ?)",
                prefix.version,
                network,
                length,
                now,
            )
        return found

    def used_slots(self) -> set[int]:
        """Slots of the hit counters that rules hold."""
        return {row[0] for row in self._store.execute("SELECT slot FROM shadow_rules")}

    def put(self, rules: Iterable[tuple[NewRule, int]]) -> None:
        """Adds rules with their slots. One that is there takes the new reason, origin and end, and keeps the rest."""
        for rule, slot in rules:
            self._store.execute(
                "INSERT INTO shadow_rules (target, version, network, length, reason, source, created, expires, slot)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (target) DO UPDATE SET"
                " reason = excluded.reason, source = excluded.source, expires = excluded.expires",
                (
                    str(rule.target),
                    *columns_of(rule.target),
                    rule.reason,
                    rule.source,
                    rule.created,
                    rule.expires,
                    slot,
                ),
            )

    def remove(self, rules: Iterable[Rule]) -> None:
        """Deletes rules, and what they have counted."""
        for rule in rules:
            self._store.execute("DELETE FROM shadow_rules WHERE id = ?", (rule.id,))
            self.forget("rule", str(rule.target))

    def hits(self, kind: Counted) -> dict[str, Split]:
        """What entries of a kind had counted before the kernel's present counters, by target or name."""
        rows = self._store.execute(f"SELECT name, {_HITS} FROM shadow_hits WHERE kind = ?", (kind,))
        return {row[0]: Split(Hits(*row[1:3]), Hits(*row[3:5]), Hits(*row[5:7])) for row in rows}

    def add_hits(self, kind: Counted, more: Iterable[tuple[str, Split]]) -> None:
        """Adds to what entries have counted."""
        held = self.hits(kind)
        for name, split in more:
            if split != NO_SPLIT:
                new = held.get(name, NO_SPLIT).plus(split)
                self._store.execute(
                    f"INSERT OR REPLACE INTO shadow_hits (kind, name, {_HITS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (kind, name, *(number for hits in new for number in hits)),
                )

    def forget(self, kind: Counted, name: str) -> None:
        """Deletes what an entry has counted."""
        self._store.execute("DELETE FROM shadow_hits WHERE kind = ? AND name = ?", (kind, name))

    def _rules(self, where: str, *values: object) -> list[Rule]:
        return [
            rule_of(row) for row in self._store.execute(f"SELECT {_COLUMNS} FROM shadow_rules {where}", tuple(values))
        ]
