# SPDX-License-Identifier: GPL-2.0
"""Changing and reading rules: the store first, then the maps, and back again when the maps refuse.

Every method that changes something wants the instance's lock held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import Hits
from xdpguard.policy.rule import NewRule, Rule
from xdpguard.policy.target import Kind, Prefix, Target
from xdpguard.store.database import Store

PENDING = "pending"  # fact: the maps may differ from the store
INTERRUPTED = "interrupted"  # fact: so may everything: a change of several kinds of entries is under way
MAPS = "maps"  # fact: which maps this store has filled, and whose hits it has not taken in yet
CONFIG = "config"  # origin of the rules that stand in the configuration file
GUARD = "guard"  # origin of the guard's bans
_MANY = 500  # targets from which reading all rules once is quicker than asking for each


class RuleTables(Protocol):
    """The maps, as rules see them."""

    capacity: int

    def add(self, rules: Iterable[Rule]) -> None: ...
    def remove(
        self, rules: Iterable[Rule], still_touched: Callable[[Prefix], bool], remaining: Callable[[], Iterable[Rule]]
    ) -> None: ...
    def sync(self, rules: Iterable[Rule]) -> int: ...
    def clear_hits(self, slots: Iterable[int]) -> None: ...
    def hits(self) -> Callable[[int], Hits]: ...
    def generation(self) -> str: ...


class Dataplane(Protocol):
    """Where the maps are, when there are any."""

    def exists(self) -> bool: ...
    def tables(self) -> AbstractContextManager[RuleTables]: ...


class Change(NamedTuple):
    """What a change did: how many rules are new, how many were there and took the new reason and end.

    ``kept`` are those of the configuration file, which the command line does not shorten.
    """

    added: int
    updated: int
    in_force: bool
    kept: int = 0


class RuleHits(NamedTuple):
    """A rule in force and all its hits, those before a re-attach included."""

    rule: Rule
    packets: int
    bytes: int


class Rulebook:
    """The rules of one instance."""

    def __init__(
        self,
        store: Store,
        dataplane: Dataplane,
        now: Callable[[], float] = time.time,
        also: Callable[[], None] = lambda: None,
    ) -> None:
        """``also`` is called before a change, for others that a killed command may have left something to do."""
        self._store = store
        self._dataplane = dataplane
        self._now = now
        self._also = also

    def add(self, kind: Kind, targets: Collection[Target], reason: str, source: str, life: float | None) -> Change:
        """Adds rules that end ``life`` seconds from now (None: never). All or none; XdpguardError when full."""
        now = self._now()
        expires = None if life is None else now + life
        rules = [NewRule(kind, target, reason, source, now, expires) for target in targets]
        return self.add_rules(rules)

    def add_rules(self, rules: Sequence[NewRule]) -> Change:
        """Adds rules of one kind, or replaces those of the same target. All or none."""
        old = self.found(rules[0].kind, [rule.target for rule in rules]) if rules else {}
        total = len(rules)
        rules = [rule for rule in rules if rule.source == CONFIG or not _of_config(old.get(rule.target))]
        kept = total - len(rules)
        if not self._dataplane.exists():
            with self._store.transaction():
                placed = self._place(rules, old, None)
                self._store.put(placed)
            updated = sum(1 for rule in rules if rule.target in old)
            return Change(len(placed) - updated, updated, False, kept)
        with self._dataplane.tables() as tables:
            self.settle(tables)
            with self._store.transaction():
                placed = self._place(rules, old, tables.capacity)
                # Free slots: nobody counts in them yet, and no moment is left for a kill between rule and zero.
                tables.clear_hits(slot for rule, slot in placed if rule.target not in old)
                self._store.put(placed)
                self._store.put_fact(PENDING, "1")
            try:
                tables.add(_as_rule(rule, slot) for rule, slot in placed)
            except OSError as error:
                self._take_back(placed, old, tables)
                raise XdpguardError(
                    f"the kernel did not take the rules: {error.strerror}", "nothing was changed; see xdpguard doctor"
                ) from error
            self._settled()
        updated = sum(1 for rule in rules if rule.target in old)
        return Change(len(placed) - updated, updated, True, kept)

    def remove(self, kind: Kind, targets: Collection[Target]) -> int:
        """Removes rules, all or none. XdpguardError naming the first target that has no such rule."""
        found = self.found(kind, targets)
        missing = next((target for target in targets if target not in found), None)
        if missing is not None:
            raise self._not_there(kind, missing)
        gone = [found[target] for target in dict.fromkeys(targets)]
        self._remove(gone)
        return len(gone)

    def replace_source(self, source: str, wanted: Sequence[NewRule]) -> None:
        """Makes the rules of one origin exactly these; a target that another origin holds is left to it."""
        keep = {(rule.kind, rule.target) for rule in wanted}
        held = self._store.rules()
        self._remove([rule for rule in held if rule.source == source and (rule.kind, rule.target) not in keep])
        there = {(rule.kind, rule.target) for rule in held}
        for kind in ("allow", "block", "port"):
            new = [rule for rule in wanted if rule.kind == kind and (rule.kind, rule.target) not in there]
            if new:
                self.add_rules(new)

    def purge(self) -> None:
        """Forgets rules whose end has passed; the program ignores them already."""
        expired = self._store.expired(self._now())
        if expired:
            self._remove(expired)

    def behind(self) -> bool:
        """Whether a change was interrupted, so that the maps may differ from the store."""
        return bool(self._store.fact(PENDING) or self._store.fact(INTERRUPTED))

    def settle(self, tables: RuleTables) -> None:
        """Brings the maps in line when a command before this one was killed, or another store filled them."""
        self._also()
        generation = tables.generation()
        known = self._store.fact(MAPS) == generation
        if known and not self._store.fact(PENDING):
            return
        if not known:
            tables.clear_hits(range(tables.capacity))
        tables.sync(self._store.rules())
        with self._store.transaction():
            self._store.put_fact(MAPS, generation)
            self._store.put_fact(PENDING, "")

    def fill(self, tables: RuleTables) -> None:
        """Makes the maps hold what the store holds, whatever they held before."""
        with self._store.transaction():
            self._store.put_fact(PENDING, "1")
        self.settle(tables)

    def counts_in(self, tables: RuleTables) -> bool:
        """Whether the counters in these maps are those of this store's rules."""
        return self._store.fact(MAPS) == tables.generation()

    def harvest(self, tables: RuleTables) -> None:
        """Takes the hits into the store, once, before the maps are given up."""
        if not self.counts_in(tables):
            return
        hits = tables.hits()
        with self._store.transaction():
            self._store.add_hits((*hits(rule.slot), rule.id) for rule in self._store.rules())
            self._store.put_fact(MAPS, "")

    def in_force(self, kind: Kind | None = None) -> list[RuleHits]:
        """Rules in force with their hits, oldest first."""
        now = self._now()
        rules = [rule for rule in self._store.rules(kind) if rule.expires is None or rule.expires > now]
        return self.with_hits(rules)

    def with_hits(self, rules: Sequence[Rule]) -> list[RuleHits]:
        """Rules with all their hits."""
        hits = self._new_hits()
        found = []
        for rule in rules:
            packets, octets = hits(rule.slot)
            found.append(RuleHits(rule, rule.packets + packets, rule.bytes + octets))
        return found

    def _new_hits(self) -> Callable[[int], Hits]:
        """Hits by slot that the store has not taken in yet."""
        if self._dataplane.exists():
            with self._dataplane.tables() as tables:
                if self.counts_in(tables):
                    return tables.hits()
        return lambda slot: Hits(0, 0)

    def _remove(self, rules: Sequence[Rule]) -> None:
        if not rules:
            return
        ids = [rule.id for rule in rules]
        if not self._dataplane.exists():
            with self._store.transaction():
                self._store.remove(ids)
            return
        with self._dataplane.tables() as tables:
            self.settle(tables)
            with self._store.transaction():
                self._store.remove(ids)
                self._store.put_fact(PENDING, "1")
            tables.remove(rules, lambda net: self._store.touches("block", net), lambda: self._store.rules("block"))
            self._settled()

    def _settled(self) -> None:
        with self._store.transaction():
            self._store.put_fact(PENDING, "")

    def found(self, kind: Kind, targets: Collection[Target]) -> dict[Target, Rule]:
        """Those of the targets that have a rule of this kind."""
        if len(targets) < _MANY:
            return self._store.find(kind, targets)
        return {rule.target: rule for rule in self._store.rules(kind)}

    def _place(
        self, rules: Sequence[NewRule], old: dict[Target, Rule], capacity: int | None
    ) -> list[tuple[NewRule, int]]:
        """Gives each rule a slot: its own when it is there already, else a free one."""
        used = self._store.used_slots()
        needed = sum(1 for rule in rules if rule.target not in old)
        if capacity is not None and len(used) + needed > capacity:
            raise XdpguardError(
                f"the rule tables hold {capacity} rules, {len(used)} are used, and {needed} more do not fit",
                "nothing was changed; load so many as a list (xdpguard lists load NAME -), or make the tables larger: "
                "detach --all, add them, attach again (a limits.rules in the configuration is kept to)",
            )
        free = (slot for slot in range(len(used) + needed) if slot not in used)
        return [(rule, old[rule.target].slot if rule.target in old else next(free)) for rule in rules]

    def _take_back(self, placed: Sequence[tuple[NewRule, int]], old: dict[Target, Rule], tables: RuleTables) -> None:
        kind = placed[0][0].kind
        new = self._store.find(kind, [rule.target for rule, _ in placed if rule.target not in old])
        with self._store.transaction():
            self._store.remove(rule.id for rule in new.values())
            self._store.put(
                (NewRule(rule.kind, rule.target, rule.reason, rule.source, rule.created, rule.expires), rule.slot)
                for rule in old.values()
            )
        tables.sync(self._store.rules())
        self._settled()

    def _not_there(self, kind: Kind, target: Target) -> XdpguardError:
        words = {"allow": "allowed", "block": "blocked", "port": "closed"}[kind]
        remedy = f"xdpguard rules --kind {kind} shows what is; nothing was changed"
        if isinstance(target, Prefix):
            covering = self._store.covering(kind, target)
            if covering:
                remedy = f"it is inside {covering[0].target}, which is; nothing was changed"
        return XdpguardError(f"{target} is not {words}", remedy)


def _of_config(rule: Rule | None) -> bool:
    return rule is not None and rule.source == CONFIG


def _as_rule(rule: NewRule, slot: int) -> Rule:
    return Rule(0, rule.kind, rule.target, rule.reason, rule.source, rule.created, rule.expires, slot, 0, 0)
