# SPDX-License-Identifier: GPL-2.0
"""The named lists of one mode. All of them form one index in the kernel, which is swapped as a whole.

Every method that changes anything is one change or part of one (change.py); its caller holds the instance's lock.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.control.change import Changes
from xdpguard.control.results import ListHits, Share
from xdpguard.dataplane.sys import indexes
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import listmark
from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import NO_HITS, Hits, Split, with_more
from xdpguard.policy.rule import Mode
from xdpguard.store.lists import ListStore, NamedList

if TYPE_CHECKING:
    from xdpguard.dataplane.tables.index import Index
    from xdpguard.dataplane.tables.lists import ListMaps
    from xdpguard.lists.addresses import AddressSet


class Held(NamedTuple):
    """What was loaded into the kernel: the maps' generation, the index's generation, entries by list, and checksums."""

    maps: str
    generation: int
    slots: dict[str, int]
    lines: int
    digest: int


class Lists:
    """The named lists of one instance in one mode. Implements Image (change.py)."""

    def __init__(self, changes: Changes, pins: Pins, mode: Mode = "enforce") -> None:
        self.mode: Mode = mode
        self.changes = changes
        self.stored = ListStore(changes.store, mode)
        self.on_change: Callable[[Collection[str]], None] = lambda names: None  # called within each change
        self._store = changes.store
        self._pins = pins
        self._index = indexes.LIST_INDEX if mode == "enforce" else indexes.SHADOW_INDEX  # the map of the index in force
        # Fact: what was loaded into the kernel, JSON of Held; empty: nothing.
        self._fact = "lists_held" if mode == "enforce" else "shadow_lists_held"
        self._step = "lists" if mode == "enforce" else "shadow-lists"
        changes.register(self)

    def put(self, its: NamedList, entries: AddressSet) -> bool:
        """Add a list, or swap its entries atomically; return whether it is in force (False: nothing is attached).

        Raises XdpguardError, with nothing changed, if the kernel has no room.
        """
        self.apply([(its, entries)], [])
        return self._pins.exist()

    def drop(self, name: str) -> NamedList:
        """Remove a list and return it. Raise XdpguardError if there is none of that name."""
        its = self.stored.find(name)
        if its is None:
            known = ", ".join(it.name for it in self.stored.all()) or "none"
            raise XdpguardError(f"there is no list {name}", f"xdpguard lists show shows which exist: {known}")
        self.apply([], [name])
        return its

    def apply(self, puts: Sequence[tuple[NamedList, AddressSet]], drops: Collection[str]) -> None:
        """Add and remove lists, all or none, in one swap.

        Raises XdpguardError, with nothing changed, if the kernel has no room.
        """
        names = [*(its.name for its, _ in puts), *drops]
        with self.changes.begin():
            held = {it.number for it in self.stored.all()}
            fresh = [its.number for its, _ in puts if its.number not in held]
            if fresh and self._pins.exist():
                with self._maps() as maps:
                    maps.clear_hits(fresh)
            for name in drops:
                self.stored.remove(name)
            for its, entries in puts:
                self.stored.put(its, entries)
            self.on_change(names)
            if self._pins.exist():
                try:
                    self._swap()
                except (OSError, MemoryError) as error:
                    words = "list" if len(names) == 1 else "lists"
                    raise XdpguardError(
                        f"the kernel did not accept the {words} {', '.join(names)}: {error}",
                        "nothing was changed; free some memory",
                    ) from error

    def refill(self, fresh: Collection[str]) -> None:
        """Make the kernel hold what the store holds, within a change that has written to the store itself.

        ``fresh``: lists that are new, which count from zero. Raise XdpguardError if the kernel has no room.
        """
        numbers = [it.number for it in self.stored.all() if it.name in fresh]
        if numbers and self._pins.exist():
            with self._maps() as maps:
                maps.clear_hits(numbers)
        self.apply([], [])
        self.on_change([it.name for it in self.stored.all()])

    def in_kernel(self) -> bool:
        """Return whether the maps exist, so that what is stored is in force."""
        return self._pins.exist()

    def stale(self) -> bool:
        """Return whether the kernel holds another index than the one loaded last."""
        held = self._held()
        if held is None:
            return bool(self.stored.all()) or listmark.generation(self._pins, self._index) != 0
        return listmark.generation(self._pins, self._index) != held.generation

    def resync(self) -> None:
        """Make the kernel hold what the store holds. Cheap if there are no lists or nothing differs."""
        lists = self.stored.all()
        if not lists and not listmark.asked(self._pins, self.mode) and not self.stale():
            return
        held = self._held()
        with self._maps() as maps:
            known = held is not None and held.maps == maps.generation()
            if held is not None and known and not self.stale() and maps.digest() == held.digest:
                lines = maps.lines()
                if lines is not None and zlib.crc32(lines.data) == held.lines:
                    return
            if not known:
                maps.clear_hits(range(len(lists) and max(it.number for it in lists) + 1))
        self.fill()

    def fill(self) -> None:
        """Make the kernel hold what the store holds, whatever it held before."""
        held = self._force(self._built())
        with self._store.transaction():
            self._store.put_fact(self._fact, held)

    def _swap(self) -> None:
        """Run the kernel part of a change."""
        built = self._built()  # first, because it may run out of memory
        self.changes.touch(self, self._step)
        self._store.put_fact(self._fact, self._force(built))

    def _built(self) -> tuple[int, Index | None]:
        """Build the index of what the store holds; return its generation and it, or None if there are no lists."""
        import secrets

        from xdpguard.dataplane.tables.index import build

        generation = secrets.randbits(63) + 1
        sets = [(it.number, self.stored.in_force(it.name)) for it in self.stored.all()]
        return generation, build(sets, generation) if sets else None

    def _force(self, built: tuple[int, Index | None]) -> str:
        """Put an index in force and return its record for the store."""
        generation, index = built
        with self._maps() as maps:
            if index is None:
                maps.empty()
                return ""
            maps.swap(index.lines, index.nets4, index.nets6, index.wide6)
            slots = {str(number): count for number, count in index.slots.items()}
            total = zlib.crc32(index.lines.data)
            return json.dumps(Held(maps.generation(), generation, slots, total, maps.digest())._asdict())

    def shares(self) -> dict[str, Share]:
        """Return, by list name, how many of the entries in force the kernel holds, counted in its maps."""
        lists = self.stored.all()
        given = self._held()
        if not lists or not self._pins.exist():
            return {}
        with self._maps() as maps:
            lines = maps.lines()
            whole = given is not None and maps.digest() == given.digest and given.maps == maps.generation()
            whole = whole and not self.stale()
        if lines is None or given is None:
            return {it.name: Share(it.entries, 0) for it in lists}
        if whole and zlib.crc32(lines.data) == given.lines:
            return {it.name: Share(it.entries, it.entries) for it in lists}
        from xdpguard.dataplane.tables.index import held as count

        found = count(lines)
        shares = {}
        with self._maps() as maps:
            for it in lists:
                wanted = given.slots.get(str(it.number), 0)
                # A prefix written as several entries does not count while only part of it is held.
                held = it.entries * found.get(it.number, 0) // wanted if wanted else it.entries
                held = min(held, maps.reached(self.stored.in_force(it.name)))
                shares[it.name] = Share(it.entries, min(held, it.entries - 1) if it.entries else 0)
        return shares

    def in_maps(self) -> dict[int, AddressSet]:
        """Return the entries by list number as the kernel holds them, for a store that lost them."""
        from xdpguard.dataplane.tables.rebuilt import sets

        with self._maps() as maps:
            lines = maps.lines()
        return {} if lines is None else sets(lines)

    def in_force(self) -> list[ListHits]:
        """Return all lists with their hits."""
        lists = self.stored.all()
        hits = self._new_hits() if lists else None
        found = []
        for it in lists:
            found.append(ListHits(it, *with_more(it, self.mode, hits(it.number) if hits else NO_HITS)))
        return found

    def fold_in(self) -> None:
        """Fold the hits into the store, once, before the maps are removed."""
        if not self._store.fact(self._fact):
            return
        hits = self._new_hits()
        with self._store.transaction():
            if hits:
                self.stored.add_hits((hits(it.number), it.name) for it in self.stored.all())
            self._store.put_fact(self._fact, "")

    def _new_hits(self) -> Callable[[int], Hits | Split] | None:
        held = self._held()
        if held is None or not self._pins.exist():
            return None
        with self._maps() as maps:
            return maps.counts() if maps.generation() == held.maps else None

    def _maps(self) -> ListMaps:
        if self.mode == "shadow":
            from xdpguard.dataplane.tables.shadowlists import ShadowListMaps

            return ShadowListMaps(self._pins)
        from xdpguard.dataplane.tables.lists import ListMaps

        return ListMaps(self._pins)

    def _held(self) -> Held | None:
        text = self._store.fact(self._fact)
        return Held(**json.loads(text)) if text else None
