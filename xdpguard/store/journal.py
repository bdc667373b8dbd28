# SPDX-License-Identifier: GPL-2.0
"""The last changes made by commands, each with the rows that it touched as they were before: what `undo` goes by.

Rows are kept whole and by key, as JSON, so that a column more breaks nothing. recorder.py writes them.
"""

from __future__ import annotations

import json
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from xdpguard.dataplane.sys import kernel
from xdpguard.store.database import Store

KEPT = 10  # changes
LARGEST = 32 << 20  # bytes of rows that are kept of a change

State = Literal["kept", "pending", "undone", "unconfirmed"]
Image = dict[str, Any]  # a row, by column


class Recorded(NamedTuple):
    """A table whose rows are recorded: the columns that identify a row, and those that are not part of a change.

    ``volatile`` ones a row that comes back gets anew; ``aside`` ones it gets back, but they are not compared.
    ``added``: what a row has in the columns that tables of older versions lacked.
    """

    key: tuple[str, ...]
    volatile: frozenset[str] = frozenset()
    aside: frozenset[str] = frozenset()
    added: Mapping[str, Any] = MappingProxyType({})


_COUNTS = (
    *("packets", "bytes", "established_packets", "established_bytes", "allowed_packets", "allowed_bytes"),
    *("limited_packets", "limited_bytes"),
)
TABLES = {
    "rules": Recorded(("mode", "kind", "target"), frozenset(("id", "slot", *_COUNTS)), frozenset(("created",))),
    "parts": Recorded(("mode", "kind", "target", "source")),
    "lists": Recorded(
        ("mode", "name"),
        frozenset(("number", *_COUNTS)),
        frozenset(("loaded", "shift")),
        MappingProxyType({"shift": 0.0}),
    ),
    "list_entries": Recorded(("mode", "name"), added=MappingProxyType({"ends": b""})),
    "interfaces": Recorded(("name", "netns"), frozenset(("prog_id", "attached"))),
    "any_mtu": Recorded(("name", "netns")),
    "filters": Recorded(("name",), frozenset(("slot", *_COUNTS)), frozenset(("created",))),
    "facts": Recorded(("key",)),
}
# Where the tables have ends, or by how much ends have moved, which follow the clock: see clock.py.
_ENDS = {"rules": "expires", "parts": "expires", "lists": "shift", "filters": "expires"}
EARLIER = "earlier"  # in a recorded row: its ends are from before the boot in which it was recorded
FACTS = ("guard", "default", "config", "policy_in_force", "undone_config")  # the facts that are part of a change


class Change(NamedTuple):
    """A change made by a command. ``deadline``: of a pending one, when it is undone, in seconds since the ``boot``."""

    id: int
    made: float
    command: str
    state: State
    settled: float | None
    deadline: float | None
    boot: str
    large: int  # 1: too large to be kept

    def left(self) -> float:
        """Return how many seconds are left to confirm it; none after the machine was restarted."""
        if self.deadline is None or self.boot != kernel.boot_id():
            return 0.0
        return max(0.0, self.deadline - since_boot())


class Touched(NamedTuple):
    """A row that a change touched: its table and key, how it was before, and the checksum of how it was left.

    ``origins``: of a rule, those that the change has left. ``earlier``: ends in ``before`` are from before this boot.
    """

    place: str
    key: tuple[str, ...]
    before: Image | None
    after: int | None
    origins: tuple[str, ...]
    earlier: bool = False


def since_boot() -> float:
    """Return the seconds since the machine was started, which no setting of the clock changes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def changes(store: Store) -> list[Change]:
    """Return the changes that are kept, latest first."""
    query = "SELECT id, made, command, state, settled, deadline, boot, large FROM changes ORDER BY id DESC"
    return [Change(*row) for row in store.execute(query)]


def pending(store: Store) -> Change | None:
    """Return the change that waits for its confirmation, or None."""
    return next((it for it in changes(store) if it.state == "pending"), None)


def overdue(store: Store) -> Change | None:
    """Return the change whose time to be confirmed has passed, or None."""
    waiting = pending(store)
    return waiting if waiting is not None and waiting.left() <= 0 else None


def touched(store: Store, change: Change) -> list[Touched]:
    """Return the rows that a change touched."""
    rows = store.execute("SELECT place, key, before, after, origins FROM change_rows WHERE change = ?", (change.id,))
    its_boot, found = change.boot == kernel.boot_id(), []
    for place, key, text, after, left in rows:
        image = image_of(text)
        earlier = image is not None and (image.pop(EARLIER, False) or not its_boot)
        # An older version may have recorded a row without some of its columns.
        before = None if image is None else {**TABLES[place].added, **image}
        found.append(Touched(place, tuple(json.loads(key)), before, after, tuple(json.loads(left)), earlier))
    return found


def entry_of(place: str, key: Sequence[str]) -> tuple[str, ...] | None:
    """Return the entry to which a row with ends belongs, as the table ``earlier`` names it; None for other rows."""
    if place == "filters":
        return "", "filter", *key
    if place == "lists":
        return key[0], "list", key[1]
    return tuple(key[:3]) if place in _ENDS else None


def follow(store: Store, ahead: float) -> None:
    """Move the ends that rows had before changes of this boot by the clock's step, within a transaction; the rows as
    they are now have not been moved yet.
    """
    rows = store.execute(
        "SELECT place, key, change, before, after FROM change_rows WHERE change IN (SELECT id FROM changes"
        f" WHERE boot = ?) AND place IN ({', '.join('?' * len(_ENDS))}) ORDER BY place, key, change DESC",
        (kernel.boot_id(), *_ENDS),
    )
    moved = []
    for (place, words), its in groupby(rows, lambda row: (row[0], row[1])):
        key = tuple(json.loads(words))
        then = current(store, place, columns(store, place), key)
        earlier = store.execute("SELECT 1 FROM earlier WHERE (mode, kind, target) = (?, ?, ?)", entry_of(place, key))  # type: ignore[arg-type]
        later = then if earlier else _moved(place, then, ahead)
        for _, _, change, text, after in its:
            # What a change has left is what the next one has found, unless something else has changed it meanwhile.
            left = checksum(place, later) if after == checksum(place, then) else after
            then = image_of(text)
            later = _moved(place, then, ahead)
            moved.append((text_of(later), left, change, place, words))
    store.execute_many("UPDATE change_rows SET before = ?, after = ? WHERE (change, place, key) = (?, ?, ?)", moved)


def _moved(place: str, image: Image | None, ahead: float) -> Image | None:
    if image is None or image.get(EARLIER) or image.get(_ENDS[place]) is None:
        return image
    return image | {_ENDS[place]: image[_ENDS[place]] + ahead}


def origins(store: Store, key: Sequence[str]) -> list[str]:
    """Return the origins of a rule; none if it does not exist. ``key``: its mode, kind and target."""
    same = "(mode, kind, target) = (?, ?, ?)"
    query = f"SELECT source FROM rules WHERE {same} UNION SELECT source FROM parts WHERE {same} ORDER BY source"
    return [source for (source,) in store.execute(query, (*key, *key))]


def settle(store: Store, change: Change, state: State) -> None:
    """Record that a change was confirmed or undone. The caller holds a transaction."""
    at = None if state == "kept" else time.time()
    query = "UPDATE changes SET state = ?, settled = ?, deadline = NULL WHERE id = ?"
    store.execute(query, (state, at, change.id))


def current(store: Store, place: str, names: Sequence[str], key: tuple[str, ...]) -> Image | None:
    """Return these columns of a row as it is now, or None."""
    where = " AND ".join(f"{name} = ?" for name in TABLES[place].key)
    rows = store.execute(f"SELECT {', '.join(names)} FROM {place} WHERE {where}", key)
    return dict(zip(names, rows[0], strict=True)) if rows else None


def columns(store: Store, place: str) -> list[str]:
    """Return the columns of a table."""
    return [row[1] for row in store.execute(f"PRAGMA main.table_info({place})")]


def checksum(place: str, image: Image | None) -> int | None:
    """Return the checksum of what a change can make of a row; None for no row."""
    if image is None:
        return None
    left_out, added = TABLES[place].volatile | TABLES[place].aside | {EARLIER}, TABLES[place].added
    # An older version computed it without the columns that it lacked.
    its = [(name, value) for name, value in sorted(image.items()) if name not in left_out]
    words = [(name, value) for name, value in its if name not in added or value != added[name]]
    return zlib.crc32(repr(words).encode())


def shifted(place: str, one: Image | None, other: Image | None) -> bool:
    """Return whether the ends of a list's entries are reckoned from another shift in two rows, which matters although
    nobody has changed it: it has followed the clock, or begun anew as the list was loaded again.
    """
    return place == "lists" and bool(one and other) and _shift(one) != _shift(other)


def _shift(image: Image | None) -> float:
    return float((image or {}).get("shift", 0.0))


def text_of(image: Image | None) -> str | None:
    """Encode a row as JSON, without its counters; bytes as an object with their base64. None stays None."""
    if image is None:
        return None
    its = {name: value for name, value in image.items() if name not in _COUNTS}
    return json.dumps(its, default=lambda value: {"base64": b64encode(value).decode("ascii")})


def image_of(text: str | None) -> Image | None:
    """Decode what `text_of` has encoded."""
    if text is None:
        return None
    found: Image = json.loads(text)
    return {name: b64decode(value["base64"]) if isinstance(value, dict) else value for name, value in found.items()}
