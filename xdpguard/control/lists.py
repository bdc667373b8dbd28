# SPDX-License-Identifier: GPL-2.0
"""Loading, dropping and showing named lists: the store first, then the kernel, and back again when that refuses.

Every method that changes something wants the instance's lock held.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import listmark
from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import Hits
from xdpguard.store.database import Store
from xdpguard.store.lists import NamedList, Shelf

if TYPE_CHECKING:
    from xdpguard.dataplane.tables.index import Index
    from xdpguard.dataplane.tables.lists import ListMaps
    from xdpguard.lists.addresses import AddressSet

    Added = tuple[NamedList, AddressSet]
    Built = tuple[int, Index | None]  # its generation, and the index: None when there are no lists


class Held(NamedTuple):
    """What the kernel was given: into which maps, which index, its entries by number, sums to know it again by."""

    maps: str
    generation: int
    slots: dict[str, int]
    lines: int
    digest: int


class Share(NamedTuple):
    """Of a list's entries, how many the kernel holds."""

    stored: int
    held: int


class ListHits(NamedTuple):
    """A list and all its hits."""

    its: NamedList
    packets: int
    bytes: int


class Listbook:
    """The named lists of one instance."""

    SHADOW = False
    INDEX = "list_index"  # the map of the index in force
    PENDING = "lists_pending"  # fact: the kernel may differ from the store
    HELD = "lists_held"  # fact: what the kernel was given, JSON of Held; empty: nothing

    def __init__(self, store: Store, pins: Pins) -> None:
        self._store = store
        self._pins = pins
        self.shelf = Shelf(store, self.SHADOW)

    def put(self, its: NamedList, entries: AddressSet) -> bool:
        """Adds a list, or swaps its entries in one step; whether it is in force now (False: nothing is attached).

        XdpguardError, and nothing changed, when the kernel has no room.
        """
        self.apply([(its, entries)], [])
        return self._pins.exist()

    def drop(self, name: str) -> NamedList:
        """Takes a list away. XdpguardError when there is none of that name."""
        its = self.shelf.find(name)
        if its is None:
            known = ", ".join(it.name for it in self.shelf.all()) or "none"
            raise XdpguardError(f"there is no list {name}", f"xdpguard lists show tells which there are: {known}")
        self.apply([], [name])
        return its

    def apply(self, puts: Sequence[tuple[NamedList, AddressSet]], drops: Collection[str]) -> Callable[[], None]:
        """Adds and takes away lists, all or none, in one swap; returns what undoes it.

        XdpguardError, and nothing changed, when the kernel has no room.
        """
        names = [*(its.name for its, _ in puts), *drops]
        before = [self.shelf.find(name) for name in names]
        old = [(it, self.shelf.entries(it.name)) for it in before if it is not None]
        fresh = [its.number for its, _ in puts if its.number not in {it.number for it, _ in old}]
        if fresh and self._pins.exist():
            with self._maps() as maps:
                maps.clear_hits(fresh)

        def change(gone: Collection[str], added: Sequence[tuple[NamedList, AddressSet]]) -> None:
            with self._store.transaction():
                self._replace(gone, added)
                self._store.put_fact(self.PENDING, "1")

        def undo() -> None:
            change(names, old)
            if self._pins.exist():
                self.fill()

        changed = False
        try:
            # First of all what may fail for want of memory: nothing is changed yet.
            built = (
                self._built({its.name: (its, entries) for its, entries in puts}, names) if self._pins.exist() else None
            )
            change(drops, puts)
            changed = True
            if built is not None:
                self._force(built)
        except (OSError, MemoryError) as error:
            if changed:
                change(names, old)
                self._settled()
            raise XdpguardError(
                f"the kernel did not take the list {', '.join(names)}: {error}", "nothing was changed; free some memory"
            ) from error
        return undo

    def _replace(self, gone: Collection[str], added: Sequence[tuple[NamedList, AddressSet]]) -> None:
        for name in gone:
            self.shelf.remove(name)
        for its, entries in added:
            self.shelf.put(its, entries)

    def in_kernel(self) -> bool:
        """Whether there are maps, so that what is stored is in force."""
        return self._pins.exist()

    def behind(self) -> bool:
        """Whether the kernel holds other lists than the store: a change was interrupted, or another store made it."""
        if not self._pins.exist():
            return False
        held = self._held()
        if self._store.fact(self.PENDING) or (held is None and self.shelf.all()):
            return True
        return listmark.generation(self._pins, self.INDEX) != (held.generation if held else 0)

    def mend(self) -> None:
        """Puts in force what an interrupted change has left. Without memory for that, it stays for the next time."""
        if self.behind():
            with contextlib.suppress(MemoryError):
                self.fill()

    def settle(self, in_force: bool) -> None:
        """Brings the kernel in line after new maps were made, a command was killed, or another store filled them.

        ``in_force``: whether the program is told that there are lists; if neither it nor the store knows of any, this
        costs nothing.
        """
        lists = self.shelf.all()
        if not lists and not in_force:
            return
        held = self._held()
        with self._maps() as maps:
            known = held is not None and held.maps == maps.generation()
            if known and not self.behind():
                return
            if not known:
                maps.clear_hits(range(len(lists) and max(it.number for it in lists) + 1))
        self.fill()

    def fill(self) -> None:
        """Makes the kernel hold what the store holds."""
        self._force(self._built({}, ()))

    def _built(self, puts: Mapping[str, Added], gone: Collection[str]) -> Built:
        """The index of what the store holds, with other lists in place of those that are gone."""
        import secrets

        from xdpguard.dataplane.tables.index import build

        generation = secrets.randbits(63) + 1
        sets = [(it.number, self.shelf.entries(it.name)) for it in self.shelf.all() if it.name not in gone]
        sets += [(its.number, entries) for its, entries in puts.values()]
        if not sets:
            return generation, None
        return generation, build(sorted(sets, key=lambda pair: pair[0]), generation)

    def _force(self, built: Built) -> None:
        generation, index = built
        with self._maps() as maps:
            if index is None:
                maps.empty()
                self._settled(None, forget=True)
                return
            maps.swap(index.lines, index.nets4, index.nets6, index.wide6)
            slots = {str(number): count for number, count in index.slots.items()}
            total = int(index.lines.sum(dtype=index.lines.dtype))
            self._settled(Held(maps.generation(), generation, slots, total, maps.digest()))

    def shares(self) -> dict[str, Share]:
        """By name, how many of a list's entries the kernel holds: counted there, not remembered."""
        lists = self.shelf.all()
        given = self._held()
        if not lists or not self._pins.exist():
            return {}
        with self._maps() as maps:
            lines = maps.lines()
            whole = given is not None and maps.digest() == given.digest and given.maps == maps.generation()
            whole = whole and not self.behind()
        if lines is None or given is None:
            return {it.name: Share(it.entries, 0) for it in lists}
        if whole and int(lines.sum(dtype=lines.dtype)) == given.lines:
            return {it.name: Share(it.entries, it.entries) for it in lists}
        from xdpguard.dataplane.tables.index import held as count

        found = count(lines)
        shares = {}
        for it in lists:
            wanted = given.slots.get(str(it.number), 0)
            # Of prefixes written as several entries, those that are there in part do not count.
            held = it.entries * found.get(it.number, 0) // wanted if wanted else it.entries
            shares[it.name] = Share(it.entries, min(held, it.entries - 1) if it.entries else 0)
        return shares

    def in_force(self) -> list[ListHits]:
        """All lists with their hits."""
        lists = self.shelf.all()
        hits = self._new_hits() if lists else None
        found = []
        for it in lists:
            new = hits(it.number) if hits else Hits(0, 0)
            found.append(ListHits(it, it.packets + new.packets, it.bytes + new.bytes))
        return found

    def harvest(self) -> None:
        """Takes the hits into the store, once, before the maps are given up."""
        if not self._store.fact(self.HELD):
            return
        hits = self._new_hits()
        with self._store.transaction():
            if hits:
                self.shelf.add_hits((*hits(it.number), it.name) for it in self.shelf.all())
            self._store.put_fact(self.HELD, "")

    def _new_hits(self) -> Callable[[int], Hits] | None:
        held = self._held()
        if held is None or not self._pins.exist():
            return None
        with self._maps() as maps:
            return maps.hits() if maps.generation() == held.maps else None

    def _maps(self) -> ListMaps:
        from xdpguard.dataplane.tables.lists import ListMaps

        return ListMaps(self._pins)

    def _held(self) -> Held | None:
        text = self._store.fact(self.HELD)
        return Held(**json.loads(text)) if text else None

    def _settled(self, held: Held | None = None, forget: bool = False) -> None:
        with self._store.transaction():
            if held is not None or forget:
                self._store.put_fact(self.HELD, json.dumps(held._asdict()) if held else "")
            self._store.put_fact(self.PENDING, "")
