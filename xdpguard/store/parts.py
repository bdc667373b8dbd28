# SPDX-License-Identifier: GPL-2.0
"""The parts of rules by further origins, and the rules that ended by themselves, in the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from xdpguard.policy.origins import OWNED
from xdpguard.policy.rule import Mode, NewRule, Part, Rule
from xdpguard.policy.target import Kind, Target

# For SELECT from rules: whether a rule has parts by further origins.
HAS_PARTS = (
    "EXISTS (SELECT 1 FROM parts WHERE parts.mode = rules.mode AND parts.kind = rules.kind"
    " AND parts.target = rules.target)"
)
ORDER = "expires IS NOT NULL, expires DESC, parts.rowid"  # the longest first
_PLACE = "mode = ? AND kind = ? AND target = ?"
# For SQL: the origins whose owners restore what they want.
_OWNED = f"({', '.join(map(repr, sorted(OWNED)))})"


def with_parts(database: sqlite3.Connection, rule: Rule) -> Rule:
    """Return a rule with its parts by further origins, the longest first."""
    query = f"SELECT source, reason, expires FROM parts WHERE {_PLACE} ORDER BY {ORDER}"
    rows = database.execute(query, (rule.mode, rule.kind, str(rule.target)))
    return rule._replace(others=tuple(Part(*row) for row in rows))


def by_rule(rows: Iterable[Sequence[Any]]) -> dict[tuple[str, str], tuple[Part, ...]]:
    """Return the parts in rows of a mode's, in the order of ORDER, by kind and target of their rules."""
    found: dict[tuple[str, str], tuple[Part, ...]] = {}
    for _, kind, target, *part in rows:
        found[kind, target] = (*found.get((kind, target), ()), Part(*part))
    return found


def put_parts(database: sqlite3.Connection, rules: Sequence[NewRule], mode: Mode) -> None:
    """Make these the parts of rules, which also have not ended by themselves."""
    places = [(mode, rule.kind, str(rule.target)) for rule in rules]
    for table in ("parts", "ended", "earlier"):
        if database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            database.executemany(f"DELETE FROM {table} WHERE {_PLACE}", places)
    rows = ((*place, *part) for place, rule in zip(places, rules, strict=True) for part in rule.others)
    database.executemany("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?)", rows)


def remove_parts(database: sqlite3.Connection, ids: Sequence[tuple[int]]) -> None:
    """Delete all parts of rules, also those that have ended, by id."""
    for table in ("parts", "earlier", "lapsed"):
        if database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            its = "(SELECT mode, kind, target FROM rules WHERE id = ?)"
            database.executemany(f"DELETE FROM {table} WHERE (mode, kind, target) = {its}", ids)


def remove_ended(database: sqlite3.Connection, now: float) -> None:
    """Delete the parts whose end has come; their rules last longer."""
    if database.execute("SELECT 1 FROM parts WHERE expires <= ? LIMIT 1", (now,)).fetchone():
        # What was made in this boot ended by its length, which no clock changes: it does not come back.
        database.execute(
            "INSERT OR REPLACE INTO lapsed"
            " SELECT mode, kind, target, parts.source, parts.reason, created, parts.expires"
            " FROM parts JOIN rules USING (mode, kind, target)"
            f" WHERE parts.expires <= ? AND parts.source NOT IN {_OWNED}"
            " AND (mode, kind, target) IN (SELECT mode, kind, target FROM earlier)",
            (now,),
        )
        database.execute("DELETE FROM parts WHERE expires <= ?", (now,))


def note_ended(database: sqlite3.Connection, rules: Iterable[Rule], earlier: Iterable[Rule]) -> None:
    """Record that rules ended by themselves, and what those from an ``earlier`` boot were, which may come back."""
    lapsed = (
        (it.mode, it.kind, str(it.target), part.source, part.reason, it.created, part.expires)
        for it in earlier
        for part in it.parts
        if part.expires is not None and part.source not in OWNED
    )
    database.executemany("INSERT OR REPLACE INTO lapsed VALUES (?, ?, ?, ?, ?, ?, ?)", lapsed)
    rows = ((it.mode, it.kind, str(it.target), it.expires) for it in rules if it.expires is not None)
    database.executemany("INSERT OR REPLACE INTO ended VALUES (?, ?, ?, ?)", rows)


def forget_ended(database: sqlite3.Connection, kind: Kind, targets: Iterable[Target], mode: Mode) -> None:
    """Delete what rules were that ended by themselves; that they did stays recorded."""
    if database.execute("SELECT 1 FROM lapsed LIMIT 1").fetchone():
        database.executemany(f"DELETE FROM lapsed WHERE {_PLACE}", ((mode, kind, str(it)) for it in targets))


def ended(database: sqlite3.Connection, kind: Kind, target: Target, mode: Mode) -> float | None:
    """Return when a rule ended by itself (Unix time); None if there was none, or it was removed."""
    row = database.execute(f"SELECT expires FROM ended WHERE {_PLACE}", (mode, kind, str(target))).fetchone()
    return float(row[0]) if row else None
