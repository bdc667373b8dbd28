# SPDX-License-Identifier: GPL-2.0
"""The filters in the store, in the order in which they are asked.

What has ended stays for a while: whether it has is a question of the clock, which may be wrong. Matches are stored as
they were parsed too, so that no command parses a thousand texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from xdpguard.dataplane.sys import abi
from xdpguard.errors import XdpguardError
from xdpguard.policy.filter import FILTERS, Filter, FilterHits
from xdpguard.policy.limit import Limit
from xdpguard.policy.matching.model import Base, Bytes, Field, ListTest, Match, Range, Test
from xdpguard.store.database import Store
from xdpguard.store.sums import columns_of
from xdpguard.units import counted

GAP = 1 << 20  # between the positions of two filters that were added one after the other
_COUNTS = "packets, bytes, limited_packets, limited_bytes"
_COLUMNS = f"{columns_of('filters')}, {_COUNTS}"
_KEEP = 7 * 86_400.0  # seconds after its end for which a filter stays in the store


class FilterStore:
    """The filters. The caller of a change holds a transaction."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def all(self) -> list[Filter]:
        """Return every filter in order, also those that have ended."""
        rows = self._store.whole("filters", more=_COUNTS, order="position, name")
        return self._store.decoded(lambda: [_filter_of(row) for row in rows])

    def alive(self, now: float) -> list[Filter]:
        """Return the filters that have not ended (``now``: Unix time), in order."""
        return [it for it in self.all() if it.alive(now)]

    def find(self, name: str) -> Filter | None:
        """Return the filter of a name, also if it has ended, or None."""
        rows = self._store.execute(f"SELECT {_COLUMNS} FROM filters WHERE name = ?", (name,))
        return self._store.decoded(lambda: _filter_of(rows[0])) if rows else None

    def of_slot(self, slot: int) -> Filter | None:
        """Return the filter that counts in a slot, or None."""
        rows = self._store.execute(f"SELECT {_COLUMNS} FROM filters WHERE slot = ?", (slot,))
        return self._store.decoded(lambda: _filter_of(rows[0])) if rows else None

    def count(self, now: float) -> dict[str, int]:
        """Return the number of filters that have not ended, by mode (``now``: Unix time)."""
        query = "SELECT mode, count(*) FROM filters WHERE expires IS NULL OR expires > ? GROUP BY mode"
        found = dict(self._store.execute(query, (now,)))
        return {mode: int(found.get(mode, 0)) for mode in ("enforce", "shadow")}

    def put(self, filters: Iterable[Filter]) -> None:
        """Add filters, or replace those of the same name; they then are of this boot (see clock.py)."""
        self._store.unlike = True
        rows = [_row_of(it) for it in filters]
        marks = ", ".join("?" * len(_COLUMNS.split(",")))
        self._store.execute_many(f"INSERT OR REPLACE INTO filters ({_COLUMNS}) VALUES ({marks})", rows)
        self._forget_earlier(str(row[0]) for row in rows)

    def remove(self, names: Iterable[str]) -> None:
        """Delete filters by name."""
        names = list(names)
        self._store.unlike = self._store.unlike or bool(names)
        self._store.execute_many("DELETE FROM filters WHERE name = ?", ((name,) for name in names))
        self._forget_earlier(names)

    def long_ended(self, now: float) -> list[str]:
        """Return the filters that ended so long ago that no clock will bring them back (``now``: Unix time)."""
        return [
            str(row[0]) for row in self._store.execute("SELECT name FROM filters WHERE expires <= ?", (now - _KEEP,))
        ]

    def free_slots(self, count: int, released: Iterable[int] = ()) -> list[int]:
        """Return slots that no filter counts in, last those that this change has released. Raise XdpguardError if there
        are too few.
        """
        used = {row[0] for row in self._store.execute("SELECT slot FROM filters")}
        late = {slot for slot in released if slot >= 0} - used
        fresh = [slot for slot in range(abi.FILTER_SLOTS) if slot not in used | late]
        found = [*fresh, *sorted(late)][:count]
        if len(found) < count:
            find = counted(count - len(found), "filter finds", "filters find")
            raise XdpguardError(f"{find} no counters of hits", "nothing was changed; remove some first")
        return found

    def give_up_slots(self, now: float) -> None:
        """Take the counters from what has ended (``now``: Unix time), which keeps its hits of before, for others."""
        self._store.execute("UPDATE filters SET slot = -2 - rowid WHERE expires <= ? AND slot >= 0", (now,))

    def give_slots(self, slots: Iterable[tuple[str, int]]) -> None:
        """Give counters to filters that gave them up, as pairs of name and slot."""
        self._store.execute_many("UPDATE filters SET slot = ? WHERE name = ?", ((slot, name) for name, slot in slots))

    def add_hits(self, hits: Iterable[tuple[FilterHits, str]]) -> None:
        """Add hits to filters, given as pairs of hits and name."""
        added = ", ".join(f"{name} = {name} + ?" for name in _COUNTS.split(", "))
        self._store.execute_many(f"UPDATE filters SET {added} WHERE name = ?", ((*its, name) for its, name in hits))

    def _forget_earlier(self, names: Iterable[str]) -> None:
        self._store.execute_many(
            "DELETE FROM earlier WHERE kind = 'filter' AND target = ?", ((name,) for name in names)
        )


def of_image(image: Mapping[str, Any]) -> Filter:
    """Return the filter in a row as a change has recorded it, without its hits."""
    names = _COLUMNS.split(", ")
    return _filter_of([image.get(name.strip(), 0) for name in names])


def _row_of(its: Filter) -> tuple[object, ...]:
    rate = json.dumps(its.limit) if its.limit else ""
    return (*its[:2], encoded(its.match), its.action, rate, *its[5:])


def _filter_of(row: Sequence[Any]) -> Filter:
    name, text, match, action, rate, *rest = row
    return Filter(name, text, decoded(match), action, Limit(*json.loads(rate)) if rate else None, *rest)


def encoded(match: Match) -> str:
    """Encode a match as JSON, which has no bounds for the numbers of IPv6 addresses."""
    tests = [(it.field.name, it.ranges) for it in match.tests]
    lists = [(it.field.name, it.name, it.negated) for it in match.lists]
    places = [(it.base.name, *it[1:]) for it in match.bytes]
    return json.dumps([tests, lists, places], separators=(",", ":"))


@lru_cache(maxsize=4 * FILTERS)  # a command reads them several times
def decoded(text: str) -> Match:
    """Decode a match. Raise LookupError, TypeError or ValueError if it is not what `encoded` wrote."""
    tests, lists, places = json.loads(text)
    return Match(
        tuple(Test(Field[name], tuple(cast("Range", (first, last)) for first, last in its)) for name, its in tests),
        tuple(ListTest(Field[name], its, negated) for name, its, negated in lists),
        tuple(Bytes(Base[name], *its) for name, *its in places),
    )
