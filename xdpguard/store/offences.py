# SPDX-License-Identifier: GPL-2.0
"""How often the guard has banned a source, as the store records it: each further ban is longer."""

from __future__ import annotations

from xdpguard.store.database import Store


def offences(store: Store, target: str) -> tuple[int, float]:
    """Return how often the guard has banned a source, and when it last did (Unix time)."""
    rows = store.execute("SELECT number, last FROM offences WHERE target = ?", (target,))
    return (int(rows[0][0]), float(rows[0][1])) if rows else (0, 0.0)


def put_offences(store: Store, target: str, number: int, last: float) -> None:
    """Record how often the guard has banned a source, and when it last did (Unix time)."""
    store.execute("INSERT OR REPLACE INTO offences VALUES (?, ?, ?)", (target, number, last))


def forget_offences(store: Store, before: float) -> None:
    """Delete the records of sources whose last ban began before a Unix time."""
    store.execute("DELETE FROM offences WHERE last < ?", (before,))
