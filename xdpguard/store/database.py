# SPDX-License-Identifier: GPL-2.0
"""The source of truth in SQLite: its file, rules and facts. The kernel's maps are its image; see control/change.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from xdpguard.closeable import Closeable
from xdpguard.owned import check_own, make_own, open_own, unwritable
from xdpguard.policy.hits import Hits, Split
from xdpguard.policy.rule import Mode, NewRule, Rule
from xdpguard.policy.target import KINDS, Kind, Prefix, Target
from xdpguard.store import keeping, parts, sums
from xdpguard.store.failures import explained
from xdpguard.store.migration import copied, open_read_only, open_writable
from xdpguard.store.rows import ADDED, COUNTS, NEW_RULE, RULE, around, counts_of, row_of, rule_of

Found = TypeVar("Found")


class Store(Closeable):
    """The store in one file; ``read_only`` needs no write permission and takes a missing file as empty."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        self.path = path
        self.unlike = False  # something was changed that the kernel could not give back: a copy is due
        self.before_commit: Callable[[], None] = lambda: None  # called within each transaction, at its end
        with explained(self.path):
            if read_only:
                self._look()
                self._database = open_read_only(path)
            elif str(path) == ":memory:":
                self._database = open_writable(path)
            else:
                make_own(path.parent)
                self._look()
                os.close(open_own(path, os.O_RDWR | os.O_CREAT))
                self._database = open_writable(path)
                keeping.mark(path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def use_copy(self) -> None:
        """Go on with a copy in memory of a store that is only read."""
        with explained(self.path):
            self._database = copied(self._database)
            sums.keep(self._database)

    def check(self) -> None:
        """Read all of the file. Raise Damaged if it is not consistent, or not what was written."""
        with explained(self.path):
            keeping.check_all(self._database, self.path)

    def keep_copy(self, now: bool = False) -> None:
        """Keep a copy of what has changed, from which a lost store is recovered; see `keeping.keep_copy`."""
        keeping.keep_copy(self._database, self.path, now or self.unlike)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block as one transaction, durable on return; a nested one is part of the outer one."""
        if self._database.in_transaction:
            yield
            return
        with explained(self.path, others=True):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.before_commit()
                self._database.commit()
            except BaseException:
                self._database.rollback()
                raise

    @property
    def changing(self) -> bool:
        """Whether a transaction is open."""
        return self._database.in_transaction

    def rules(self, kind: Kind | None = None, mode: Mode = "enforce") -> list[Rule]:
        """Return all rules of a mode, including expired ones, oldest first."""
        group = (mode, kind) if kind else (mode,)
        rows = sorted(self.whole("rules", group, COUNTS))  # by id: faster than in SQL, which does not see that they are
        others = parts.by_rule(self.whole("parts", group, order=parts.ORDER))
        return self.decoded(lambda: [rule_of(row, others.get((row[2], row[3]), ())) for row in rows])

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
        where = "mode = 'enforce' AND kind = ? AND version = ? AND network BETWEEN ? AND ?"
        values = (kind, prefix.version, prefix.network, last.to_bytes(len(prefix.network), "big"))
        return bool(self.execute(f"SELECT 1 FROM rules WHERE {where} LIMIT 1", values))

    def counts(self, now: float, mode: Mode = "enforce") -> dict[str, int]:
        """Return the number of unexpired rules by kind."""
        query = "SELECT kind, count(*) FROM rules WHERE mode = ? AND (expires IS NULL OR expires > ?) GROUP BY kind"
        found = dict(self.execute(query, (mode, now)))
        return {kind: int(found.get(kind, 0)) for kind in KINDS}

    def used_slots(self, mode: Mode = "enforce") -> set[int]:
        """Return the slots of the hit counters in use by rules of a mode."""
        return {row[0] for row in self.execute("SELECT slot FROM rules WHERE mode = ?", (mode,))}

    def highest_slot(self, mode: Mode) -> int:
        """Return the highest slot in use by rules of a mode, -1 without any: there are at most as many, and one."""
        return int(self.execute("SELECT ifnull(max(slot), -1) FROM rules WHERE mode = ?", (mode,))[0][0])

    def put(self, rules: Iterable[tuple[NewRule, int]], mode: Mode = "enforce") -> None:
        """Add rules with their slots. An existing rule takes the new parts, and keeps the rest."""
        rules = list(rules)
        with explained(self.path):
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
        with explained(self.path):
            parts.remove_parts(self._database, gone)
            self._database.executemany("DELETE FROM rules WHERE id = ?", gone)

    def remove_ended_parts(self, now: float) -> None:
        """Delete the parts of rules whose end has come, where the rule lasts longer."""
        with explained(self.path):
            parts.remove_ended(self._database, now)

    def note_ended(self, rules: Iterable[Rule], earlier: Iterable[Rule]) -> None:
        """Record that rules ended by themselves, and what those ``earlier`` than this boot were: see clock.py."""
        with explained(self.path):
            parts.note_ended(self._database, rules, earlier)

    def forget_ended(self, kind: Kind, targets: Iterable[Target], mode: Mode = "enforce") -> None:
        """Let rules that ended by themselves stay ended, even if the clock was wrong."""
        with explained(self.path):
            parts.forget_ended(self._database, kind, targets, mode)

    def ended(self, kind: Kind, target: Target, mode: Mode = "enforce") -> float | None:
        """Return when a rule ended by itself (Unix time); None if there was none, or it was removed."""
        with explained(self.path):
            return parts.ended(self._database, kind, target, mode)

    def renumber(self) -> None:
        """Assign the slots 0, 1, 2, ... to the enforced rules in order of age, for new maps."""
        # First out of the way of each other, both times only those that move.
        for slot in ("-1 - rules.id", "ranked.place"):
            self.execute(
                f"UPDATE rules SET slot = {slot} FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place"
                " FROM rules WHERE mode = 'enforce') AS ranked WHERE rules.id = ranked.id AND slot <> ranked.place"
            )

    def add_hits(self, hits: Iterable[tuple[Hits | Split, int]]) -> None:
        """Add hits to rules, given as pairs of hits and rule id."""
        rows = ((*counts_of(more), number) for more, number in hits)
        self.execute_many(f"UPDATE rules SET {ADDED} WHERE id = ?", rows)

    def fact(self, key: str) -> str:
        """Return a stored value, or the empty string."""
        return next((str(value) for name, value in self.whole("facts") if name == key), "")

    def put_fact(self, key: str, value: str) -> None:
        """Store a value."""
        self.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def whole(self, place: str, group: Sequence[str] = (), more: str = "", order: str = "") -> list[tuple[Any, ...]]:
        """Return all rows of a table; see `sums.whole`. Raise Damaged if they are not those that were written."""
        with explained(self.path):
            rows = sums.whole(self._database, place, group, more, order)
        if rows is None:
            raise keeping.unlike(self.path, sums.words_of(place))
        return rows

    def execute(self, query: str, values: tuple[object, ...] = ()) -> list[Any]:
        """Execute a statement and return all its rows; for tables that other modules manage."""
        with explained(self.path):
            return self._database.execute(query, values).fetchall()

    def execute_many(self, query: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Execute a statement once for each row of values."""
        with explained(self.path):
            self._database.executemany(query, rows)

    def _rules(self, where: str, *values: object) -> list[Rule]:
        query = f"SELECT {RULE}, {COUNTS}, {parts.HAS_PARTS} FROM rules {where}"
        with explained(self.path):
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
            raise keeping.damaged(self.path, "an entry is not what was written") from error

    def _look(self) -> None:
        check_own(self.path.parent)
        try:
            keeping.check(self.path)
        except OSError as error:
            raise unwritable(self.path, error) from error
