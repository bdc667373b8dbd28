# SPDX-License-Identifier: GPL-2.0
"""Everything in one instance that decides about packets, or would: rules, lists, filters, the guard's policy.

Inexpensive: it reads no links and compiles nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from xdpguard.control.change import Changes
from xdpguard.control.default import DefaultPolicy
from xdpguard.control.entries import Entries
from xdpguard.control.filters import Filters
from xdpguard.control.guard import GuardPolicy
from xdpguard.control.lists import Lists
from xdpguard.control.results import Removed
from xdpguard.control.tables import FilterTables
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.rules import Tables
from xdpguard.dataplane.tables.shadow import ShadowTables
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Target
from xdpguard.store import clock
from xdpguard.store.database import Store

if TYPE_CHECKING:
    from xdpguard.net.links import Link
    from xdpguard.policy.model import Default


def _filter_tables(pins: Pins) -> AbstractContextManager[FilterTables]:
    from xdpguard.control.filter_set import FilterSet  # few commands need it

    return FilterSet(pins)


class Maps(Protocol):
    """Access to the maps, if there are any."""

    pins: Pins

    def exists(self) -> bool: ...
    def tables(self) -> AbstractContextManager[Tables]: ...
    def shadow_tables(self) -> AbstractContextManager[ShadowTables]: ...


class Ruleset:
    """The ruleset of one instance. The caller of a method that changes anything holds the instance's lock."""

    def __init__(self, store: Store, maps: Maps, on_step: Callable[[str], None] = lambda step: None) -> None:
        self.store = store
        self.changes = Changes(store, maps.exists, on_step)
        self.rules = Entries(self.changes, maps.tables)
        self.shadow_rules = Entries(self.changes, maps.shadow_tables, "shadow")
        self.lists = Lists(self.changes, maps.pins)
        self.shadow_lists = Lists(self.changes, maps.pins, "shadow")
        self.filters = Filters(self.changes, partial(_filter_tables, maps.pins))
        self.lists.on_change = self.shadow_lists.on_change = self.filters.follow_lists
        self.guard = GuardPolicy(self.changes, maps.pins)
        self.default = DefaultPolicy(self.changes, maps.pins)

    def follow_clock(self) -> None:
        """Let ends follow the clock, if it was set, and bring back what ended only because it was wrong."""
        ahead = clock.stepped(self.store)
        if ahead:
            with self.changes.begin():
                clock.follow(self.store, ahead)
                self.rules.refill()
                self.shadow_rules.refill()
                for lists in (self.lists, self.shadow_lists):
                    if clock.misplaced_lists(self.store, lists.mode):
                        lists.refill(())
                self.filters.refill()
        elif clock.reference(self.store) is None:
            with self.store.transaction():
                clock.begin(self.store)
        if clock.has_lapsed(self.store, time.time()):
            self.rules.revive()
            self.shadow_rules.revive()

    def purge(self) -> None:
        """Remove what has ended; the program already ignores it."""
        self.rules.purge()
        self.shadow_rules.purge()
        self.filters.purge()

    def put_default(self, wanted: Default, links: Sequence[Link]) -> None:
        """Put a default in force, as part of a change: once the filters are there that pass what it cuts, or before
        they go.
        """
        put = partial(self.default.put, wanted, links)
        for part in (self.changes.settle, put) if wanted.enforced else (put, self.changes.settle):
            part()

    def unblock(self, enforced: Sequence[Target], shadow: Sequence[Rule]) -> Removed:
        """Remove block rules and shadow rules, all or none; see `Entries.remove`."""
        with self.changes.begin():
            done = self.rules.remove("block", enforced) if enforced else Removed({}, [])
            self.shadow_rules.remove_rules(shadow)
        return done

    def drop_lists(self, enforced: Sequence[str], shadow: Sequence[str]) -> None:
        """Remove lists and shadow lists, all or none."""
        with self.changes.begin():
            if enforced:
                self.lists.apply([], enforced)
            if shadow:
                self.shadow_lists.apply([], shadow)

    def fold_in(self) -> None:
        """Fold all hits into the store, once, before the maps are removed."""
        if self.changes.pending():
            self.changes.resync()
        for its in (self.rules.hits, self.shadow_rules.hits, self.lists, self.shadow_lists, self.filters):
            its.fold_in()
