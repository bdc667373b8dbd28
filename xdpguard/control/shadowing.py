# SPDX-License-Identifier: GPL-2.0
"""Everything of an instance that only counts: its shadow rules and shadow lists, together."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from xdpguard.control import shadowbook
from xdpguard.control.entries import INTERRUPTED, PENDING
from xdpguard.control.lists import Listbook, Share
from xdpguard.control.loader import Loader
from xdpguard.control.shadowbook import Shadowbook
from xdpguard.control.shadowlists import ShadowListbook
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.store.database import Store


class Dataplane(shadowbook.Dataplane, Protocol):
    """Where the maps are, when there are any."""

    pins: Pins


class ShadowAudit(NamedTuple):
    """What is stored and what the kernel holds of it. ``behind``: a change was interrupted before it was in force."""

    rules: Share
    lists: dict[str, Share]
    behind: bool

    @property
    def whole(self) -> bool:
        """Whether the kernel holds all of it."""
        return not self.behind and all(it.held >= it.stored for it in (self.rules, *self.lists.values()))


class Shadowing:
    """The shadow entries of one instance."""

    def __init__(self, store: Store, dataplane: Dataplane) -> None:
        self._dataplane = dataplane
        self.rules = Shadowbook(store, dataplane)
        self.lists = ShadowListbook(store, dataplane.pins)
        self.loader = Loader(store, self.lists)

    def mend(self) -> None:
        """Puts in force what an interrupted change has left."""
        self.rules.mend()
        self.lists.mend()

    def fill(self) -> None:
        """Makes the maps, which are there, hold what the store holds."""
        with self._dataplane.shadow_tables() as tables:
            self.rules.fill(tables)
            listed = tables.lists_in_force()
        self.lists.settle(listed)

    def harvest(self) -> None:
        """Takes the hits into the store, once, before the maps are given up."""
        with self._dataplane.shadow_tables() as tables:
            self.rules.harvest(tables)
        self.lists.harvest()

    def audit(self, repair: bool = False) -> ShadowAudit:
        """What the kernel holds; ``repair`` puts back what is missing. The maps must be there."""
        behind = self.rules.behind() or self.lists.behind()
        found = ShadowAudit(Share(*self.rules.audit(repair)), self.lists.shares(), behind)
        if repair and (self.lists.behind() or any(it.held < it.stored for it in found.lists.values())):
            self.lists.fill()
        return found


def mend_all(store: Store, lists: Listbook, shadow: Shadowing) -> None:
    """What is to be done before a change of rules: whatever a change before it has left behind in the kernel."""
    if store.fact(INTERRUPTED):
        with store.transaction():
            for fact in (PENDING, shadowbook.PENDING, lists.PENDING, shadow.lists.PENDING):
                store.put_fact(fact, "1")
            store.put_fact(INTERRUPTED, "")
    lists.mend()
    shadow.mend()
