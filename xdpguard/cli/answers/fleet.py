# SPDX-License-Identifier: GPL-2.0
"""The answer of fleet status: this host, and all others as they publish it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress

from msgspec import Struct

from xdpguard import units
from xdpguard.dataplane.sys.abi import SHADOW_RULES
from xdpguard.fleet import clock
from xdpguard.fleet.hosts import SILENT, HostState, Standing, Totals, totals
from xdpguard.fleet.hosts import decode as decode_host
from xdpguard.fleet.message import FleetList, Record, decode
from xdpguard.fleet.state import Message
from xdpguard.policy.fleet import Fleet
from xdpguard.policy.rule import GUARD, Mode


class HostAnswer(Struct, frozen=True):
    """One host. ``age``: seconds since it last published about itself; ``silent``: too many; ``clock``: by how many
    seconds its clock is ahead of the server's, 0 if by less than 2.
    """

    version: str
    age: float
    silent: bool
    mode: str
    digest: str
    entries: int
    wanted: int
    held: int
    refused: int
    broken: int
    keeping: bool
    floods: list[str]
    bans: int
    lists: dict[str, str]
    drops: dict[str, float]
    sources: int
    clock: int

    @classmethod
    def of(cls, its: HostState, now: float) -> HostAnswer:
        """Convert what a host published. ``now``: Unix time."""
        age = max(0.0, now - its.at)
        return cls(
            its.version,
            age,
            age > SILENT,
            its.mode,
            its.digest,
            its.entries,
            its.wanted,
            its.held,
            its.refused,
            its.broken,
            its.keeping,
            list(its.floods),
            its.bans,
            its.lists,
            its.drops,
            its.sources,
            its.clock,
        )


class ListAnswer(Struct, frozen=True):
    """A list of the fleet. ``hosts``: on how many it is in force, or counts; ``refused``: why not here, else empty."""

    entries: int
    digest: str
    hosts: int
    refused: str


class Ranked(Struct, frozen=True):
    """A source that hosts block for the fleet; ``guards``: how many of them by their guards."""

    target: str
    hosts: list[str]
    guards: int
    reason: str


def ranked(messages: Iterable[Message]) -> list[Ranked]:
    """Return the blocked sources, those that most hosts block first. What is no entry is left out."""
    found: dict[str, list[Record]] = defaultdict(list)
    for it in messages:
        with suppress(ValueError):
            if it.data is not None:
                record = decode(it.key, it.data)
                found[str(record.key.target)].append(record)
    rows = [
        Ranked(
            target,
            sorted(it.key.host for it in its),
            sum(it.origin == GUARD for it in its),
            next((units.visible(it.entry.reason) for it in its if it.entry.reason), ""),
        )
        for target, its in found.items()
    ]
    return sorted(rows, key=lambda it: (-len(it.hosts), it.target))


class FleetStatus(Struct, frozen=True):
    """``connected``: as `run` found it last; ``reached``: by this command; ``agree``: whether all hosts that are not
    silent know the same, None if fewer than two do; ``heard``: Unix time of the last message, None: never;
    ``crowded``: publishers of more than ``max_per_host`` entries, so many of which count here, with how many they have.
    """

    name: str
    server: list[str]
    mode: Mode
    connected: bool
    failed: str
    reached: bool
    gaps: int
    heard: float | None
    outbox: int
    here: HostAnswer
    agree: bool | None
    hosts: dict[str, HostAnswer]
    lists: dict[str, ListAnswer]
    totals: Totals
    max_per_host: int
    crowded: dict[str, int]

    @classmethod
    def of(
        cls,
        its: Fleet,
        here: Standing,
        outbox: int,
        others: Iterable[Message],
        lists: Iterable[Message],
        failed: str,
        ahead: float,
    ) -> FleetStatus:
        """Put the answer together, of what the server's buckets hold of hosts and lists.

        ``ahead``: by how many seconds this host's clock is ahead of the server's.
        """
        now = time.time()
        states = ((it.key, decode_host(it.data, it.at)) for it in others if it.data is not None)
        known = {name: state for name, state in sorted(states) if state is not None}
        hosts = {name: HostAnswer.of(state, now - ahead) for name, state in known.items()}
        digests = [it.digest for it in hosts.values() if not it.silent]
        return cls(
            its.name,
            list(its.server),
            its.limits.mode,
            here.connected,
            here.failed,
            not failed,
            here.gaps,
            here.heard or None,
            outbox,
            HostAnswer.of(here.state, now),
            len(set(digests)) == 1 if len(digests) > 1 else None,
            hosts,
            dict(_lists(lists, here, list(hosts.values()))),
            totals(known.values(), now - ahead),
            its.per_host,
            here.crowded,
        )

    def lines(self) -> Iterator[str]:
        """Yield what people are told before the table of hosts."""
        yield f"host {self.name} in the fleet of {', '.join(self.server)}, {self.mode} mode"
        if not self.here.version:
            yield "xdpguard run has not followed the fleet here yet; start it with: xdpguard run"
        else:
            state = "connected" if self.connected else f"not connected: {self.failed or 'not yet'}"
            yield f"xdpguard run, {units.span(self.here.age)} ago: {state}; {units.counted(self.gaps, 'gap')}"
            yield f"wanted {self.here.wanted:,}, held {self.here.held:,}, refused {self.here.refused:,}"
            if self.here.mode == "shadow" and self.here.wanted > SHADOW_RULES:
                yield f"shadow mode has room for {SHADOW_RULES:,} rules; what more is wanted is not counted here"
        for name, count in self.crowded.items():
            most = f"{self.max_per_host:,} count here ([fleet] max_per_host)"
            yield f"{name} has published {count:,} entries, of which {most}"
        if self.outbox:
            yield f"still to be published: {self.outbox:,}"
        if self.here.keeping:
            yield "the server lost its entries: this host keeps what it has; to decide: xdpguard fleet publish"
        if self.hosts:
            yield from _sums(self.totals)
        for name, it in self.lists.items():
            counts, hosts = units.counted(it.entries, "entry", "entries"), units.counted(len(self.hosts), "host")
            refused = f"; refused here: {it.refused}" if it.refused else ""
            yield f"list {name}: {counts}, held by {it.hosts:,} of {hosts}{refused}"
        wrong = [f"{name}: {clock.words(it.clock)} the server's" for name, it in self.hosts.items() if it.clock]
        if wrong:
            yield f"wrong clocks, by which entries end too soon or too late: {', '.join(wrong)}"
        if self.agree is not None:
            yield "all hosts know the same entries" if self.agree else "hosts differ in the entries they know"


def _sums(its: Totals) -> Iterator[str]:
    there = units.counted(its.hosts - its.silent, "host")
    flooded = f"floods on {its.flooded:,} of {there}" if its.floods else "no flood on any host"
    banned = f"{units.counted(its.bans, 'ban')} by guards, {units.counted(its.sources, 'source')} blocked for the fleet"
    yield f"{flooded}; {sum(its.drops.values()):,.1f} packets/s dropped on all hosts; {banned}"
    if its.drops:
        yield f"  of them {', '.join(f'{reason} {rate:,.1f}' for reason, rate in its.drops.items())}"


def _lists(
    messages: Iterable[Message], here: Standing, hosts: Collection[HostAnswer]
) -> Iterator[tuple[str, ListAnswer]]:
    for it in messages:
        with suppress(ValueError):
            its = None if it.data is None else decode(it.key, it.data).entry
            if isinstance(its, FleetList):
                held = sum(its.digest.startswith(host.lists.get(its.name) or "-") for host in hosts)
                yield its.name, ListAnswer(its.entries, its.digest, held, here.lists.get(its.name, ""))
