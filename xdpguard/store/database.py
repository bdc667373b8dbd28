# SPDX-License-Identifier: GPL-2.0
"""The source of truth in SQLite: rules, attachments, facts. The kernel's maps are its image; see control/change.py."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from xdpguard.closeable import Closeable
from xdpguard.instance import check_own, make_own, open_own, unwritable
from xdpguard.policy.hits import Hits, Split
from xdpguard.policy.rule import Mode, NewRule, Rule
from xdpguard.policy.target import KINDS, Kind, Prefix, Target
from xdpguard.store import keeping, parts
from xdpguard.store.locks import locked
from xdpguard.store.migration import copied, migrate, open_read_only
from xdpguard.store.room import check_room
from xdpguard.store.rows import ADDED, NEW_RULE, RULE, around, counts_of, row_of, rule_of
from xdpguard.store.schema import VERSION

Found = TypeVar("Found")

# Texts of SQLite errors that are caused by the file system, not by the file.
_NOT_WRITABLE = ("readonly", "unable to open", "disk is full", "disk I/O")


class Attachment(NamedTuple):
    """An interface that should carry the program. ``netns`` is the recorded name of its namespace (net/netns.py);
    ``any_mtu``: the program accepts frames in several buffers, so that the MTU can be raised later.
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
        self.unlike = False  # something was changed that the kernel could not give back: a copy is due
        self.before_commit: Callable[[], None] = lambda: None  # called within each transaction, at its end
        with self._explained():
            if read_only:
                self._look()
                self._database = open_read_only(path)
                return
            on_disk = str(path) != ":memory:"
            if on_disk:
                make_own(path.parent)
                self._look()
                os.close(open_own(path, os.O_RDWR | os.O_CREAT))
            self._database = sqlite3.connect(path, isolation_level=None)
            self._database.execute("PRAGMA synchronous = FULL")
            # A change with millions of entries stays in memory until it is committed, so that readers need not wait.
            self._database.execute("PRAGMA cache_spill = OFF")
            self._migrate()
            if on_disk:
                keeping.mark(path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def use_copy(self) -> None:
        """Go on with a copy in memory of a store that is only read."""
        with self._explained():
            self._database = copied(self._database)

    def check(self) -> None:
        """Read all of the file. Raise Damaged if it is not consistent."""
        (found,) = self.execute("PRAGMA integrity_check(1)")[0]
        if found != "ok":
            raise keeping.damaged(self._path, found)

    def keep_copy(self, now: bool = False) -> None:
        """Keep a copy of what has changed, from which a lost store is recovered; see `keeping.keep_copy`."""
        keeping.keep_copy(self._database, self._path, now or self.unlike)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction, durable on return; a nested one is part of the outer one."""
        if self._database.in_transaction:
            yield
            return
        with self._explained():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.before_commit()
                self._database.commit()
            except BaseException:
                self._database.rollback()
                raise

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Run the block within the open transaction and take it back: then it does not lack room when it is done."""
        assert self._database.in_transaction
        with self._explained():
            self._database.execute("SAVEPOINT rehearsal")
            try:
                yield
            finally:
                self._database.execute("ROLLBACK TO rehearsal")
                self._database.execute("RELEASE rehearsal")

    def check_room(self) -> None:
        """Raise MissingError if the open transaction could not be committed for want of room on the file system."""
        with self._explained():
            check_room(self._database, self._path)

    @property
    def changing(self) -> bool:
        """Whether a transaction is open."""
        return self._database.in_transaction

    def rules(self, kind: Kind | None = None, mode: Mode = "enforce") -> list[Rule]:
        """Return all rules of a mode, including expired ones, oldest first."""
        where, values = ("AND kind = ?", (kind,)) if kind else ("", ())
        return self._rules(f"WHERE mode = ? {where} ORDER BY id", mode, *values)

    def expired(self, now: float, mode: Mode = "enforce") -> list[Rule]:
        """Return the expired rules of a mode (``now``: Unix time)."""
        return self._rules("WHERE expires <= ? AND mode = ?", now, mode)

    def find(self, kind: Kind, targets: Iterable[Target], mode: Mode = "enforce") -> dict[Target, Rule]:
        """Return the rules of this kind and mode for these targets; targets without one are left out."""
        found: dict[Target, Rule] = {}
        for target in targets:
            for rule in self._rules("WHERE mode = ? AND kind = ? AND target = ?", mode, kind, str(target)):
                found[target] = rule
        return found

    def of_slot(self, slot: int) -> Rule | None:
        """Return the enforced rule whose hits are counted in a slot, or None."""
        found = self._rules("WHERE mode = 'enforce' AND slot = ?", slot)
        return found[0] if found else None

    def covering(self, kind: Kind, prefix: Prefix, now: float = 0.0, mode: Mode = "enforce") -> list[Rule]:
        """Return the rules whose prefix covers all of ``prefix``, longest first, except those expired by ``now``."""
        prefixes = list(around(prefix))
        # One query that looks each of them up in the index: as many queries take ten times as long.
        return self._rules(
            "WHERE id IN (WITH wanted (network, length) AS (VALUES"
            f" {', '.join(['(?, ?)'] * len(prefixes))}) SELECT its.id FROM wanted CROSS JOIN rules AS its"
            " WHERE its.mode = ? AND its.kind = ? AND its.version = ? AND its.network = wanted.network"
            " AND its.length = wanted.length AND (its.expires IS NULL OR its.expires > ?)) ORDER BY length DESC",
            *(part for pair in prefixes for part in pair),
            *(mode, kind, prefix.version, now),
        )

    def touches(self, kind: Kind, prefix: Prefix) -> bool:
        """Return whether any enforced rule of this kind shares an address with ``prefix``."""
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
        """Return the number of unexpired rules by kind."""
        query = "SELECT kind, count(*) FROM rules WHERE mode = ? AND (expires IS NULL OR expires > ?) GROUP BY kind"
        found = dict(self.execute(query, (mode, now)))
        return {kind: int(found.get(kind, 0)) for kind in KINDS}

    def used_slots(self, mode: Mode = "enforce") -> set[int]:
        """Return the slots of the hit counters in use by rules of a mode."""
        return {row[0] for row in self.execute("SELECT slot FROM rules WHERE mode = ?", (mode,))}

    def put(self, rules: Iterable[tuple[NewRule, int]], mode: Mode = "enforce") -> None:
        """Add rules with their slots. An existing rule takes the new parts, and keeps the rest."""
        rules = list(rules)
        with self._explained():
            parts.put_parts(self._database, [rule for rule, _ in rules], mode)
            self._database.executemany(
                f"INSERT INTO rules ({NEW_RULE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (mode, kind, target) DO UPDATE SET"
                " reason = excluded.reason, source = excluded.source, expires = excluded.expires",
                (row_of(rule, slot, mode) for rule, slot in rules),
            )

    def remove(self, ids: Iterable[int]) -> None:
        """Delete rules by id."""
        gone = [(number,) for number in ids]
        with self._explained():
            parts.remove_parts(self._database, gone)
            self._database.executemany("DELETE FROM rules WHERE id = ?", gone)

    def remove_ended_parts(self, now: float) -> None:
        """Delete the parts of rules whose end has come, where the rule lasts longer."""
        with self._explained():
            parts.remove_ended(self._database, now)

    def note_ended(self, rules: Iterable[Rule]) -> None:
        """Record that rules ended by themselves, and what they were; see `clock.forget`."""
        with self._explained():
            parts.note_ended(self._database, rules)

    def forget_ended(self, kind: Kind, targets: Iterable[Target], mode: Mode = "enforce") -> None:
        """Let rules that ended by themselves stay ended, even if the clock was wrong."""
        with self._explained():
            parts.forget_ended(self._database, kind, targets, mode)

    def ended(self, kind: Kind, target: Target, mode: Mode = "enforce") -> float | None:
        """Return when a rule ended by itself (Unix time); None if there was none, or it was removed."""
        with self._explained():
            return parts.ended(self._database, kind, target, mode)

    def renumber(self) -> None:
        """Assign the slots 0, 1, 2, ... to the enforced rules in order of age, for new maps."""
        self.execute("UPDATE rules SET slot = -1 - id WHERE mode = 'enforce'")
        self.execute(
            "UPDATE rules SET slot = ranked.place FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place"
            " FROM rules WHERE mode = 'enforce') AS ranked WHERE rules.id = ranked.id"
        )

    def add_hits(self, hits: Iterable[tuple[Hits | Split, int]]) -> None:
        """Add hits to rules, given as pairs of hits and rule id."""
        with self._explained():
            rows = ((*counts_of(more), number) for more, number in hits)
            self._database.executemany(f"UPDATE rules SET {ADDED} WHERE id = ?", rows)

    def attachments(self) -> list[Attachment]:
        """Return the interfaces that should carry the program, in order of attaching."""
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
        """Record an interface, or update its record."""
        self.unlike = True
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
        """Delete the record of an interface."""
        with self._explained():
            for table in ("interfaces", "any_mtu"):
                self._database.execute(f"DELETE FROM {table} WHERE name = ? AND netns = ?", (name, netns))

    def offences(self, target: str) -> tuple[int, float]:
        """Return how often the guard has banned a source, and when it last did (Unix time)."""
        with self._explained():
            row = self._database.execute("SELECT number, last FROM offences WHERE target = ?", (target,)).fetchone()
        return (int(row[0]), float(row[1])) if row else (0, 0.0)

    def put_offences(self, target: str, number: int, last: float) -> None:
        """Record how often the guard has banned a source, and when it last did (Unix time)."""
        with self._explained():
            self._database.execute("INSERT OR REPLACE INTO offences VALUES (?, ?, ?)", (target, number, last))

    def forget_offences(self, before: float) -> None:
        """Delete the records of sources whose last ban began before a Unix time."""
        with self._explained():
            self._database.execute("DELETE FROM offences WHERE last < ?", (before,))

    def fact(self, key: str) -> str:
        """Return a stored value, or the empty string."""
        with self._explained():
            row = self._database.execute("SELECT value FROM facts WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else ""

    def put_fact(self, key: str, value: str) -> None:
        """Store a value."""
        with self._explained():
            self._database.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def execute(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        """Execute a statement and return all its rows; for tables that other modules manage."""
        with self._explained():
            return self._database.execute(query, values).fetchall()

    def execute_many(self, query: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Execute a statement once for each row of values."""
        with self._explained():
            self._database.executemany(query, rows)

    def _rules(self, where: str, *values: object) -> list[Rule]:
        query = f"SELECT {RULE}, {parts.HAS_PARTS} FROM rules {where}"
        with self._explained():
            found = self._database.execute(query, values).fetchall()
            return self.decoded(lambda: [self._rule(row) for row in found])

    def _rule(self, row: tuple[object, ...]) -> Rule:
        rule = rule_of(row[:-1])
        return parts.with_parts(self._database, rule) if row[-1] else rule

    def decoded(self, decode: Callable[[], Found]) -> Found:
        """Return what ``decode`` makes of rows that were read. Raise Damaged if they are not what was written."""
        try:
            return decode()
        except (AssertionError, LookupError, TypeError, ValueError) as error:
            raise keeping.damaged(self._path, "an entry is not what was written") from error

    def _look(self) -> None:
        check_own(self._path.parent)
        try:
            keeping.check(self._path)
        except OSError as error:
            raise unwritable(self._path, error) from error

    def _migrate(self) -> None:
        if keeping.check_version(self._database, self._path) < VERSION:
            migrate(self._database)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise locked(self._path) from error
            if any(word in str(error) for word in _NOT_WRITABLE):
                raise unwritable(self._path.parent, OSError(0, str(error))) from error
            raise keeping.damaged(self._path, error) from error
        except sqlite3.DatabaseError as error:
            raise keeping.damaged(self._path, error) from error
