# SPDX-License-Identifier: GPL-2.0
"""How hosts stand: what each publishes about itself, and what `run` records for `fleet status` here."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Annotated

import msgspec

from xdpguard.dataplane.sys import abi
from xdpguard.store import fleet as stored
from xdpguard.store.database import Store

_OTHER, _FASTEST = "other", 1e10  # reasons of other versions; packets a second that no host exceeds
SILENT = 150.0  # seconds without a word after which a host counts as silent; each publishes once a minute
_LARGEST = 8192  # bytes of a state
_FOLLOWING = 3e11  # Unix time, seconds: beyond any calendar
_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
_Seconds = Annotated[int, msgspec.Meta(ge=-(10**10), le=10**10)]


class HostState(msgspec.Struct, frozen=True):
    """How a host stands. ``digest``: of what it knows to be wanted, the same on all that know the same.

    ``entries``: keys in the bucket; ``wanted``: targets; ``held``: rules and filters of the fleet that are in force
    there; ``refused``: those it may not put in force; ``broken``: keys with a value that is none; ``keeping``:
    it keeps what it had, because the server lost its data; ``floods``: interfaces with a flood now; ``bans``: of its
    guard; ``lists``: of the fleet, in force there, each with the first 8 digits of its digest; ``drops``: packets a
    second by reason; ``sources``: that it knows to be blocked by anybody; ``clock``: by how many seconds its clock is
    ahead of the server's; ``at``: Unix time, by the server's clock where it came from there.
    """

    v: int = 1
    version: str = ""
    mode: str = "enforce"
    digest: str = ""
    entries: _Count = 0
    wanted: _Count = 0
    held: _Count = 0
    refused: _Count = 0
    broken: _Count = 0
    keeping: bool = False
    floods: tuple[str, ...] = ()
    bans: _Count = 0
    lists: dict[str, str] = {}
    drops: dict[str, float] = {}
    sources: _Count = 0
    clock: _Seconds = 0
    at: float = 0.0


class Totals(msgspec.Struct, frozen=True):
    """All hosts together. ``silent`` ones count as hosts and in nothing else; ``flooded``: hosts with a flood now, and
    ``floods``: interfaces with one; ``drops``: packets a second by reason; ``bans``: of all guards, a source once for
    each; ``sources``: that anybody blocks for the fleet, each once.
    """

    hosts: int
    silent: int
    flooded: int
    floods: int
    drops: dict[str, float]
    bans: int
    sources: int


def totals(states: Iterable[HostState], now: float) -> Totals:
    """Sum up what hosts published. ``now``: Unix time."""
    every = list(states)
    heard = [it for it in every if now - it.at <= SILENT]
    drops: dict[str, float] = defaultdict(float)
    known = {it.name for it in abi.reasons()}
    for it in heard:
        for reason, rate in it.drops.items():
            drops[reason if reason in known else _OTHER] += min(max(rate, 0.0), _FASTEST)
    return Totals(
        len(every),
        len(every) - len(heard),
        sum(bool(it.floods) for it in heard),
        sum(len(it.floods) for it in heard),
        {reason: round(rate, 1) for reason, rate in sorted(drops.items(), key=lambda it: -it[1])},
        sum(it.bans for it in heard),
        max((it.sources for it in heard), default=0),
    )


class Standing(msgspec.Struct, frozen=True):
    """How `run` found the fleet last. ``failed``: why the server could not be used; ``heard``: Unix time, 0: never;
    ``lists``: those that are refused here, each with why; ``crowded``: publishers of more entries than count here
    ([fleet] max_per_host), with how many they have.
    """

    connected: bool = False
    failed: str = ""
    gaps: int = 0
    heard: float = 0.0
    state: HostState = HostState()
    lists: dict[str, str] = {}
    crowded: dict[str, int] = {}


def decode(data: bytes, stored: float) -> HostState | None:
    """Parse what a host published about itself; None if this is no such state of a known version.

    ``stored``: when the server stored it, by its clock, which counts: a host's own may be wrong.
    """
    if len(data) > _LARGEST:
        return None
    try:
        found = msgspec.json.decode(data, type=HostState)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return msgspec.structs.replace(found, at=stored) if found.v == 1 and 0 <= found.at < _FOLLOWING else None


def record(store: Store, its: Standing) -> None:
    """Record how `run` finds the fleet."""
    with store.transaction():
        store.put_fact(stored.STATE, msgspec.json.encode(its).decode())


def recorded(store: Store) -> Standing | None:
    """Return how `run` found the fleet last; None if it never did."""
    text = store.fact(stored.STATE)
    try:
        return msgspec.json.decode(text, type=Standing) if text else None
    except msgspec.DecodeError:
        return None
