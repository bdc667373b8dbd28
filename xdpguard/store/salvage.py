# SPDX-License-Identifier: GPL-2.0
"""What a damaged store still has as it was written, by the sums of its checksums: newer than any copy of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xdpguard.errors import XdpguardError
from xdpguard.store import keeping
from xdpguard.store.database import Store
from xdpguard.store.sums import columns_of

# By what they are called: tables that are taken together or not at all.
_TOGETHER = {"rules": ("rules", "parts"), "lists": ("lists", "list_entries"), "filters": ("filters",)}


def salvage(damaged: Path, into: Store) -> list[str]:
    """Put what a damaged file has whole in place of what a new store has of it; return what that is.

    What is empty there is not taken: a file that lost everything is whole, too.
    """
    try:
        old = Store(damaged, read_only=True)
    except XdpguardError:
        return []
    taken = []
    with old:
        for words, places in _TOGETHER.items():
            try:
                found = {place: _rows(old, place) for place in places}
            except keeping.Damaged:
                continue
            if not any(found.values()):
                continue
            with into.transaction():
                for place, rows in found.items():
                    into.execute(f"DELETE FROM {place}")
                    names = _columns(into, place)
                    marks = ", ".join("?" * len(names))
                    into.execute_many(f"INSERT INTO {place} ({', '.join(names)}) VALUES ({marks})", rows)
            taken.append(words)
    return taken


def _columns(store: Store, place: str) -> list[str]:
    """Return the columns of a table: those that are summed first, as `Store.whole` returns them."""
    summed = columns_of(place).split(", ")
    return summed + [name for _, name, *_ in store.execute(f"PRAGMA table_info({place})") if name not in summed]


def _rows(store: Store, place: str) -> list[tuple[Any, ...]]:
    more = _columns(store, place)[len(columns_of(place).split(", ")) :]
    return store.whole(place, more=", ".join(more))
