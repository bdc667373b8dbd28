# SPDX-License-Identifier: GPL-2.0
"""What the store knows of the fleet: how this host joined, what it has still to publish, how it stands."""

from __future__ import annotations

from xdpguard.store.database import Store

JOINED = "fleet"  # fact: what `fleet join` was given, JSON
STATE = "fleet.state"  # fact: how `run` found the fleet last, JSON
STREAM = "fleet.stream"  # fact: which stream the entries here are of, and the servers
_OUT = "fleet.out."  # facts: what is to be published, by key; an empty value deletes


def outbox(store: Store) -> dict[str, str]:
    """Return what is still to be published, by key; empty text deletes the key."""
    rows = store.execute(
        "SELECT key, value FROM facts WHERE key >= ? AND key < ?", (_OUT, f"{_OUT[:-1]}{chr(ord('.') + 1)}")
    )
    return {key.removeprefix(_OUT): value for key, value in rows}


def put_outbox(store: Store, key: str, value: str) -> None:
    """Record that a key is to be published, or to be deleted where the value is empty."""
    store.put_fact(_OUT + key, value)


def published(store: Store, key: str, value: str) -> None:
    """Record that a key was published with a value, unless it is to have another one by now."""
    store.execute("DELETE FROM facts WHERE key = ? AND value = ?", (_OUT + key, value))


def forget(store: Store) -> None:
    """Forget everything about the fleet."""
    store.execute("DELETE FROM facts WHERE key = ? OR (key >= ? AND key < ?)", (JOINED, "fleet.", "fleet/"))
