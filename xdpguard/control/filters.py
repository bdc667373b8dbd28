# SPDX-License-Identifier: GPL-2.0
"""The filters. All of them form one set in the kernel, which is swapped as a whole at the end of a change.

Every method that changes anything is one change or part of one (change.py); its caller holds the instance's lock.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

from xdpguard.control.change import Changes
from xdpguard.control.filter_lists import FilterLists, missing_list, soon
from xdpguard.control.filter_order import NEW, check_count, with_source
from xdpguard.control.results import Share
from xdpguard.control.tables import FilterTables, touching
from xdpguard.dataplane.sys import abi
from xdpguard.errors import XdpguardError
from xdpguard.policy.filter import Filter, FilterHits, NewFilter
from xdpguard.store import clock
from xdpguard.store.filters import FilterStore

_HELD = "filters_held"  # fact: JSON of Held; empty: nothing was loaded


class Held(NamedTuple):
    """What was loaded into the kernel: into which maps, as which generation, until when lists in it are right, and a
    checksum, which earlier versions did not record.
    """

    maps: str
    generation: int
    until: float | None
    digest: int | None = None


class FilterWithHits(NamedTuple):
    """A filter and all its hits, including those before a re-attach."""

    its: Filter
    hits: FilterHits


class Filters:
    """The filters of one instance. Implements Image (change.py)."""

    def __init__(
        self,
        changes: Changes,
        tables: Callable[[], AbstractContextManager[FilterTables]],
        now: Callable[[], float] = time.time,
    ) -> None:
        """``tables`` opens the maps, which exist while anything is attached."""
        self.changes = changes
        self.stored = FilterStore(changes.store)
        self._store = changes.store
        self._tables = tables
        self._now = now
        self._changed: set[str] = set()  # lists
        self._fresh: set[str] = set()  # filters that are not to ask lists that do not exist, but for those awaited
        self._awaited: set[str] = set()
        changes.register(self)

    def alive(self) -> list[Filter]:
        """Return the filters that have not ended, in order."""
        return self.stored.alive(self._now())

    def apply(self, wanted: Sequence[Filter], awaited: Iterable[str] = ()) -> bool:
        """Make these the filters, all or none (see filter_order.py); return whether the kernel has them.

        Raises XdpguardError, with nothing changed, if there are too many, or a list they need is missing and is not
        ``awaited``: until it comes, the filter matches nothing.
        """
        held = {it.name: it for it in self.stored.all()}
        # What was purged since this was planned stays gone: its slot may be another's by now.
        wanted = [it for it in wanted if it.slot == NEW or it.name in held]
        names = {it.name for it in wanted}
        gone = [name for name in held if name not in names]
        changed = [it for it in wanted if held.get(it.name) != it]
        if gone or changed:
            with self.changes.begin():
                check_count(wanted, self._now())
                self.changes.release(self, (held[name].slot for name in gone))
                self.stored.remove(gone)
                self._put(changed, held)
                self._awaited.update(awaited)
                self.refill(it.name for it in changed)
        return self.changes.attached()

    def replace_source(self, source: str, wanted: Sequence[NewFilter]) -> None:
        """Make these exactly the filters of one origin, in their order."""
        self.apply(with_source(self.stored.all(), source, wanted))

    def refill(self, fresh: Iterable[str] = ()) -> None:
        """Swap the set in the kernel at the end of this change. ``fresh``: filters that it has put in the store."""
        self._fresh.update(fresh)
        self.changes.finish(self._swap)

    def follow_lists(self, names: Iterable[str]) -> None:
        """Take over lists that were changed, within that change."""
        asked = {name for it in self.alive() for name in it.lists}.intersection(names)
        if asked:
            self._changed |= asked
            self.refill()

    def purge(self) -> None:
        """Take entries of lists that have ended out of the kernel, and filters that ended long ago out of the store,
        if the clock can be believed.
        """
        held = self._held()
        gone = self.stored.long_ended(self._now()) if clock.steady(self._store) else []
        if gone or (held is not None and soon(held.until)):
            with self.changes.aside(), self.changes.begin():
                self.stored.remove(gone)
                self.refill()

    def stale(self) -> bool:
        """Return whether the kernel holds another set than the one loaded last."""
        held = self._held()
        with self._tables() as tables:
            generation = tables.in_force()
        return generation != held.generation if held else bool(generation or self.alive())

    def resync(self) -> None:
        """Make the kernel hold what the store holds, whatever it held before."""
        from xdpguard.dataplane.tables.filterentries import FilterSetFull

        filters, held = self._with_slots(), self._held()
        with self._tables() as tables:
            if held is None or held.maps != tables.generation():
                if not filters and not tables.in_force():
                    return
                tables.clear_hits(range(abi.FILTER_SLOTS))
            try:
                text = self._filled(tables, filters)
            except FilterSetFull as error:
                raise OSError(errno.ENOSPC, str(error)) from error
        with self._store.transaction():
            self._store.put_fact(_HELD, text)

    def audit(self) -> Share:
        """Return how many filters the store has, and how many of them the kernel holds: all, or none if its set is not
        what was loaded.
        """
        count, held = len(self.alive()), self._held()
        whole = not count or not self.stale()
        if whole and held and held.digest is not None:
            with self._tables() as tables:
                whole = tables.digest() == held.digest
        return Share(count, count if whole else 0)

    def in_force(self) -> list[FilterWithHits]:
        """Return the filters that have not ended with their hits, in order."""
        found = self.alive()
        hits = self._new_hits() if found else None
        return [FilterWithHits(it, it.hits.plus(hits(it.slot)) if hits and it.slot >= 0 else it.hits) for it in found]

    def fold_in(self) -> None:
        """Fold the hits into the store, once, before the maps are removed."""
        if not self._store.fact(_HELD):
            return
        hits = self._new_hits()
        with self._store.transaction():
            if hits:
                counted = (it for it in self.stored.all() if it.slot >= 0)
                self.stored.add_hits((FilterHits(*hits(it.slot)), it.name) for it in counted)
            self._store.put_fact(_HELD, "")

    def fresh_slots(self, count: int) -> list[int]:
        """Return slots for filters that a change is about to write, with their counters set to zero."""
        found = self._slots(count)
        if found and self.changes.attached():
            with self._tables() as tables:
                tables.clear_hits(found)
        return found

    def _put(self, changed: Sequence[Filter], held: dict[str, Filter]) -> None:
        """Write filters, those that are new with slots of their own and without hits."""
        new = [it for it in changed if it.slot == NEW]
        again = [it.name for it in new if it.name in held]
        self.changes.release(self, (held[name].slot for name in again))
        self.stored.remove(again)
        slots = iter(self.fresh_slots(len(new)))
        self.stored.put(it if it.slot != NEW else it._replace(slot=next(slots)) for it in changed)

    def _slots(self, count: int) -> list[int]:
        try:
            return self.stored.free_slots(count, self.changes.released(self))
        except XdpguardError:
            # Those that have ended stay, for the clock may be wrong, but count no more.
            self.stored.give_up_slots(self._now())
            return self.stored.free_slots(count, self.changes.released(self))

    def _with_slots(self) -> list[Filter]:
        """Return the filters that have not ended, in order. One that is back as the clock was wrong may need a slot."""
        filters = self.alive()
        lacking = [it.name for it in filters if it.slot < 0]
        if not lacking:
            return filters
        with self._store.transaction():
            self.stored.give_slots(zip(lacking, self.fresh_slots(len(lacking)), strict=True))
        return self.alive()

    def _swap(self) -> None:
        """Run the kernel part of a change."""
        filters = self._with_slots()
        changed, fresh, awaited = self._changed, self._fresh, self._awaited
        self._changed, self._fresh, self._awaited = set(), set(), set()
        for it, name in FilterLists(self._store).missing(filters):
            # One that has been missing all the time hinders no other change.
            if name not in awaited and (it.name in fresh or name in changed):
                raise missing_list(it, name, gone=name in changed)
        if self.changes.attached():
            with touching(self.changes, self, "filters"), self._tables() as tables:
                self._store.put_fact(_HELD, self._filled(tables, filters))
        else:
            from xdpguard.control.filter_set import check_fits

            check_fits(filters, FilterLists(self._store))

    def _filled(self, tables: FilterTables, filters: Sequence[Filter]) -> str:
        """Put a set in force and return its record for the store."""
        from xdpguard.control.filter_set import built

        generation = int.from_bytes(os.urandom(7), "little") + 1 if filters else 0
        lists = FilterLists(self._store)
        tables.put(built(filters, lists), generation)
        return json.dumps(Held(tables.generation(), generation, lists.changes_at(filters), tables.digest()))

    def _new_hits(self) -> Callable[[int], tuple[int, int, int, int]] | None:
        held = self._held()
        if held is None or not self.changes.attached():
            return None
        with self._tables() as tables:
            return tables.hits() if tables.generation() == held.maps else None

    def _held(self) -> Held | None:
        text = self._store.fact(_HELD)
        return Held(*json.loads(text)) if text else None
