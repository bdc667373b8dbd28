# SPDX-License-Identifier: GPL-2.0
"""The durable truth: rules and attachments in SQLite. The kernel's maps are its image.

A change is committed here before the maps follow; until they have, ``pending`` is set, so that whoever comes next after
a crash brings them in line.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from xdpguard.errors import XdpguardError
from xdpguard.instance import unwritable
from xdpguard.policy.rule import NewRule, Rule
from xdpguard.policy.target import PROTOCOL_NUMBERS, Kind, Port, Prefix, Protocol, Target
from xdpguard.store.schema import SCHEMA, VERSION, open_read_only

# What SQLite says when the fault is the file system's, not the file's.
_NOT_WRITABLE = ("readonly", "unable to open", "disk is full", "disk I/O", "locked")
_COLUMNS = "id, kind, version, network, length, reason, source, created, expires, slot, packets, bytes"
_PROTOCOLS: dict[int, Protocol] = {number: name for name, number in PROTOCOL_NUMBERS.items()}


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


class Store:
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
            self._migrate()

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

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
            except BaseException:
                self._database.rollback()
                raise
            self._database.commit()

    def rules(self, kind: Kind | None = None) -> list[Rule]:
        """Every rule, expired ones included, oldest first."""
        where, values = ("WHERE kind = ?", (kind,)) if kind else ("", ())
        return self._rules(f"SELECT {_COLUMNS} FROM rules {where} ORDER BY id", values)

    def expired(self, now: float) -> list[Rule]:
        """Rules whose end has passed."""
        return self._rules(f"SELECT {_COLUMNS} FROM rules WHERE expires <= ?", (now,))

    def find(self, kind: Kind, targets: Iterable[Target]) -> dict[Target, Rule]:
        """Those of the targets that have a rule of this kind."""
        found: dict[Target, Rule] = {}
        for target in targets:
            for rule in self._rules(f"SELECT {_COLUMNS} FROM rules WHERE kind = ? AND target = ?", (kind, str(target))):
                found[target] = rule
        return found

    def of_slot(self, slot: int) -> Rule | None:
        """The rule whose hits are counted in a slot."""
        found = self._rules(f"SELECT {_COLUMNS} FROM rules WHERE slot = ?", (slot,))
        return found[0] if found else None

    def covering(self, kind: Kind, prefix: Prefix, now: float = 0.0) -> list[Rule]:
        """Rules whose prefix holds all of ``prefix``, longest first; those that ended before ``now`` left out."""
        found: list[Rule] = []
        for network, length in around(prefix):
            found += self._rules(
                f"SELECT {_COLUMNS} FROM rules WHERE kind = ? AND version = ? AND network = ? AND length = ?"
                " AND (expires IS NULL OR expires > ?)",
                (kind, prefix.version, network, length, now),
            )
        return found

    def touches(self, kind: Kind, prefix: Prefix) -> bool:
        """Whether any rule shares an address with ``prefix``."""
        if self.covering(kind, prefix):
            return True
        last = int.from_bytes(prefix.network, "big") | ((1 << (len(prefix.network) * 8 - prefix.length)) - 1)
        query = "SELECT 1 FROM rules WHERE kind = ? AND version = ? AND network BETWEEN ? AND ? LIMIT 1"
        values = (kind, prefix.version, prefix.network, last.to_bytes(len(prefix.network), "big"))
        with self._explained():
            return self._database.execute(query, values).fetchone() is not None

    def counts(self, now: float) -> dict[str, int]:
        """Number of rules in force, by kind."""
        query = "SELECT kind, count(*) FROM rules WHERE expires IS NULL OR expires > ? GROUP BY kind"
        with self._explained():
            found = dict(self._database.execute(query, (now,)).fetchall())
        return {kind: int(found.get(kind, 0)) for kind in ("allow", "block", "port")}

    def used_slots(self) -> set[int]:
        """Slots of the hit counters that rules hold."""
        with self._explained():
            return {row[0] for row in self._database.execute("SELECT slot FROM rules")}

    def put(self, rules: Iterable[tuple[NewRule, int]]) -> None:
        """Adds rules with their slots. One that is there takes the new reason, origin and end, and keeps the rest."""
        with self._explained():
            self._database.executemany(
                "INSERT INTO rules (kind, target, version, network, length, reason, source, created, expires, slot)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kind, target) DO UPDATE SET"
                " reason = excluded.reason, source = excluded.source, expires = excluded.expires",
                (
                    (
                        rule.kind,
                        str(rule.target),
                        *columns_of(rule.target),
                        rule.reason,
                        rule.source,
                        rule.created,
                        rule.expires,
                        slot,
                    )
                    for rule, slot in rules
                ),
            )

    def remove(self, ids: Iterable[int]) -> None:
        """Deletes rules."""
        with self._explained():
            self._database.executemany("DELETE FROM rules WHERE id = ?", ((number,) for number in ids))

    def renumber(self) -> None:
        """Gives the rules the slots 0, 1, 2, ... in order of age, for fresh maps."""
        with self._explained():
            self._database.execute("UPDATE rules SET slot = -1 - id")
            self._database.execute(
                "UPDATE rules SET slot = ranked.place FROM"
                " (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM rules) AS ranked"
                " WHERE rules.id = ranked.id"
            )

    def add_hits(self, hits: Iterable[tuple[int, int, int]]) -> None:
        """Adds (packets, bytes) to the rule of an id: items are (packets, bytes, id)."""
        with self._explained():
            self._database.executemany("UPDATE rules SET packets = packets + ?, bytes = bytes + ? WHERE id = ?", hits)

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

    def _rules(self, query: str, values: tuple[object, ...]) -> list[Rule]:
        with self._explained():
            return [rule_of(row) for row in self._database.execute(query, values)]

    def _migrate(self) -> None:
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version == VERSION:
            return
        if version > VERSION:
            raise XdpguardError(
                f"the rule store {self._path} was written by a newer xdpguard",
                "upgrade xdpguard, or use another instance",
            )
        self._database.execute("BEGIN IMMEDIATE")
        for statement in SCHEMA.split(";"):
            self._database.execute(statement)
        self._database.execute(f"PRAGMA user_version = {VERSION}")
        self._database.commit()

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


def around(prefix: Prefix) -> Iterator[tuple[bytes, int]]:
    """Every network that holds all of a prefix, and its length: the longest, which is the prefix itself, first."""
    width = len(prefix.network) * 8
    number = int.from_bytes(prefix.network, "big")
    for length in range(prefix.length, -1, -1):
        yield (number >> (width - length) << (width - length)).to_bytes(len(prefix.network), "big"), length


def columns_of(target: Target) -> tuple[int, bytes, int]:
    """What a target is stored as: version, network, length."""
    if isinstance(target, Port):
        return 0, target.number.to_bytes(2, "big"), PROTOCOL_NUMBERS[target.protocol]
    return target.version, target.network, target.length


def rule_of(row: tuple[object, ...]) -> Rule:
    """A rule from a row of _COLUMNS."""
    number, kind, version, network, length, *rest = row
    assert isinstance(network, bytes)
    assert isinstance(length, int)
    port = int.from_bytes(network, "big")
    target: Target = Prefix(network, length) if version else Port(port, _PROTOCOLS[length])
    return Rule(number, kind, target, *rest)  # type: ignore[arg-type]
