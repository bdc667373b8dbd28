# SPDX-License-Identifier: GPL-2.0
"""Read what `status` shows: the interfaces with their rates, what is in force, who runs, and what is wrong."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from xdpguard import units
from xdpguard.cli import health
from xdpguard.cli.session import Options, pins
from xdpguard.errors import XdpguardError
from xdpguard.net.netns import place_of

if TYPE_CHECKING:
    from xdpguard.cli.health import Place, Waiting
    from xdpguard.control.answering import Reach, Silence
    from xdpguard.control.audit import Audit
    from xdpguard.control.controller import Controller
    from xdpguard.control.interfaces import Interface
    from xdpguard.control.needed import Conflict
    from xdpguard.dataplane.sys.pins import Pins
    from xdpguard.net.links import Link
    from xdpguard.store.bridges import Bridge
    from xdpguard.telemetry.counters import Counters

_SAMPLE = 0.25  # seconds over which rates are taken, at least


class Rates(NamedTuple):
    """Packets per second on an interface, and those of them that were dropped."""

    packets: float
    drops: float


class Flood(NamedTuple):
    """A flood on an interface: how long the guard has been active, in seconds, and what for."""

    seconds: float
    cause: str
    port: int

    @property
    def words(self) -> str:
        """The flood as a clause."""
        port = f", port {self.port}" if self.port else ""
        return f"{self.cause or 'unknown cause'}{port}; guard active for {units.about(self.seconds)}"


@dataclass
class Found:
    """All that `status` shows. ``service``: the process of `run`, 0: none; ``metrics``: where it serves them.

    ``bans``: rules of the guard; ``fleet``: how this host stands in it, empty without one; ``others``: what other
    instances are attached to. By name and namespace: ``rates``, ``floods``.
    """

    instance: str
    interfaces: list[Interface]
    answers: Reach
    rules: dict[str, int]
    bans: int
    lists: dict[str, int]
    shadow_rules: int
    shadow_lists: dict[str, int]
    filters: dict[str, int]
    default: str
    audit: Audit | None
    awaited: list[Place]
    unread: str
    conflicts: list[Conflict]
    everybody: list[str]
    waiting: Waiting
    bridges: list[Bridge]
    away: list[str]
    clock: list[str]
    fleet: str
    service: int = 0
    metrics: list[str] = field(default_factory=list)
    others: dict[str, list[str]] = field(default_factory=dict)
    rates: dict[Place, Rates] = field(default_factory=dict)
    floods: dict[Place, Flood] = field(default_factory=dict)

    @property
    def silent(self) -> list[tuple[Interface, Silence]]:
        """The interfaces whose guard is on, but answers nobody."""
        return list(self.answers.failing(self.interfaces))

    @property
    def degraded(self) -> list[str]:
        """Everything that is wrong, a sentence each."""
        faults = health.faults(self.interfaces, self.audit, self.conflicts, self.awaited, self.unread)
        return [*faults, *(health.silent_text(*it) for it in self.silent), *self.away]

    @property
    def state(self) -> str:
        """In one word: ok, flood or degraded."""
        return "degraded" if self.degraded else "flood" if self.floods else "ok"


def read(session: Controller, chosen: Options, interface: str, netns: str | None, rates: bool) -> Found:
    """Read it. ``rates``: also how many packets come, which takes a quarter of a second, and who else is there."""
    from xdpguard.control import needed, openness
    from xdpguard.control.answering import Reach
    from xdpguard.control.default import in_force, words_of
    from xdpguard.policy.rule import GUARD
    from xdpguard.store import origins

    now, held = time.time(), pins(chosen)
    interfaces = session.matching(interface, netns)
    links = session.links(interfaces)
    before, begun = _counters(held, links) if rates else {}, time.monotonic()
    audit = session.audit()
    answers = Reach(held, links)
    awaited, unread = health.awaited(session, chosen)
    bridges, away = health.bridged(session.store)
    found = Found(
        instance=chosen.instance.name,
        interfaces=interfaces,
        answers=answers,
        rules=session.store.counts(now),
        bans=origins.count_of(session.store, "enforce", GUARD, now),
        lists={it.name: it.entries for it in session.lists.stored.all()},
        shadow_rules=len(session.shadow_rules.in_force()),
        shadow_lists={it.name: it.entries for it in session.shadow_lists.stored.all()},
        filters=session.filters.stored.count(now),
        default=words_of(in_force(session.store)),
        audit=audit,
        awaited=awaited,
        unread=unread,
        conflicts=needed.kept(session.store),
        everybody=openness.notes(session.store),
        waiting=health.waiting(session.store),
        bridges=bridges,
        away=away,
        clock=health.clock_notes(session.store) if audit else [],
        fleet=health.fleet(session.store, now),
        floods=_floods(held, links, answers.mode),
    )
    if rates:
        found.service = chosen.instance.served_by()
        found.metrics = _served(found.service) if found.service else []
        found.others = _others(chosen)
        found.rates = _rates(held, links, before, begun)
    return found


def _counters(held: Pins, links: Iterable[Link]) -> dict[Place, Counters]:
    from xdpguard.telemetry import counters

    found = {}
    for it in links:
        # An interface that is being detached, or was renamed, has none under its name.
        with contextlib.suppress(XdpguardError, OSError):
            found[it.name, it.netns] = counters.read(held, it.name, it.netns)
    return found


def _rates(held: Pins, links: Iterable[Link], before: dict[Place, Counters], begun: float) -> dict[Place, Rates]:
    if not before:
        return {}
    if (left := begun + _SAMPLE - time.monotonic()) > 0:
        select.select([], [], [], left)
    seconds = time.monotonic() - begun
    return {
        place: Rates(
            max(0, its.packets - before[place].packets) / seconds, max(0, its.dropped - before[place].dropped) / seconds
        )
        for place, its in _counters(held, links).items()
        if place in before
    }


def _floods(held: Pins, links: Iterable[Link], mode: str) -> dict[Place, Flood]:
    from xdpguard.dataplane.tables import guard

    if mode in ("off", "always"):  # always: active without a flood
        return {}
    states = {(it.name, it.netns): guard.read(held, it.name, it.netns) for it in links}
    now = time.monotonic_ns()
    return {
        place: Flood((now - its.began) / 1e9, guard.CAUSES[its.cause], its.port)
        for place, its in states.items()
        if its.active() and its.began
    }


def _served(process: int) -> list[str]:
    """Return the URLs at which `run` serves metrics: it listens for nothing else."""
    from xdpguard.net import listening
    from xdpguard.tcp.owners import inodes_of

    mine = inodes_of(process)
    places = [it for it in listening.read() if it.inode in mine]
    return [f"http://{f'[{it.address}]' if ':' in it.address else it.address}:{it.port}/metrics" for it in places]


def _others(chosen: Options) -> dict[str, list[str]]:
    """Return the interfaces that carry the program of other instances."""
    from xdpguard.control.presence import presences
    from xdpguard.store.database import Store

    found = {}
    folder = chosen.instance.bpffs / "xdpguard"
    for name in sorted(it.name for it in folder.glob("*") if it.name != chosen.instance.name):
        path = chosen.instance.state / name / "store.db"
        # One that is damaged, or of another version, is for its own `status` to tell.
        with contextlib.suppress(XdpguardError, OSError):
            if path.exists():
                with Store(path, read_only=True) as store:
                    there = presences(store).carrying
                if there:
                    found[name] = [it.moved or place_of(it.name, it.netns) for it in there]
    return found
