# SPDX-License-Identifier: GPL-2.0
"""The named lists in the store: what is known of each, and its entries as two blobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.dataplane.sys import abi
from xdpguard.errors import XdpguardError
from xdpguard.store.database import Store

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_COLUMNS = (
    "name, number, source, file, stamp, format, loaded, given, entries, duplicates, skipped, forced, packets, bytes"
)


class NamedList(NamedTuple):
    """A list as it was last loaded. ``loaded`` is Unix time; packets and bytes are hits taken into the store.

    ``forced``: loaded with --force, so nobody asks again whether it cuts something off.
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


class Shelf:
    """The lists of a store. Whoever changes something holds a transaction."""

    def __init__(self, store: Store, shadow: bool = False) -> None:
        """``shadow``: the shadow lists, which have names and numbers of their own."""
        self._store = store
        self._lists, self._entries = ("shadow_lists", "shadow_list_entries") if shadow else ("lists", "list_entries")

    def all(self) -> list[NamedList]:
        """Every list, in order of number: the order in which they are asked."""
        return [NamedList(*row) for row in self._store.execute(f"SELECT {_COLUMNS} FROM {self._lists} ORDER BY number")]

    def find(self, name: str) -> NamedList | None:
        """The list of that name."""
        rows = self._store.execute(f"SELECT {_COLUMNS} FROM {self._lists} WHERE name = ?", (name,))
        return NamedList(*rows[0]) if rows else None

    def free_number(self, taken: Iterable[int] = ()) -> int:
        """A number that no list has and that is not ``taken``. XdpguardError when there are too many lists."""
        used = {row[0] for row in self._store.execute(f"SELECT number FROM {self._lists}")}.union(taken)
        number = next((number for number in range(abi.LISTS) if number not in used), None)
        if number is None:
            raise XdpguardError(f"there are {abi.LISTS} lists already", "drop one, or join several into one file")
        return number

    def put(self, its: NamedList, entries: AddressSet) -> None:
        """Adds a list, or gives it new entries."""
        marks = ", ".join("?" * len(its))
        self._store.execute(f"INSERT OR REPLACE INTO {self._lists} ({_COLUMNS}) VALUES ({marks})", tuple(its))
        self._store.execute(f"INSERT OR REPLACE INTO {self._entries} VALUES (?, ?, ?)", (its.name, *entries.packed()))

    def entries(self, name: str) -> AddressSet:
        """What a list holds."""
        from xdpguard.lists.addresses import unpacked

        ((four, six),) = self._store.execute(f"SELECT four, six FROM {self._entries} WHERE name = ?", (name,))
        return unpacked(four, six)

    def restamp(self, name: str, stamp: str) -> None:
        """Remembers that a file was looked at and holds what it held."""
        self._store.execute(f"UPDATE {self._lists} SET stamp = ? WHERE name = ?", (stamp, name))

    def remove(self, name: str) -> None:
        """Deletes a list."""
        self._store.execute(f"DELETE FROM {self._lists} WHERE name = ?", (name,))
        self._store.execute(f"DELETE FROM {self._entries} WHERE name = ?", (name,))

    def add_hits(self, hits: Iterable[tuple[int, int, str]]) -> None:
        """Adds (packets, bytes) to the list of a name."""
        for row in hits:
            self._store.execute(
                f"UPDATE {self._lists} SET packets = packets + ?, bytes = bytes + ? WHERE name = ?", row
            )
