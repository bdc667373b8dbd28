# SPDX-License-Identifier: GPL-2.0
"""The parts of rules by further origins, and the rules that ended by themselves, in the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from xdpguard.policy.rule import Mode, NewRule, Part, Rule
from xdpguard.policy.target import Kind, Target

# For SELECT from rules: whether a rule has parts by further origins.
HAS_PARTS = (
    "EXISTS (SELECT 1 FROM parts WHERE parts.mode = rules.mode AND parts.kind = rules.kind"
    " AND parts.target = rules.target)"
)
_PLACE = "mode = ? AND kind = ? AND target = ?"
_REMEMBERED = 7 * 86_400  # seconds


def with_parts(database: sqlite3.Connection, rule: Rule) -> Rule:
    """Return a rule with its parts by further origins, the longest first."""
    query = (
        f"SELECT source, reason, expires FROM parts WHERE {_PLACE} ORDER BY expires IS NOT NULL, expires DESC, rowid"
    )
    rows = database.execute(query, (rule.mode, rule.kind, str(rule.target)))
    return rule._replace(others=tuple(Part(*row) for row in rows))


def put_parts(database: sqlite3.Connection, rules: Sequence[NewRule], mode: Mode) -> None:
    """Make these the parts of rules, which also have not ended by themselves."""
    places = [(mode, rule.kind, str(rule.target)) for rule in rules]
    for table in ("parts", "ended"):
        if database.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
            database.executemany(f"DELETE FROM {table} WHERE {_PLACE}", places)
    rows = ((*place, *part) for place, rule in zip(places, rules, strict=True) for part in rule.others)
    database.executemany("INSERT INTO parts VALUES (?, ?, ?, ?, ?, ?)", rows)


def remove_parts(database: sqlite3.Connection, ids: Sequence[tuple[int]]) -> None:
    """Delete all parts of rules, by id."""
    if database.execute("SELECT 1 FROM parts LIMIT 1").fetchone():
        database.executemany(
            "DELETE FROM parts WHERE (mode, kind, target) = (SELECT mode, kind, target FROM rules WHERE id = ?)", ids
        )


def remove_ended(database: sqlite3.Connection, now: float) -> None:
    """Delete the parts whose end has come; their rules last longer."""
    if database.execute("SELECT 1 FROM parts WHERE expires <= ? LIMIT 1", (now,)).fetchone():
        database.execute("DELETE FROM parts WHERE expires <= ?", (now,))


def note_ended(database: sqlite3.Connection, rules: Iterable[Rule], now: float) -> None:
    """Record that rules ended by themselves, for a week."""
    rows = ((it.mode, it.kind, str(it.target), it.expires) for it in rules if it.expires is not None)
    database.executemany("INSERT OR REPLACE INTO ended VALUES (?, ?, ?, ?)", rows)
    database.execute("DELETE FROM ended WHERE expires < ?", (now - _REMEMBERED,))


def ended(database: sqlite3.Connection, kind: Kind, target: Target, mode: Mode) -> float | None:
    """Return when a rule ended by itself (Unix time); None if there was none, or it was removed."""
    row = database.execute(f"SELECT expires FROM ended WHERE {_PLACE}", (mode, kind, str(target))).fetchone()
    return float(row[0]) if row else None
