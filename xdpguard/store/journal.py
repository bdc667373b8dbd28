# SPDX-License-Identifier: GPL-2.0
"""The last changes made by commands, each with the rows that it touched as they were before: what `undo` goes by.

Triggers in the connection record the rows; they are written with the change, in the same transaction. Rows are kept
whole and by key, as JSON, so that a column more breaks nothing.
"""

from __future__ import annotations

import json
import time
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from xdpguard.dataplane.sys import kernel
from xdpguard.errors import XdpguardError
from xdpguard.store.database import Store

KEPT = 10  # changes
LARGEST = 16 << 20  # bytes of rows that are kept of a change
COMMAND = 200  # characters kept of a command

State = Literal["kept", "pending", "undone", "unconfirmed"]
Image = dict[str, Any]  # a row, by column


class Recorded(NamedTuple):
    """A table whose rows are recorded: the columns that identify a row, and those that are no part of a change.

    ``volatile`` ones a row that comes back gets anew; ``aside`` ones it gets back, but they are not compared.
    """

    key: tuple[str, ...]
    volatile: frozenset[str] = frozenset()
    aside: frozenset[str] = frozenset()


_COUNTS = ("packets", "bytes", "established_packets", "established_bytes", "allowed_packets", "allowed_bytes")
TABLES = {
    "rules": Recorded(("mode", "kind", "target"), frozenset(("id", "slot", *_COUNTS)), frozenset(("created",))),
    "parts": Recorded(("mode", "kind", "target", "source")),
    "lists": Recorded(("mode", "name"), frozenset(("number", *_COUNTS)), frozenset(("loaded",))),
    "list_entries": Recorded(("mode", "name")),
    "interfaces": Recorded(("name", "netns"), frozenset(("prog_id", "attached"))),
    "any_mtu": Recorded(("name", "netns")),
    "facts": Recorded(("key",)),
}
FACTS = ("guard", "config", "policy_in_force", "undone_config")  # the facts that are part of a change


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
    """A row that a change touched: its table and key, how it was before, and the checksum of how it was left."""

    place: str
    key: tuple[str, ...]
    before: Image | None
    after: int | None


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
    rows = store.execute("SELECT place, key, before, after FROM change_rows WHERE change = ?", (change.id,))
    return [Touched(place, tuple(json.loads(key)), _image(before), after) for place, key, before, after in rows]


def settle(store: Store, change: Change, state: State) -> None:
    """Record that a change was confirmed or undone. The caller holds a transaction."""
    at = None if state == "kept" else time.time()
    query = "UPDATE changes SET state = ?, settled = ?, deadline = NULL WHERE id = ?"
    store.execute(query, (state, at, change.id))


def current(store: Store, place: str, key: tuple[str, ...]) -> Image | None:
    """Return a row as it is now, or None."""
    names = columns(store, place)
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
    left_out = TABLES[place].volatile | TABLES[place].aside
    words = [(name, value) for name, value in sorted(image.items()) if name not in left_out]
    return zlib.crc32(repr(words).encode())


class Recorder:
    """Records what one command changes, as one change of however many transactions.

    ``confirm``: seconds within which it must be confirmed, from its last transaction on.
    """

    def __init__(self, store: Store, command: str, confirm: float | None) -> None:
        self._store = store
        self._command = "".join(it if it.isprintable() else "?" for it in command)[:COMMAND]
        self._confirm = confirm
        self._columns = {place: names for place in TABLES if (names := columns(store, place))}
        self.change: Change | None = None
        for place, names in self._columns.items():
            _watch(store, place, names)
        store.before_commit = self._write

    def _write(self) -> None:
        """Write what the transaction that is about to be committed has touched."""
        rows = list(self._rows())
        if not rows:
            return
        number = self._number() or self._begun()
        query = "SELECT place, key, before FROM change_rows WHERE change = ?"
        held = {(place, key): before for place, key, before in self._store.execute(query, (number,))}
        for place, key, before, now in rows:
            text = held[place, key] if (place, key) in held else _text(before)
            if (place, key) in held:
                gone = (number, place, key)
                self._store.execute("DELETE FROM change_rows WHERE change = ? AND place = ? AND key = ?", gone)
            if checksum(place, _image(text)) != checksum(place, now):
                row = (number, place, key, text, checksum(place, now))
                self._store.execute("INSERT INTO change_rows VALUES (?, ?, ?, ?, ?)", row)
        self._bound(number)
        self._set_deadline(number)
        self.change = next((it for it in changes(self._store) if it.id == number), None)

    def _number(self) -> int:
        """Return the number of this change in the store, or 0: it may have been rolled back."""
        there = self._store.execute("SELECT 1 FROM changes WHERE id = ?", (self.change.id,)) if self.change else ()
        return self.change.id if self.change and there else 0

    def _begun(self) -> int:
        values = (time.time(), self._command, "kept" if self._confirm is None else "pending", kernel.boot_id())
        (number,) = self._store.execute(
            "INSERT INTO changes (made, command, state, boot, large) VALUES (?, ?, ?, ?, 0) RETURNING id", values
        )[0]
        return int(number)

    def _bound(self, number: int) -> None:
        """Keep no change that did nothing, none that is too large, and of the others the latest."""
        query = (
            "SELECT count(*), coalesce(sum(length(key) + coalesce(length(before), 0)), 0) FROM change_rows"
            " WHERE change = ?"
        )
        count, size = self._store.execute(query, (number,))[0]
        if size > LARGEST:
            if self._confirm is not None:
                raise XdpguardError(
                    f"this change replaces {size >> 20} MiB, too much to be kept for an undo (at most {LARGEST >> 20})",
                    "nothing was changed; give it without --confirm",
                )
            self._store.execute("DELETE FROM change_rows WHERE change = ?", (number,))
            self._store.execute("UPDATE changes SET large = 1 WHERE id = ?", (number,))
        elif not count and not (self.change and self.change.large):
            self._store.execute("DELETE FROM changes WHERE id = ?", (number,))
        old = f"SELECT id FROM changes WHERE state <> 'pending' ORDER BY id DESC LIMIT -1 OFFSET {KEPT}"
        self._store.execute(f"DELETE FROM change_rows WHERE change IN ({old})")
        self._store.execute(f"DELETE FROM changes WHERE id IN ({old})")

    def _set_deadline(self, number: int) -> None:
        if self._confirm is not None:
            values = (since_boot() + self._confirm, number)
            self._store.execute("UPDATE changes SET deadline = ? WHERE id = ?", values)

    def _rows(self) -> Iterator[tuple[str, str, Image | None, Image | None]]:
        """Yield table and key of each touched row, the row as it was before this transaction, and as it is now."""
        for place, names in self._columns.items():
            key = TABLES[place].key
            for there, *values in self._store.execute(f"SELECT * FROM before_{place}"):
                row = dict(zip(names, values, strict=True))
                words = tuple(row[name] for name in key)
                yield place, json.dumps(words), row if there else None, current(self._store, place, words)
            self._store.execute(f"DELETE FROM before_{place}")


def _watch(store: Store, place: str, names: list[str]) -> None:
    """Copy each row of a table before it is first touched into a temporary table; ``there`` 0: there was none."""
    its = TABLES[place]
    copy = f"before_{place}"
    store.execute(f"CREATE TEMP TABLE {copy} AS SELECT 1 AS there, * FROM main.{place} WHERE 0")
    store.execute(f"CREATE UNIQUE INDEX temp.{copy}_key ON {copy} ({', '.join(its.key)})")

    def unseen(row: str) -> str:
        # Not INSERT OR IGNORE: a trigger's conflict clause yields to that of the statement it is run for.
        same = " AND ".join(f"{name} = {row}.{name}" for name in its.key)
        return f"NOT EXISTS (SELECT 1 FROM {copy} WHERE {same})"

    same = " AND ".join(f"{name} = NEW.{name}" for name in its.key)
    listed = ", ".join(names)
    old = ", ".join(f"OLD.{name}" for name in names)
    new = ", ".join(f"NEW.{name}" for name in its.key)
    seen = f"INSERT INTO {copy} SELECT 1, {old} WHERE {unseen('OLD')};"
    # A REPLACE deletes without a trigger, so that an insertion copies what it may replace.
    added = (
        f"INSERT INTO {copy} SELECT 1, {listed} FROM {place} WHERE {same} AND {unseen('NEW')};"
        f" INSERT INTO {copy} (there, {', '.join(its.key)}) SELECT 0, {new} WHERE {unseen('NEW')};"
    )
    changing = ", ".join(name for name in names if name not in its.volatile)
    for event, row, body in (
        ("INSERT", "NEW", added),
        (f"UPDATE OF {changing}", "OLD", seen),
        ("DELETE", "OLD", seen),
    ):
        only = f"WHEN {row}.key IN {FACTS}" if place == "facts" else ""
        name = f"{copy}_{event.split()[0].lower()}"
        store.execute(f"CREATE TEMP TRIGGER {name} BEFORE {event} ON main.{place} {only} BEGIN {body} END")


def _text(image: Image | None) -> str | None:
    """Encode a row as JSON; bytes as an object with their base64."""
    if image is None:
        return None
    return json.dumps(image, default=lambda value: {"base64": b64encode(value).decode("ascii")})


def _image(text: str | None) -> Image | None:
    if text is None:
        return None
    found: Image = json.loads(text)
    return {name: b64decode(value["base64"]) if isinstance(value, dict) else value for name, value in found.items()}
