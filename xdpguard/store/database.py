# SPDX-License-Identifier: GPL-2.0
"""The durable truth: rules and attachments in SQLite. The kernel's maps are its image; see control/change.py."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from xdpguard.closeable import Closeable
from xdpguard.errors import XdpguardError
from xdpguard.instance import unwritable
from xdpguard.policy.hits import Hits, Split
from xdpguard.policy.rule import Mode, NewRule, Rule
from xdpguard.policy.target import KINDS, Kind, Prefix, Target
from xdpguard.store.migration import migrate, open_read_only
from xdpguard.store.rows import ADDED, NEW_RULE, RULE, around, counts_of, row_of, rule_of
from xdpguard.store.schema import VERSION

# What SQLite says when the fault is the file system's, not the file's.
_NOT_WRITABLE = ("readonly", "unable to open", "disk is full", "disk I/O", "locked")


class Attachment(NamedTuple):
    """An interface that shall carry the program. ``netns`` is the recorded name of its namespace (net/netns.py);
    ``any_mtu``: the program takes frames in several buffers, so that the MTU can be raised later.
    """

    name: str
    netns: str
    mode: str
    observe: bool
    prog_id: int = 0
    any_mtu: bool = False


class Store(Closeable):
    """The store in one file; ``read_only`` needs no write permission and takes a missing file as empty."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self._path = path
        with self._explained():
            if read_only:
                self._database = open_read_only(path)
                return
            try:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise unwritable(path.parent, error) from error
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA synchronous = FULL")
            # A change with millions of entries is held in memory until it is committed: nobody who reads has to wait.
            self._database.execute("PRAGMA cache_spill = OFF")
            self._migrate()

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of what is done inside, or nothing; durable when it returns. One inside another is part of that."""
        if self._database.in_transaction:
            yield
            return
        with self._explained():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.commit()
            except BaseException:
                self._database.rollback()
                raise

    @property
    def changing(self) -> bool:
        """Whether a transaction is open."""
        return self._database.in_transaction

    def rules(self, kind: Kind | None = None, mode: Mode = "enforce") -> list[Rule]:
        """Every rule of a mode, expired ones included, oldest first."""
        where, values = ("AND kind = ?", (kind,)) if kind else ("", ())
        return self._rules(f"WHERE mode = ? {where} ORDER BY id", mode, *values)

    def expired(self, now: float, mode: Mode = "enforce") -> list[Rule]:
        """Rules whose end has passed."""
        return self._rules("WHERE expires <= ? AND mode = ?", now, mode)

    def find(self, kind: Kind, targets: Iterable[Target], mode: Mode = "enforce") -> dict[Target, Rule]:
        """Those of the targets that have a rule of this kind."""
        found: dict[Target, Rule] = {}
        for target in targets:
            for rule in self._rules("WHERE mode = ? AND kind = ? AND target = ?", mode, kind, str(target)):
                found[target] = rule
        return found

    def of_slot(self, slot: int) -> Rule | None:
        """The enforced rule whose hits are counted in a slot."""
        found = self._rules("WHERE mode = 'enforce' AND slot = ?", slot)
        return found[0] if found else None

    def covering(self, kind: Kind, prefix: Prefix, now: float = 0.0, mode: Mode = "enforce") -> list[Rule]:
        """Rules whose prefix holds all of ``prefix``, longest first; those that ended before ``now`` left out."""
        found: list[Rule] = []
        for network, length in around(prefix):
            found += self._rules(
                "WHERE mode = ? AND kind = ? AND version = ? AND network = ? AND length = ?"
                " AND (expires IS NULL OR expires > ?)",
                *(mode, kind, prefix.version, network, length, now),
            )
        return found

    def touches(self, kind: Kind, prefix: Prefix) -> bool:
        """Whether any enforced rule shares an address with ``prefix``."""
        if self.covering(kind, prefix):
            return True
        last = int.from_bytes(prefix.network, "big") | ((1 << (len(prefix.network) * 8 - prefix.length)) - 1)
        query = (
            "SELECT 1 FROM rules WHERE mode = 'enforce' AND kind = ? AND version = ?"
            " AND network BETWEEN ? AND ? LIMIT 1"
        )
        values = (kind, prefix.version, prefix.network, last.to_bytes(len(prefix.network), "big"))
        return bool(self.execute(query, values))

    def counts(self, now: float, mode: Mode = "enforce") -> dict[str, int]:
        """Number of rules in force, by kind."""
        query = "SELECT kind, count(*) FROM rules WHERE mode = ? AND (expires IS NULL OR expires > ?) GROUP BY kind"
        found = dict(self.execute(query, (mode, now)))
        return {kind: int(found.get(kind, 0)) for kind in KINDS}

    def used_slots(self, mode: Mode = "enforce") -> set[int]:
        """Slots of the hit counters that rules of a mode hold."""
        return {row[0] for row in self.execute("SELECT slot FROM rules WHERE mode = ?", (mode,))}

    def put(self, rules: Iterable[tuple[NewRule, int]], mode: Mode = "enforce") -> None:
        """Adds rules with their slots. One that is there takes the new reason, origin and end, and keeps the rest."""
        with self._explained():
            self._database.executemany(
                f"INSERT INTO rules ({NEW_RULE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (mode, kind, target) DO UPDATE SET"
                " reason = excluded.reason, source = excluded.source, expires = excluded.expires",
                (row_of(rule, slot, mode) for rule, slot in rules),
            )

    def remove(self, ids: Iterable[int]) -> None:
        """Deletes rules."""
        with self._explained():
            self._database.executemany("DELETE FROM rules WHERE id = ?", ((number,) for number in ids))

    def renumber(self) -> None:
        """Gives the enforced rules the slots 0, 1, 2, ... in order of age, for fresh maps."""
        self.execute("UPDATE rules SET slot = -1 - id WHERE mode = 'enforce'")
        self.execute(
            "UPDATE rules SET slot = ranked.place FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place"
            " FROM rules WHERE mode = 'enforce') AS ranked WHERE rules.id = ranked.id"
        )

    def add_hits(self, hits: Iterable[tuple[Hits | Split, int]]) -> None:
        """Adds hits to the rule of an id."""
        with self._explained():
            rows = ((*counts_of(more), number) for more, number in hits)
            self._database.executemany(f"UPDATE rules SET {ADDED} WHERE id = ?", rows)

    def attachments(self) -> list[Attachment]:
        """Interfaces that shall carry the program, in order of attaching."""
        with self._explained():
            rows = self._database.execute(
                "SELECT name, netns, mode, observe, prog_id, (name, netns) IN (SELECT name, netns FROM any_mtu)"
                " FROM interfaces ORDER BY attached, name"
            )
            return [
                Attachment(name, netns, mode, bool(observe), number, bool(any_mtu))
                for name, netns, mode, observe, number, any_mtu in rows
            ]

    def put_attachment(self, attachment: Attachment, now: float) -> None:
        """Records an interface, or its new mode."""
        with self._explained():
            self._database.execute(
                "INSERT INTO interfaces VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name, netns) DO UPDATE SET"
                " mode = excluded.mode, observe = excluded.observe, prog_id = excluded.prog_id",
                (*attachment[:5], now),
            )
            place = attachment.name, attachment.netns
            self._database.execute("DELETE FROM any_mtu WHERE name = ? AND netns = ?", place)
            if attachment.any_mtu:
                self._database.execute("INSERT INTO any_mtu VALUES (?, ?)", place)

    def remove_attachment(self, name: str, netns: str) -> None:
        """Forgets an interface."""
        with self._explained():
            for table in ("interfaces", "any_mtu"):
                self._database.execute(f"DELETE FROM {table} WHERE name = ? AND netns = ?", (name, netns))

    def offences(self, target: str) -> tuple[int, float]:
        """How often a source has been banned by the guard, and when last (Unix time)."""
        with self._explained():
            row = self._database.execute("SELECT number, last FROM offences WHERE target = ?", (target,)).fetchone()
        return (int(row[0]), float(row[1])) if row else (0, 0.0)

    def put_offences(self, target: str, number: int, last: float) -> None:
        """Remembers a ban of the guard."""
        with self._explained():
            self._database.execute("INSERT OR REPLACE INTO offences VALUES (?, ?, ?)", (target, number, last))

    def forget_offences(self, before: float) -> None:
        """Forgets sources whose last ban began before then."""
        with self._explained():
            self._database.execute("DELETE FROM offences WHERE last < ?", (before,))

    def fact(self, key: str) -> str:
        """A remembered value, or the empty string."""
        with self._explained():
            row = self._database.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def put_fact(self, key: str, value: str) -> None:
        """Remembers a value."""
        with self._explained():
            self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def execute(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        """All rows of a query; for the tables that other modules look after."""
        with self._explained():
            return self._database.execute(query, values).fetchall()

    def _rules(self, where: str, *values: object) -> list[Rule]:
        with self._explained():
            return [rule_of(row) for row in self._database.execute(f"SELECT {RULE} FROM rules {where}", values)]

    def _migrate(self) -> None:
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise XdpguardError(
                f"the rule store {self._path} was written by a newer xdpguard",
                "upgrade xdpguard, or use another instance",
            )
        if version < VERSION:
            migrate(self._database)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if any(word in str(error) for word in _NOT_WRITABLE):
                raise unwritable(self._path.parent, OSError(0, str(error))) from error
            raise self._corrupt(error) from error
        except sqlite3.DatabaseError as error:
            raise self._corrupt(error) from error

    def _corrupt(self, error: Exception) -> XdpguardError:
        return XdpguardError(
            f"the rule store {self._path} is damaged: {error}",
            f"what is attached goes on with the rules it has; put a backup in place, or move the file away "
            f"(mv {self._path} {self._path}.damaged) and add the rules again",
        )
