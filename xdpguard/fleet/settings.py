# SPDX-License-Identifier: GPL-2.0
"""How this host belongs to a fleet: by the configuration file, or by what ``fleet join`` recorded."""

from __future__ import annotations

import msgspec

from xdpguard.errors import XdpguardError
from xdpguard.policy.fleet import Fleet, FleetTls, own_name
from xdpguard.store import fleet as stored
from xdpguard.store.database import Store

_FROM_JOIN = ("server", "name", "credentials", "tls", "mode", "keeper")


def joined(store: Store) -> Fleet | None:
    """Return what `fleet join` recorded; None if this host has not joined by it."""
    text = store.fact(stored.JOINED)
    return store.decoded(lambda: msgspec.json.decode(text, type=Fleet)) if text else None


def settings(store: Store, configured: Fleet) -> Fleet | None:
    """Return how this host belongs to its fleet, with every name filled in; None if it belongs to none.

    What the configuration file gives counts before what `fleet join` was given.
    """
    its = joined(store)
    if its is not None:
        taken = {key: getattr(configured, key) or getattr(its, key) for key in _FROM_JOIN}
        if configured.tls == FleetTls():
            taken["tls"] = its.tls
        configured = msgspec.structs.replace(configured, **taken)
    if not configured.server:
        return None
    return msgspec.structs.replace(configured, name=configured.name or own_name(), mode=configured.mode or "enforce")


def expect(store: Store, configured: Fleet) -> Fleet:
    """Return how this host belongs to its fleet. Raise XdpguardError if it belongs to none."""
    its = settings(store, configured)
    if its is None:
        raise XdpguardError(
            "this host belongs to no fleet", "join one with: xdpguard fleet join nats://HOST, or give [fleet] server"
        )
    return its


def record(store: Store, its: Fleet | None) -> None:
    """Record how this host joined; None: it has left."""
    with store.transaction():
        if its is None:
            stored.forget(store)
        else:
            store.put_fact(stored.JOINED, msgspec.json.encode(its).decode())
