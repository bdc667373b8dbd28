# SPDX-License-Identifier: GPL-2.0
"""The named lists in the store: a record for each, and its entries as blobs.

Entries that have ended stay in the store as long as their list is loaded: what is in force is a question of the clock,
which may be wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from xdpguard.dataplane.sys import abi
from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import NO_SPLIT, Hits, Split
from xdpguard.policy.rule import Mode
from xdpguard.store.database import Store
from xdpguard.store.rows import ADDED, COUNTS, counts_of, hits_of
from xdpguard.store.sums import columns_of
from xdpguard.store.timing import UNTIMED, Timing, timing, whole

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_OWN = "name, number, source, file, stamp, format, loaded, given, entries, duplicates, skipped, forced"
_COLUMNS = f"mode, {_OWN}, {COUNTS}"
_ENDS = "(SELECT ends FROM list_entries AS its WHERE (its.mode, its.name) = (lists.mode, lists.name))"
_SHIFT = "(SELECT shift FROM lists AS its WHERE (its.mode, its.name) = (list_entries.mode, list_entries.name))"
_MORE = f"{COUNTS}, {_ENDS}"


class NamedList(NamedTuple):
    """A list as it was last loaded. ``loaded`` is Unix time; ``packets`` and ``bytes`` are the hits in the store.

    ``entries``: prefixes in force at the moment; ``timing``: which of them have an end, and how many have ended.
    ``forced``: loaded with --force, so that it is exempt from safety checks.
    """

    name: str
    number: int
    source: str
    file: str
    stamp: str
    format: str
    loaded: float
    given: int
    entries: int
    duplicates: int
    skipped: int
    forced: bool
    packets: int = 0
    bytes: int = 0
    mode: Mode = "enforce"
    split: Split = NO_SPLIT  # hits of a shadow list by sender
    timing: Timing = UNTIMED


class ListStore:
    """The lists of one mode, with names and numbers of its own. The caller of a change holds a transaction."""

    def __init__(self, store: Store, mode: Mode = "enforce") -> None:
        self._store = store
        self._mode = mode

    def all(self) -> list[NamedList]:
        """Return all lists by number, which is the order in which they are matched."""
        rows = self._store.whole("lists", (self._mode,), _MORE, "number")
        return self._store.decoded(lambda: [_list_of(row) for row in rows])

    def find(self, name: str) -> NamedList | None:
        """Return the list of a name, or None."""
        query = f"SELECT {columns_of('lists')}, {_MORE} FROM lists WHERE mode = ? AND name = ?"
        rows = self._store.execute(query, (self._mode, name))
        return self._store.decoded(lambda: _list_of(rows[0])) if rows else None

    def free_number(self, taken: Iterable[int] = ()) -> int:
        """Return a number that no list has and that is not ``taken``. Raise XdpguardError if there is none."""
        rows = self._store.execute("SELECT number FROM lists WHERE mode = ?", (self._mode,))
        used = {row[0] for row in rows}.union(taken)
        number = next((number for number in range(abi.LISTS) if number not in used), None)
        if number is None:
            raise XdpguardError(f"there are {abi.LISTS} lists already", "remove one, or merge several into one file")
        return number

    def put(self, its: NamedList, entries: AddressSet) -> None:
        """Add a list, or replace it and its entries; it then is of this boot (see clock.py)."""
        self._store.unlike = True
        counts = counts_of(its.split if self._mode == "shadow" else Hits(its.packets, its.bytes))
        row = (self._mode, *its._replace(entries=len(entries))[:12], *counts)
        marks = ", ".join("?" * len(row))
        self._store.execute(f"INSERT OR REPLACE INTO lists ({_COLUMNS}) VALUES ({marks})", row)
        packed = (self._mode, its.name, *entries.packed())
        self._store.execute(
            "INSERT OR REPLACE INTO list_entries (mode, name, four, six, ends) VALUES (?, ?, ?, ?, ?)", packed
        )
        self._forget_earlier(its.name)

    def in_force(self, name: str) -> AddressSet:
        """Return the entries of a list that have not ended."""
        return self.entries(name).at(time.time())

    def entries(self, name: str) -> AddressSet:
        """Return all entries of a list, also those that have ended."""
        from xdpguard.lists.addresses import unpacked

        rows = self._store.whole("list_entries", (self._mode, name), _SHIFT)

        def decode() -> AddressSet:
            ((_, _, four, six, ends, shift),) = rows
            return unpacked(four, six, ends, whole(shift))

        return self._store.decoded(decode)

    def remove(self, name: str) -> None:
        """Delete a list and its entries."""
        self._store.unlike = True
        for table in ("lists", "list_entries"):
            self._store.execute(f"DELETE FROM {table} WHERE mode = ? AND name = ?", (self._mode, name))
        self._forget_earlier(name)

    def add_hits(self, hits: Iterable[tuple[Hits | Split, str]]) -> None:
        """Add hits to lists, given as pairs of hits and list name."""
        for more, name in hits:
            row = (*counts_of(more), self._mode, name)
            self._store.execute(f"UPDATE lists SET {ADDED} WHERE mode = ? AND name = ?", row)

    def _forget_earlier(self, name: str) -> None:
        self._store.execute("DELETE FROM earlier WHERE mode = ? AND kind = 'list' AND target = ?", (self._mode, name))


def _list_of(row: Sequence[Any]) -> NamedList:
    mode, own, shift, ends = row[0], row[1:13], row[13], row[-1]
    hits, split = hits_of(row[14:-1], mode)
    its = timing(ends or b"", whole(shift), time.time())
    found = NamedList._make((*own, *hits, mode, split, its))
    return found._replace(entries=found.entries - its.ended)
