# SPDX-License-Identifier: GPL-2.0
"""The rules of one mode: enforced rules drop or pass packets, shadow rules count what they would drop.

Every method that changes anything is one change or part of one (change.py); its caller holds the instance's lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from xdpguard.control.change import Changes
from xdpguard.control.slots import Room, free, place
from xdpguard.control.tables import RuleTables
from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import Hits, Split, with_more
from xdpguard.policy.rule import Mode, NewRule, Rule
from xdpguard.policy.target import Kind, Prefix, Target

# Facts: which maps this store has filled, and whose hits it has not folded in yet.
MAPS: dict[Mode, str] = {"enforce": "maps", "shadow": "shadow_maps"}
CONFIG = "config"  # origin of the rules in the configuration file
GUARD = "guard"  # origin of the guard's bans
_MANY = 500  # targets from which reading all rules once is faster than a query for each


class Added(NamedTuple):
    """The result of adding rules: how many are new, and how many existed and took the new reason and end.

    ``kept``: how many are rules of the configuration file, which the command line does not change.
    """

    added: int
    updated: int
    in_force: bool
    kept: int = 0


class RuleHits(NamedTuple):
    """A rule and all its hits, including those before a re-attach. ``split``: the hits of a shadow rule by sender."""

    rule: Rule
    packets: int
    bytes: int
    split: Split | None = None


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
        changes.register(self)

    def add(self, kind: Kind, targets: Collection[Target], reason: str, source: str, life: float | None) -> Added:
        """Add rules that expire ``life`` seconds from now (None: never), all or none. Raise XdpguardError if full."""
        now = self._now()
        expires = None if life is None else now + life
        return self.add_rules([NewRule(kind, target, reason, source, now, expires) for target in targets])

    def add_rules(self, rules: Sequence[NewRule]) -> Added:
        """Add rules of one kind, or renew existing ones of the same target, all or none."""
        old = self.found(rules[0].kind, [rule.target for rule in rules]) if rules else {}
        wanted = {it.target: it for it in rules if it.source == CONFIG or not _of_config(old.get(it.target))}
        kept = sum(1 for it in rules if it.target not in wanted)
        with self.changes.begin(), self._opened() as tables:
            room = Room(self.mode, self._store.used_slots(self.mode), self.changes.released(self), _capacity(tables))
            placed = place(list(wanted.values()), {target: rule.slot for target, rule in old.items()}, room)
            if tables:
                # Before the rules are added: a kill between the two steps must not leave a rule with stale hits.
                tables.clear_hits(slot for rule, slot in placed if rule.target not in old)
            self._store.put(placed, self.mode)
            if tables and placed:
                with self._touching():
                    tables.add(Rule(0, *rule, slot, 0, 0, self.mode) for rule, slot in placed)
        updated = sum(1 for target in wanted if target in old)
        return Added(len(wanted) - updated, updated, tables is not None, kept)

    def remove(self, kind: Kind, targets: Collection[Target]) -> int:
        """Remove rules, all or none. Raise XdpguardError naming the first target that has no such rule."""
        found = self.found(kind, targets)
        missing = next((target for target in targets if target not in found), None)
        if missing is not None:
            raise self._not_there(kind, missing)
        gone = [found[target] for target in dict.fromkeys(targets)]
        self.remove_rules(gone)
        return len(gone)

    def remove_rules(self, rules: Sequence[Rule]) -> None:
        """Remove existing rules, all or none."""
        if not rules:
            return
        with self.changes.begin(), self._opened() as tables:
            self._store.remove(rule.id for rule in rules)
            self.changes.release(self, (rule.slot for rule in rules))
            if tables:
                with self._touching():
                    tables.remove(
                        rules, lambda net: self._store.touches("block", net), lambda: self._store.rules("block")
                    )

    def replace_source(self, source: str, wanted: Sequence[NewRule]) -> None:
        """Make these exactly the rules of one origin; a target that has a rule of another origin keeps that rule."""
        keep = {(rule.kind, rule.target) for rule in wanted}
        held = self._store.rules(mode=self.mode)
        there = {(rule.kind, rule.target) for rule in held}
        gone = [rule for rule in held if rule.source == source and (rule.kind, rule.target) not in keep]
        new = [rule for rule in wanted if (rule.kind, rule.target) not in there]
        if not gone and not new:
            return
        with self.changes.begin():
            self.remove_rules(gone)
            for kind in ("allow", "block", "port"):
                its = [rule for rule in new if rule.kind == kind]
                if its:
                    self.add_rules(its)

    def purge(self) -> None:
        """Remove expired rules; the program already ignores them."""
        self.remove_rules(self._store.expired(self._now(), self.mode))

    def stale(self) -> bool:
        """Return whether the maps were filled by another store or recreated."""
        with self._tables() as tables:
            return not self.counts_in(tables)

    def resync(self) -> None:
        """Make the maps hold what the store holds, whatever they held before."""
        with self._tables() as tables:
            if not self.counts_in(tables):
                tables.clear_hits(range(tables.capacity))
            tables.sync(self._store.rules(mode=self.mode))
            if not self.counts_in(tables):
                with self._store.transaction():
                    self._store.put_fact(MAPS[self.mode], tables.generation())

    def fresh_slots(self, count: int) -> list[int]:
        """Return slots for rules that a change is about to write to the store, with their counters set to zero."""
        with self._opened() as tables:
            used = self._store.used_slots(self.mode)
            found = free(Room(self.mode, used, self.changes.released(self), _capacity(tables)), count)
            if tables:
                tables.clear_hits(found)
        return found

    def refill(self) -> None:
        """Make the maps hold what the store holds, within a change that has written to the store itself."""
        if self.changes.attached():
            with self._touching():
                self.resync()

    def fold_in(self) -> None:
        """Fold the hits into the store, once, before the maps are removed."""
        with self._tables() as tables:
            if not self.counts_in(tables):
                return
            hits = tables.hits()
            with self._store.transaction():
                self._store.add_hits((hits(rule.slot), rule.id) for rule in self._store.rules(mode=self.mode))
                self._store.put_fact(MAPS[self.mode], "")

    def audit(self) -> tuple[int, int]:
        """Return how many rules the store has in force, and how many of them the kernel holds, counted in its maps."""
        rules = self._live(None)
        with self._tables() as tables:
            return len(rules), tables.held(rules)

    def in_force(self, kind: Kind | None = None) -> list[RuleHits]:
        """Return the rules in force with their hits, oldest first."""
        return self.with_hits(self._live(kind))

    def with_hits(self, rules: Sequence[Rule]) -> list[RuleHits]:
        """Return rules with all their hits."""
        hits = self._new_hits() if rules else None
        found = []
        for rule in rules:
            more = hits(rule.slot) if hits else Hits(0, 0)
            split = rule.split if self.mode == "shadow" else None
            found.append(RuleHits(rule, *with_more(Hits(rule.packets, rule.bytes), split, more)))
        return found

    def counts_in(self, tables: RuleTables) -> bool:
        """Return whether the counters in these maps belong to this store's rules."""
        return self._store.fact(MAPS[self.mode]) == tables.generation()

    def found(self, kind: Kind, targets: Collection[Target]) -> dict[Target, Rule]:
        """Return the rules of this kind for these targets; targets without one are left out."""
        if len(targets) < _MANY:
            return self._store.find(kind, targets, self.mode)
        wanted = set(targets)
        return {rule.target: rule for rule in self._store.rules(kind, self.mode) if rule.target in wanted}

    def of_source(self, kind: Kind, source: str) -> list[Rule]:
        """Return the rules of a kind and an origin."""
        return [rule for rule in self._store.rules(kind, self.mode) if rule.source == source]

    def _live(self, kind: Kind | None) -> list[Rule]:
        now = self._now()
        return [it for it in self._store.rules(kind, self.mode) if it.expires is None or it.expires > now]

    def _new_hits(self) -> Callable[[int], Hits | Split] | None:
        """Return a function from slot to the hits not folded into the store yet; None if there are none."""
        if self.changes.attached():
            with self._tables() as tables:
                if self.counts_in(tables):
                    return tables.hits()
        return None

    @contextmanager
    def _opened(self) -> Iterator[RuleTables | None]:
        """Yield the maps, or None while nothing is attached."""
        if not self.changes.attached():
            yield None
            return
        with self._tables() as tables:
            yield tables

    @contextmanager
    def _touching(self) -> Iterator[None]:
        """Run the kernel part of a change. Raise XdpguardError if the kernel refuses."""
        self.changes.touch(self, self._words.replace(" ", "-"))
        try:
            yield
        except OSError as error:
            raise XdpguardError(
                f"the kernel did not take the {self._words}: {error.strerror}",
                "nothing was changed; see xdpguard doctor",
            ) from error

    def _not_there(self, kind: Kind, target: Target) -> XdpguardError:
        words = {"allow": "allowed", "block": "blocked", "port": "closed"}[kind]
        remedy = f"xdpguard rules --kind {kind} shows what is; nothing was changed"
        if isinstance(target, Prefix):
            covering = self._store.covering(kind, target, mode=self.mode)
            if covering:
                remedy = f"it is inside {covering[0].target}, which is; nothing was changed"
        return XdpguardError(f"{target} is not {words}", remedy)


def _capacity(tables: RuleTables | None) -> int | None:
    return tables.capacity if tables else None


def _of_config(rule: Rule | None) -> bool:
    return rule is not None and rule.source == CONFIG
