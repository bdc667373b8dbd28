# SPDX-License-Identifier: GPL-2.0
"""What this host publishes in the fleet of its own accord: its guard's bans, and the end of what has ended."""

from __future__ import annotations

import time
from collections.abc import Iterator

from xdpguard.fleet.keys import Key
from xdpguard.fleet.message import encode, value_of
from xdpguard.fleet.state import State
from xdpguard.policy.duration import parse_duration
from xdpguard.policy.fleet import Fleet as Settings
from xdpguard.policy.rule import FLEET, GUARD, NewRule
from xdpguard.policy.target import Prefix, parse_prefix
from xdpguard.store import origins
from xdpguard.store.database import Store

_GRACE = 60.0  # seconds after which an entry that has ended is deleted; hosts need no word of it


def due(store: Store, state: State, its: Settings) -> Iterator[tuple[str, bytes | None]]:
    """Yield keys to publish, each with its value, None to delete it, so that the bucket has what it is to have.

    This compares what the store and the bucket hold, so that nothing is lost while the server or the service is away.
    """
    bans = _bans(store) if its.share_bans else {}
    late = time.time() - parse_duration(its.clock_skew) - _GRACE
    for record in state.own.values():
        ended = record.entry.expires is not None and record.entry.expires < late
        if ended or (record.origin == GUARD and record.key.target not in bans):
            yield str(record.key), None
    for target, (reason, end) in bans.items():
        key = Key(its.name, "block", target)
        there = state.record(key)
        if there is None or (there.origin == GUARD and there.entry.expires != end):
            yield str(key), encode(value_of(NewRule("block", target, reason, FLEET, 0.0, end), GUARD))


def _bans(store: Store) -> dict[Prefix, tuple[str, float | None]]:
    now = time.time()
    held = origins.parts_of(store, "enforce", GUARD)
    return {
        parse_prefix(target)[0]: (reason, end)
        for (kind, target), (reason, end) in held.items()
        if kind == "block" and (end is None or end > now)
    }
