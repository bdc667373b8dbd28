# SPDX-License-Identifier: GPL-2.0
"""Shadow rules: blocks that only count. As in the rulebook, the store first, then the maps.

Every method that changes something wants the instance's lock held.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from xdpguard.control.entries import INTERRUPTED, Change, RuleHits
from xdpguard.control.lists import ListHits
from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import NO_SPLIT, Split
from xdpguard.policy.rule import NewRule, Rule
from xdpguard.policy.target import Target
from xdpguard.store.database import Store
from xdpguard.store.shadow import Shadows

PENDING = "shadow_pending"  # fact: the maps may differ from the store
_MAPS = "shadow_maps"  # fact: which maps this store has filled, and whose hits it has not taken in yet
_MANY = 500  # targets from which reading all rules once is quicker than asking for each


class ShadowTables(Protocol):
    """The maps, as shadow rules see them."""

    capacity: int

    def add(self, rules: Iterable[Rule]) -> None: ...
    def remove(self, rules: Iterable[Rule]) -> None: ...
    def sync(self, rules: Iterable[Rule]) -> int: ...
    def held(self, rules: Iterable[Rule]) -> int: ...
    def clear_hits(self, slots: Iterable[int]) -> None: ...
    def hits(self) -> Callable[[int], Split]: ...
    def generation(self) -> str: ...
    def lists_in_force(self) -> bool: ...


class Dataplane(Protocol):
    """Where the maps are, when there are any."""

    def exists(self) -> bool: ...
    def shadow_tables(self) -> AbstractContextManager[ShadowTables]: ...


class ShadowRule(NamedTuple):
    """A shadow rule, and all that it has counted."""

    rule: Rule
    split: Split

    @property
    def found(self) -> RuleHits:
        """As other rules with their hits."""
        return RuleHits(self.rule, *self.split.total)


class ShadowList(NamedTuple):
    """A shadow list, likewise."""

    found: ListHits
    split: Split


class Shadowbook:
    """The shadow rules of one instance."""

    def __init__(self, store: Store, dataplane: Dataplane, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._dataplane = dataplane
        self._now = now
        self._shelf = Shadows(store)

    def add(self, targets: Collection[Target], reason: str, source: str, life: float | None) -> Change:
        """Adds rules that end ``life`` seconds from now (None: never). All or none; XdpguardError when full."""
        now = self._now()
        expires = None if life is None else now + life
        old = self.find(targets)
        rules = [NewRule("shadow", target, reason, source, now, expires) for target in targets]
        placed = self._place(rules, old)
        fresh = [(rule, slot) for rule, slot in placed if rule.target not in old]

        def store() -> None:
            for rule, _ in fresh:
                self._shelf.forget("rule", str(rule.target))
            self._shelf.put(placed)

        def put(tables: ShadowTables) -> None:
            tables.add(Rule(0, *rule[:6], slot, 0, 0) for rule, slot in placed)

        in_force = self._change(store, put, [slot for _, slot in fresh])
        return Change(len(fresh), len(placed) - len(fresh), in_force)

    def find(self, targets: Collection[Target]) -> dict[Target, Rule]:
        """Those of the targets that have a shadow rule."""
        if len(targets) < _MANY:
            return self._shelf.find(targets)
        wanted = set(targets)
        return {rule.target: rule for rule in self._shelf.rules() if rule.target in wanted}

    def remove(self, rules: Sequence[Rule]) -> None:
        """Takes rules away."""
        if rules:
            self._change(lambda: self._shelf.remove(rules), lambda tables: tables.remove(rules))

    def purge(self) -> None:
        """Forgets rules whose end has passed; the program ignores them already."""
        self.remove(self._shelf.expired(self._now()))

    def behind(self) -> bool:
        """Whether the kernel may hold other rules than the store."""
        return bool(self._dataplane.exists() and (self._store.fact(PENDING) or self._store.fact(INTERRUPTED)))

    def mend(self) -> None:
        """Puts in force what an interrupted change has left."""
        if self.behind():
            with self._dataplane.shadow_tables() as tables:
                self.settle(tables)

    def settle(self, tables: ShadowTables) -> None:
        """Brings the maps in line when a command before this one was killed, or another store filled them."""
        generation = tables.generation()
        known = self._store.fact(_MAPS) == generation
        if known and not self._store.fact(PENDING):
            return
        if not known:
            tables.clear_hits(range(tables.capacity))
        tables.sync(self._shelf.rules())
        with self._store.transaction():
            self._store.put_fact(_MAPS, generation)
            self._store.put_fact(PENDING, "")

    def fill(self, tables: ShadowTables) -> None:
        """Makes the maps hold what the store holds, whatever they held before."""
        with self._store.transaction():
            self._store.put_fact(PENDING, "1")
        self.settle(tables)

    def harvest(self, tables: ShadowTables) -> None:
        """Takes the hits into the store, once, before the maps are given up."""
        if self._store.fact(_MAPS) != tables.generation():
            return
        hits = tables.hits()
        with self._store.transaction():
            self._shelf.add_hits("rule", ((str(rule.target), hits(rule.slot)) for rule in self._shelf.rules()))
            self._store.put_fact(_MAPS, "")

    def in_force(self) -> list[ShadowRule]:
        """Shadow rules that count at present, oldest first."""
        now = self._now()
        return self.with_hits([rule for rule in self._shelf.rules() if rule.expires is None or rule.expires > now])

    def with_hits(self, rules: Sequence[Rule]) -> list[ShadowRule]:
        """Rules with all that they have counted."""
        if not rules:
            return []
        held, hits = self._shelf.hits("rule"), self._new_hits()
        return [ShadowRule(it, held.get(str(it.target), NO_SPLIT).plus(hits(it.slot))) for it in rules]

    def audit(self, repair: bool) -> tuple[int, int]:
        """How many rules are stored, and how many of them the kernel holds; ``repair`` puts back what is missing."""
        now = self._now()
        rules = [rule for rule in self._shelf.rules() if rule.expires is None or rule.expires > now]
        with self._dataplane.shadow_tables() as tables:
            held = tables.held(rules)
            if repair and (held < len(rules) or self.behind()):
                self.fill(tables)
        return len(rules), held

    def _new_hits(self) -> Callable[[int], Split]:
        if self._dataplane.exists():
            with self._dataplane.shadow_tables() as tables:
                if self._store.fact(_MAPS) == tables.generation():
                    return tables.hits()
        return lambda slot: NO_SPLIT

    def _change(
        self, store: Callable[[], None], put: Callable[[ShadowTables], None], fresh: Collection[int] = ()
    ) -> bool:
        """Changes the store and then the maps, when there are any: whether there are. All or nothing."""
        if not self._dataplane.exists():
            with self._store.transaction():
                store()
            return False
        with self._dataplane.shadow_tables() as tables:
            self.settle(tables)
            with self._store.transaction():
                self._store.put_fact(PENDING, "1")
            try:
                with self._store.transaction():
                    tables.clear_hits(fresh)
                    store()
                    put(tables)
                    self._store.put_fact(PENDING, "")
            except BaseException as error:
                # The store is as it was, unless this is part of a greater change, whose author mends it.
                self.settle(tables)
                if isinstance(error, OSError):
                    raise XdpguardError(
                        f"the kernel did not take the shadow rules: {error.strerror}",
                        "nothing was changed; see xdpguard doctor",
                    ) from error
                raise
        return True

    def _place(self, rules: Sequence[NewRule], old: dict[Target, Rule]) -> list[tuple[NewRule, int]]:
        """Gives each rule a slot: its own when it is there already, else a free one."""
        from xdpguard.dataplane.sys.abi import SHADOW_RULES

        used = self._shelf.used_slots()
        needed = sum(1 for rule in rules if rule.target not in old)
        if len(used) + needed > SHADOW_RULES:
            raise XdpguardError(
                f"there may be {SHADOW_RULES:,} shadow rules, {len(used):,} are there, and {needed:,} more do not fit",
                "nothing was changed; load so many as a list: xdpguard lists load NAME - --shadow",
            )
        free = (slot for slot in range(SHADOW_RULES) if slot not in used)
        return [(rule, old[rule.target].slot if rule.target in old else next(free)) for rule in rules]
