# SPDX-License-Identifier: GPL-2.0
"""The rules of one mode: enforced rules drop or pass packets, shadow rules count what they would drop.

Every method that changes anything is one change or part of one (change.py); its caller holds the instance's lock.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

from xdpguard.control.change import Changes
from xdpguard.control.results import Added, Put, Removed, RuleHits, configured, not_there
from xdpguard.control.rule_counters import MAPS, RuleCounters
from xdpguard.control.slots import Room, free, place
from xdpguard.control.tables import RuleTables, opened, touching
from xdpguard.errors import XdpguardError
from xdpguard.policy.origins import joined
from xdpguard.policy.rule import CONFIG, Mode, NewRule, Part, Rule
from xdpguard.policy.target import KINDS, Kind, Prefix, Target
from xdpguard.store import clock

_MANY = 500  # targets from which reading all rules once is faster than a query for each


class Entries:
    """The rules of one instance in one mode. Implements Image (change.py)."""

    def __init__(
        self,
        changes: Changes,
        tables: Callable[[], AbstractContextManager[RuleTables]],
        mode: Mode = "enforce",
        now: Callable[[], float] = time.time,
    ) -> None:
        """``tables`` opens the maps of this mode, which exist while anything is attached."""
        self.mode: Mode = mode
        self.changes = changes
        self._store = changes.store
        self._tables = tables
        self._now = now
        self._words = "rules" if mode == "enforce" else "shadow rules"
        self.hits = RuleCounters(changes, tables, mode)
        changes.register(self)

    def add(
        self,
        kind: Kind,
        targets: Collection[Target],
        reason: str,
        source: str,
        life: float | None,
        replace: bool = False,
    ) -> Added:
        """Add rules that expire ``life`` seconds from now (None: never), all or none. Raise XdpguardError if full.

        Where there is one, the longer end and the first reason stay, unless ``replace``; see `origins.joined`.
        """
        now = self._now()
        expires = None if life is None else now + life
        return self.add_rules([NewRule(kind, target, reason, source, now, expires) for target in targets], replace)

    def add_rules(self, rules: Sequence[NewRule], replace: bool = False) -> Added:
        """Add rules of one kind, or join them with existing ones of the same target, all or none."""
        held = self.found(rules[0].kind, [rule.target for rule in rules]) if rules else {}
        now = self._now()
        wanted: dict[Target, NewRule] = {}
        for rule in rules:
            there = wanted.get(rule.target) or held.get(rule.target)
            wanted[rule.target] = rule.of(joined(there.parts if there else (), rule.part, now, replace))
        in_force = self._put(list(wanted.values()), held)
        before, asked = {it.target: it for it in held.values() if it.alive(now)}, {it.target: it for it in rules}
        return Added(tuple(Put(before.get(it), asked[it], rule) for it, rule in wanted.items()), in_force)

    def remove(self, kind: Kind, targets: Collection[Target]) -> Removed:
        """Remove what other origins than the configuration file want of rules, all or none.

        Raise XdpguardError naming the first target for which there is nothing to remove, unless its rule has ended by
        itself.
        """
        found = self.found(kind, targets)
        ended: dict[Target, float] = {}
        for target in targets:
            rule = found.get(target)
            if rule is None:
                at = self._store.ended(kind, target, self.mode)
                if at is None:
                    raise self._not_there(kind, target)
                ended[target] = at
            elif rule.origins == [CONFIG]:
                raise configured(kind, target)
        with self._store.transaction():
            self._store.forget_ended(kind, targets, self.mode)
        self.leave(list(found.values()), lambda part: part.source == CONFIG)
        return Removed(ended, [rule for rule in found.values() if rule.part(CONFIG)])

    def leave(self, rules: Sequence[Rule], kept: Callable[[Part], bool]) -> None:
        """Leave only some parts of rules of one kind, all or none; a rule without one is removed."""
        gone, less = [], []
        for rule in rules:
            parts = tuple(part for part in rule.parts if kept(part))
            if not parts:
                gone.append(rule)
            elif parts != rule.parts:
                less.append(rule.as_new().of(parts))
        if gone or less:
            with self.changes.begin():
                self.remove_rules(gone)
                self._put(less, {rule.target: rule for rule in rules})

    def remove_rules(self, rules: Sequence[Rule]) -> None:
        """Remove existing rules, all or none."""
        if not rules:
            return
        with self.changes.begin(), opened(self.changes, self._tables) as tables:
            self._store.remove(rule.id for rule in rules)
            self.changes.release(self, (rule.slot for rule in rules))
            if tables:
                with touching(self.changes, self, self._words):
                    tables.remove(rules, partial(self._store.touches, "block"), partial(self._store.rules, "block"))

    def replace_source(self, source: str, wanted: Sequence[NewRule]) -> None:
        """Make these exactly what one origin wants; what others want of the same targets stays."""
        keep = {(rule.kind, rule.target) for rule in wanted}
        held = [rule for rule in self._store.rules(mode=self.mode) if rule.part(source)]
        there = {(rule.kind, rule.target) for rule in held}
        gone = [rule for rule in held if (rule.kind, rule.target) not in keep]
        new = [rule for rule in wanted if (rule.kind, rule.target) not in there]
        if not gone and not new:
            return
        with self.changes.begin():
            for kind in KINDS:
                self.leave([rule for rule in gone if rule.kind == kind], lambda part: part.source != source)
            self._add_kinds(new)

    def revive(self) -> None:
        """Bring back what has ended by a clock that was wrong."""
        # Where there is no room they stay ended, and the next command tries again.
        with contextlib.suppress(XdpguardError), self.changes.aside(), self.changes.begin():
            self._add_kinds(clock.returning(self._store, self.mode, self._now()))

    def purge(self) -> None:
        """Remove expired rules; the program already ignores them."""
        now = self._now()
        with self.changes.aside():
            if expired := self._store.expired(now, self.mode):
                with self.changes.begin():
                    earlier = clock.of_earlier(self._store, expired)
                    self.remove_rules(expired)
                    self._store.note_ended(expired, earlier)
                    clock.forget(self._store, now)
            self._store.remove_ended_parts(now)

    def stale(self) -> bool:
        """Return whether the maps were filled by another store or recreated."""
        with self._tables() as tables:
            return not self.hits.counted_in(tables)

    def resync(self) -> None:
        """Make the maps hold what the store holds, whatever they held before."""
        with self._tables() as tables:
            if not self.hits.counted_in(tables):
                tables.clear_hits(range(tables.capacity))
            tables.sync(self._store.rules(mode=self.mode))
            if not self.hits.counted_in(tables):
                with self._store.transaction():
                    self._store.put_fact(MAPS[self.mode], tables.generation())

    def fresh_slots(self, count: int) -> list[int]:
        """Return slots for rules that a change is about to write to the store, with their counters set to zero."""
        with opened(self.changes, self._tables) as tables:
            found = free(self._room(tables), count)
            if tables:
                tables.clear_hits(found)
        return found

    def left(self, enough: int) -> float:
        """Return for how many more rules there is room, at least, if that is enough, or else exactly."""
        with opened(self.changes, self._tables) as tables:
            return self._room(tables).left(enough)

    def refill(self) -> None:
        """Make the maps hold what the store holds, within a change that has written to the store itself."""
        if self.changes.attached():
            with touching(self.changes, self, self._words):
                self.resync()

    def audit(self) -> tuple[int, int]:
        """Return how many rules the store has in force, and how many of them the kernel holds, counted in its maps."""
        rules = self._live(None)
        with self._tables() as tables:
            return len(rules), tables.held(rules)

    def seeded(self) -> bool:
        """Return whether the kernel's settings, beside these maps, are those that an attach or a change has made."""
        with self._tables() as tables:
            return tables.seeded()

    def in_force(self, kind: Kind | None = None) -> list[RuleHits]:
        """Return the rules in force with their hits, oldest first."""
        return self.hits.of(self._live(kind))

    def found(self, kind: Kind, targets: Collection[Target]) -> dict[Target, Rule]:
        """Return the rules of this kind for these targets; targets without one are left out."""
        if len(targets) < _MANY:
            return self._store.find(kind, targets, self.mode)
        wanted = set(targets)
        return {rule.target: rule for rule in self._store.rules(kind, self.mode) if rule.target in wanted}

    def of_source(self, kind: Kind, source: str) -> dict[Target, Part]:
        """Return what an origin wants of the rules of a kind."""
        held = ((rule.target, rule.part(source)) for rule in self._store.rules(kind, self.mode))
        return {target: part for target, part in held if part}

    def _add_kinds(self, rules: Sequence[NewRule]) -> None:
        """Add rules of several kinds, within a change."""
        for kind in KINDS:
            its = [rule for rule in rules if rule.kind == kind]
            if its:
                self.add_rules(its)

    def _put(self, wanted: Sequence[NewRule], held: Mapping[Target, Rule]) -> bool:
        """Add rules of one kind, or change existing ones (``held``); return whether the kernel has tables."""
        with self.changes.begin(), opened(self.changes, self._tables) as tables:
            placed = place(wanted, {target: rule.slot for target, rule in held.items()}, self._room(tables))
            if tables:
                # Before the rules are added: a kill between the two steps must not leave a rule with stale hits.
                tables.clear_hits(slot for rule, slot in placed if rule.target not in held)
            self._store.put(placed, self.mode)
            if tables and placed:
                with touching(self.changes, self, self._words):
                    tables.add(rule.stored(slot, self.mode) for rule, slot in placed)
        return tables is not None

    def _room(self, tables: RuleTables | None) -> Room:
        store, mode = self._store, self.mode
        highest, released = store.highest_slot(mode), self.changes.released(self)
        return Room(mode, highest, lambda: store.used_slots(mode), released, tables.capacity if tables else None)

    def _live(self, kind: Kind | None) -> list[Rule]:
        now = self._now()
        return [it for it in self._store.rules(kind, self.mode) if it.alive(now)]

    def _not_there(self, kind: Kind, target: Target) -> XdpguardError:
        found = self._store.covering(kind, target, self._now(), self.mode) if isinstance(target, Prefix) else []
        return not_there(kind, target, found[0] if found else None)
