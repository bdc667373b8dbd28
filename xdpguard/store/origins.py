# SPDX-License-Identifier: GPL-2.0
"""What one origin has in the store: its parts of rules, without reading the rules."""

from __future__ import annotations

from collections.abc import Collection

from xdpguard.policy.rule import Mode
from xdpguard.policy.target import Kind, Target
from xdpguard.store.database import Store

Key = tuple[Kind, str]  # the kind and the target of a rule, as it is stored
_MANY = 500  # targets from which reading all parts once is faster than a query for each


def parts_of(
    store: Store, mode: Mode, origin: str, keys: Collection[Key] | None = None
) -> dict[Key, tuple[str, float | None]]:
    """Return reason and end (Unix time; None: never) of each part of an origin; ``keys``: only of these rules."""
    if keys is not None and len(keys) < _MANY:
        found = [(key, row) for key in keys for row in _of_one(store, mode, origin, key)]
        return {key: (reason, expires) for key, (reason, expires) in found}
    query = " UNION ALL ".join(
        f"SELECT kind, target, reason, expires FROM {table} WHERE mode = ? AND source = ?"
        for table in ("rules", "parts")
    )
    rows = {(kind, target): (reason, end) for kind, target, reason, end in store.execute(query, (mode, origin) * 2)}
    return rows if keys is None else {key: rows[key] for key in keys if key in rows}


def count_of(store: Store, mode: Mode, origin: str, now: float = 0.0) -> int:
    """Return how many rules an origin has a part in. ``now``: a Unix time; what ended before does not count."""
    query = " + ".join(
        f"(SELECT count(*) FROM {table} WHERE mode = ? AND source = ? AND (expires IS NULL OR expires > ?))"
        for table in ("rules", "parts")
    )
    return int(store.execute(f"SELECT {query}", (mode, origin, now) * 2)[0][0])


def forget_lapsed(store: Store, mode: Mode, origin: str, kind: Kind, targets: Collection[Target]) -> None:
    """Let parts of an origin that ended by themselves stay ended, even if the clock was wrong."""
    if store.execute("SELECT 1 FROM lapsed LIMIT 1"):
        store.execute_many(
            "DELETE FROM lapsed WHERE mode = ? AND kind = ? AND target = ? AND source = ?",
            ((mode, kind, str(it), origin) for it in targets),
        )


def forget_unwanted(store: Store, mode: Mode, origin: str, wanted: Collection[Key]) -> None:
    """The same for all but these rules, so that what nobody wants any more does not return when the clock is set."""
    found = store.execute("SELECT kind, target FROM lapsed WHERE mode = ? AND source = ?", (mode, origin))
    query = "DELETE FROM lapsed WHERE mode = ? AND source = ? AND kind = ? AND target = ?"
    if gone := [key for key in found if key not in wanted]:
        with store.transaction():
            store.execute_many(query, ((mode, origin, *key) for key in gone))


def _of_one(store: Store, mode: Mode, origin: str, key: Key) -> list[tuple[str, float | None]]:
    query = " UNION ALL ".join(
        f"SELECT reason, expires FROM {table} WHERE mode = ? AND kind = ? AND target = ? AND source = ?"
        for table in ("rules", "parts")
    )
    return store.execute(query, (mode, *key, origin) * 2)
