# SPDX-License-Identifier: GPL-2.0
"""Record what a command changes in the store: each row before it is touched, written with the change itself.

Triggers in this connection copy the rows, whoever writes them; the copies are written in the same transaction.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from xdpguard.dataplane.sys import kernel
from xdpguard.errors import XdpguardError
from xdpguard.store import journal
from xdpguard.store.database import Store
from xdpguard.store.journal import EARLIER, FACTS, TABLES, Change, Image, checksum, columns, image_of, text_of

Row = tuple[str, str, Image | None, Image | None]  # table, key, before, now
_NO_LONGER = "no_longer_earlier"  # the temporary table of `_watch_boot`
_LONGEST = 200  # characters kept of a command


class Recorder:
    """Records what one command changes, as one change of however many transactions.

    ``confirm``: seconds within which it must be confirmed, from its last transaction on.
    """

    def __init__(self, store: Store, command: str, confirm: float | None) -> None:
        self._store = store
        self._command = "".join(it if it.isprintable() else "?" for it in command)[:_LONGEST]
        self._confirm = confirm
        self._columns = {place: names for place in TABLES if (names := columns(store, place))}
        self.change: Change | None = None
        self._aside = False
        for place, names in self._columns.items():
            _watch(store, place, names)
        _watch_boot(store)
        store.before_commit = self._write

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave out what the block changes; not within a transaction."""
        self._aside = True
        try:
            yield
        finally:
            self._aside = False
            for place in self._columns:
                self._store.execute(f"DELETE FROM before_{place}")
            self._store.execute(f"DELETE FROM {_NO_LONGER}")

    def _write(self) -> None:
        """Write what the transaction that is about to be committed has touched."""
        if self._aside:
            return
        rows = list(self._rows())
        if not rows:
            return
        number = self._number() or self._begun()
        query = "SELECT place, key, before FROM change_rows WHERE change = ?"
        held = {(place, key): before for place, key, before in self._store.execute(query, (number,))}
        again = [(number, place, key) for place, key, _, _ in rows if (place, key) in held]
        self._store.execute_many("DELETE FROM change_rows WHERE change = ? AND place = ? AND key = ?", again)
        self._store.execute_many("INSERT INTO change_rows VALUES (?, ?, ?, ?, ?, ?)", self._changed(number, rows, held))
        self._store.execute(f"DELETE FROM {_NO_LONGER}")
        self._bound(number)
        self._set_deadline(number)
        self.change = next((it for it in journal.changes(self._store) if it.id == number), None)

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
        if size > journal.LARGEST:
            if self._confirm is not None:
                most = journal.LARGEST >> 20
                raise XdpguardError(
                    f"this change replaces {size >> 20} MiB, too much to be kept for an undo (at most {most})",
                    "nothing was changed; give it without --confirm",
                )
            self._store.execute("DELETE FROM change_rows WHERE change = ?", (number,))
            self._store.execute("UPDATE changes SET large = 1 WHERE id = ?", (number,))
        elif not count and not (self.change and self.change.large):
            self._store.execute("DELETE FROM changes WHERE id = ?", (number,))
        old = f"SELECT id FROM changes WHERE state <> 'pending' ORDER BY id DESC LIMIT -1 OFFSET {journal.KEPT}"
        self._store.execute(f"DELETE FROM change_rows WHERE change IN ({old})")
        self._store.execute(f"DELETE FROM changes WHERE id IN ({old})")

    def _set_deadline(self, number: int) -> None:
        if self._confirm is not None:
            values = (journal.since_boot() + self._confirm, number)
            self._store.execute("UPDATE changes SET deadline = ? WHERE id = ?", values)

    def _rows(self) -> Iterator[Row]:
        """Yield table and key of each touched row, the row as it was before this transaction, and as it is now."""
        for place, names in self._columns.items():
            key = TABLES[place].key
            same = " AND ".join(f"before.{name} = now.{name}" for name in key)
            query = f"SELECT before.*, now.* FROM before_{place} AS before LEFT JOIN main.{place} AS now ON {same}"
            for there, *values in self._store.execute(query):
                row = dict(zip(names, values[: len(names)], strict=True))
                now = dict(zip(names, values[len(names) :], strict=True))
                words = json.dumps([row[name] for name in key])
                yield place, words, row if there else None, None if now[key[0]] is None else now
            self._store.execute(f"DELETE FROM before_{place}")

    def _changed(
        self, number: int, rows: Iterable[Row], held: Mapping[tuple[str, str], str | None]
    ) -> Iterator[tuple[Any, ...]]:
        """Yield what to store of the rows that the change has made differ; ``held``: as they were before it."""
        for place, key, before, now in rows:
            text = held[place, key] if (place, key) in held else text_of(self._dated(place, key, before))
            first = image_of(text) if (place, key) in held else before
            after = checksum(place, now)
            if checksum(place, first) != after or journal.shifted(place, first, now):
                its = journal.origins(self._store, json.loads(key)) if place == "rules" else []
                yield number, place, key, text, after, json.dumps(its)

    def _dated(self, place: str, key: str, before: Image | None) -> Image | None:
        """Return a row as it was, with a mark if it is of an earlier boot."""
        entry = journal.entry_of(place, json.loads(key)) if before else None
        if before is None or entry is None:
            return before
        same = "WHERE (mode, kind, target) = (?, ?, ?)"
        query = f"SELECT 1 FROM earlier {same} UNION ALL SELECT 1 FROM {_NO_LONGER} {same}"
        return before | {EARLIER: True} if self._store.execute(query, (*entry, *entry)) else before


def _watch_boot(store: Store) -> None:
    """Keep which entries were of an earlier boot and are no longer, see clock.py."""
    store.execute(f"CREATE TEMP TABLE {_NO_LONGER} (mode, kind, target, PRIMARY KEY (mode, kind, target))")
    store.execute(
        f"CREATE TEMP TRIGGER {_NO_LONGER}_delete BEFORE DELETE ON main.earlier"
        f" BEGIN INSERT OR IGNORE INTO {_NO_LONGER} VALUES (OLD.mode, OLD.kind, OLD.target); END"
    )


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
