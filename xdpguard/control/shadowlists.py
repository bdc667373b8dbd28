# SPDX-License-Identifier: GPL-2.0
"""Shadow lists: named lists that only count, in store and kernel beside those that drop."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from xdpguard.control.lists import Listbook, ListHits
from xdpguard.control.shadowbook import ShadowList
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.policy.hits import NO_SPLIT
from xdpguard.store.database import Store
from xdpguard.store.shadow import Shadows

if TYPE_CHECKING:
    from xdpguard.dataplane.tables.shadowlists import ShadowListMaps
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.store.lists import NamedList


class ShadowListbook(Listbook):
    """The shadow lists of one instance."""

    SHADOW = True
    INDEX = "shadow_index"
    PENDING, HELD = "shadow_lists_pending", "shadow_lists_held"

    def __init__(self, store: Store, pins: Pins) -> None:
        super().__init__(store, pins)
        self._shadows = Shadows(store)

    def counted(self) -> list[ShadowList]:
        """All shadow lists with what they have counted."""
        lists = self.shelf.all()
        if not lists:
            return []
        stored, splits = self._shadows.hits("list"), None
        held = self._held()
        if held is not None and self._pins.exist():
            with self._maps() as maps:
                splits = maps.splits() if maps.generation() == held.maps else None
        found = []
        for it in lists:
            split = stored.get(it.name, NO_SPLIT).plus(splits(it.number) if splits else NO_SPLIT)
            found.append(ShadowList(ListHits(it, *split.total), split))
        return found

    def in_force(self) -> list[ListHits]:
        """All shadow lists with everything that they have counted."""
        return [it.found for it in self.counted()]

    def harvest(self) -> None:
        """Takes the hits into the store, once, before the maps are given up."""
        held = self._held()
        if held is None:
            return
        with self._store.transaction():
            with self._maps() as maps:
                if maps.generation() == held.maps:
                    splits = maps.splits()
                    self._shadows.add_hits("list", ((it.name, splits(it.number)) for it in self.shelf.all()))
            self._store.put_fact(self.HELD, "")

    def _replace(self, gone: Collection[str], added: Sequence[tuple[NamedList, AddressSet]]) -> None:
        super()._replace(gone, added)
        stay = {its.name for its, _ in added}
        for name in gone:
            if name not in stay:
                self._shadows.forget("list", name)

    def _maps(self) -> ShadowListMaps:
        from xdpguard.dataplane.tables.shadowlists import ShadowListMaps

        return ShadowListMaps(self._pins)
