# SPDX-License-Identifier: GPL-2.0
"""Follow the clock when it is set: ends in the store are Unix time, in the kernel seconds since boot.

A rule that was made in this boot keeps its length, whatever the clock says: its end in the store moves with the clock.
A rule from an earlier boot keeps its end, which the kernel then learns anew; if it ended while the clock was wrong, it
is kept for a while, and comes back when its end is in the future again. So do filters and entries of lists.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.policy.rule import Mode, NewRule, Rule
from xdpguard.policy.target import parse_stored
from xdpguard.store import journal
from xdpguard.store.database import Store

_FACT = "clock"  # fact: boot id, offset and since of Reference
STEP = 0.5  # seconds by which the clock may drift from the store's reference unnoticed
_STEADY = 7 * 86_400.0  # seconds without a step after which the clock is believed
_MOST = 50_000  # rows of what has ended kept from earlier boots
_TIMED = ("rules", "parts")
_ENDED = ("ended", "lapsed")
_FORGET = "DELETE FROM earlier WHERE (mode, kind, target) = (?, ?, ?)"
_OF_EARLIER = "(mode, kind, target) IN (SELECT mode, kind, target FROM earlier)"
# Of lists: those that are as they were before this boot, and those of which any entry has an end.
_EARLIER_LIST = "(mode, 'list', name) IN (SELECT mode, kind, target FROM earlier)"
_EARLIER_FILTER = "name IN (SELECT target FROM earlier WHERE kind = 'filter')"
_TIMED_LIST = "(mode, name) IN (SELECT mode, name FROM list_entries WHERE length(ends) > 0)"


class Reference(NamedTuple):
    """The clock by which the store's ends and the kernel's agree. ``offset``: CLOCK_BOOTTIME minus Unix time;
    ``since``: CLOCK_BOOTTIME from which on it has been so. Seconds.
    """

    boot: str
    offset: float
    since: float


def reference(store: Store) -> Reference | None:
    """Return the reference of this boot; None if there is none yet."""
    text = store.fact(_FACT)
    boot, _, numbers = text.partition(" ")
    if boot != kernel.boot_id():
        return None
    offset, since = numbers.split()
    return Reference(boot, float(offset), float(since))


def stepped(store: Store) -> float:
    """Return by how many seconds the clock was set ahead since the reference; 0.0: not enough to matter."""
    its = reference(store)
    ahead = its.offset - boot_offset() if its else 0.0
    return ahead if abs(ahead) > STEP else 0.0


def of_earlier(store: Store, rules: Sequence[Rule]) -> list[Rule]:
    """Return those of these rules that are as they were before this boot."""
    places = {tuple(row) for row in store.execute("SELECT mode, kind, target FROM earlier")}
    return [it for it in rules if (it.mode, it.kind, str(it.target)) in places]


def steady(store: Store) -> bool:
    """Return whether the clock has not been set for a week, so that what ended long ago did end."""
    its = reference(store)
    return its is not None and not stepped(store) and time.clock_gettime(time.CLOCK_BOOTTIME) - its.since > _STEADY


def begin(store: Store) -> None:
    """Take the clock as it is for the reference of a new boot, within a transaction."""
    store.execute("DELETE FROM earlier")
    for table in _TIMED:
        store.execute(f"INSERT OR IGNORE INTO earlier SELECT mode, kind, target FROM {table} WHERE expires IS NOT NULL")
    store.execute(f"INSERT INTO earlier SELECT mode, 'list', name FROM lists WHERE {_TIMED_LIST}")
    store.execute("INSERT INTO earlier SELECT '', 'filter', name FROM filters WHERE expires IS NOT NULL")
    for table in _ENDED:
        store.execute(f"DELETE FROM {table} WHERE rowid <= (SELECT max(rowid) FROM {table}) - ?", (_MOST,))
    _refer(store)


def follow(store: Store, ahead: float) -> None:
    """Move the ends of what was made in this boot by the clock's step, and of what `undo` would put back of it, within
    a transaction.
    """
    journal.follow(store, ahead)
    for table in _TIMED:
        store.execute(f"UPDATE {table} SET expires = expires + ? WHERE NOT {_OF_EARLIER}", (ahead,))
    store.execute(f"UPDATE lists SET shift = shift + ? WHERE {_TIMED_LIST} AND NOT {_EARLIER_LIST}", (ahead,))
    store.execute(f"UPDATE filters SET expires = expires + ? WHERE NOT {_EARLIER_FILTER}", (ahead,))
    _refer(store)


def show_as_in_kernel(store: Store, attached: bool) -> None:
    """Make a store that is only read show ends as the kernel has them, where it has not followed a step yet.

    While nothing is ``attached``, they are as the next change makes them.
    """
    ahead = stepped(store)
    if not ahead:
        return
    store.use_copy()
    for table in _TIMED:
        where = "" if attached else f"WHERE NOT {_OF_EARLIER}"
        store.execute(f"UPDATE {table} SET expires = expires + ? {where}", (ahead,))
    where = "" if attached else f"AND NOT {_EARLIER_LIST}"
    store.execute(f"UPDATE lists SET shift = shift + ? WHERE {_TIMED_LIST} {where}", (ahead,))
    where = "" if attached else f"WHERE NOT {_EARLIER_FILTER}"
    store.execute(f"UPDATE filters SET expires = expires + ? {where}", (ahead,))


def mark(store: Store, entries: Mapping[tuple[str, ...], bool]) -> None:
    """Make entries that are put back as they were before this boot, or else of this boot."""
    for its, old in entries.items():
        query = "INSERT OR REPLACE INTO earlier VALUES (?, ?, ?)" if old else _FORGET
        store.execute(query, its)


def misplaced(store: Store, now: float) -> int:
    """Return how many rules in force are from an earlier boot and have an end (``now``: Unix time)."""
    return int(store.execute(f"SELECT count(*) FROM rules WHERE expires > ? AND {_OF_EARLIER}", (now,))[0][0])


def misplaced_lists(store: Store, mode: Mode | None = None) -> int:
    """Return how many lists, of a mode or of both, are from an earlier boot and have entries with an end."""
    where, values = ("AND mode = ?", (mode,)) if mode else ("", ())
    query = f"SELECT count(*) FROM lists WHERE {_EARLIER_LIST} AND {_TIMED_LIST} {where}"
    return int(store.execute(query, values)[0][0])


def has_lapsed(store: Store, now: float) -> bool:
    """Return whether something has ended whose end is in the future (``now``: Unix time)."""
    return bool(store.execute("SELECT 1 FROM lapsed WHERE expires > ? LIMIT 1", (now,)))


def returning(store: Store, mode: Mode, now: float) -> list[NewRule]:
    """Take out of what has ended the parts that have not (``now``: Unix time): the clock was wrong when they did."""
    query = "SELECT kind, target, reason, source, created, expires FROM lapsed WHERE mode = ? AND expires > ?"
    found = store.execute(query, (mode, now))
    if found:
        store.execute("DELETE FROM lapsed WHERE mode = ? AND expires > ?", (mode, now))
    return [NewRule(kind, parse_stored(kind, target), *rest) for kind, target, *rest in found]


def forget(store: Store, now: float) -> None:
    """Forget what ended more than a week ago (``now``: Unix time), if the clock can be believed."""
    for table in _ENDED if steady(store) else ():
        store.execute(f"DELETE FROM {table} WHERE expires < ?", (now - _STEADY,))


def _refer(store: Store) -> None:
    since = time.clock_gettime(time.CLOCK_BOOTTIME)
    store.put_fact(_FACT, f"{kernel.boot_id()} {boot_offset():.3f} {since:.3f}")
