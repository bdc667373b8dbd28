# SPDX-License-Identifier: GPL-2.0
"""One reading of everything the screen shows. Takes milliseconds, however much the tables hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.control.controller import Controller
from xdpguard.control.filters import FilterWithHits
from xdpguard.control.interfaces import Interface
from xdpguard.control.presence import nothing_attached
from xdpguard.control.results import ListHits
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard, guardpolicy
from xdpguard.errors import XdpguardError
from xdpguard.net import netstat
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Label, Prefix, Target
from xdpguard.store import clock
from xdpguard.store.database import Store
from xdpguard.store.watch import StoreWatch
from xdpguard.tcp.evidence import Backlogs
from xdpguard.tcp.snapshot import Listener
from xdpguard.telemetry import counters, ranking
from xdpguard.telemetry.dropped import Decided, Dropped, End, Share

_SHADOW = 1 << 62
Place = tuple[str, str]  # name and network namespace of an interface
ALL: Place = ("", "")  # all interfaces together


@dataclass(frozen=True)
class Seen:
    """An interface. ``counts`` and ``guard`` are None if our program's maps are missing; times are Unix seconds."""

    its: Interface
    since: float
    counts: counters.Counters | None
    guard: guard.State | None
    active_since: float = 0.0
    at: float = 0.0  # when it was counted: monotonic, seconds
    listeners: Sequence[Listener] = ()  # those of its namespace, the fullest queue first
    overflows: int = 0  # handshakes of its namespace that found a full accept queue; read after the counters

    @property
    def place(self) -> Place:
        """What identifies it."""
        return self.its.name, self.its.netns


class Rules:
    """The rules of a store, with the columns that numpy needs."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self.slots: NDArray[np.intp] = np.array([rule.slot for rule in rules], np.intp)
        # Shadow rules come last, and have ids of their own.
        self.ids = np.array([rule.id + (_SHADOW if rule.mode == "shadow" else 0) for rule in rules], np.int64)
        # An id may be reused; the pair of id and time is unique.
        self.created = np.array([rule.created for rule in rules], np.float64)
        self.ends = np.array([np.inf if rule.expires is None else rule.expires for rule in rules], np.float64)
        self.shadow = np.array([rule.mode == "shadow" for rule in rules], np.bool_)
        self.stored = np.array([(rule.packets, rule.bytes) for rule in rules], np.uint64).reshape(-1, 2)
        self.places: dict[tuple[Label, Target], int] = {(it.label, it.target): n for n, it in enumerate(rules)}
        self._lengths = sorted({it.target.length for it in rules if isinstance(it.target, Prefix)}, reverse=True)

    def longest(self, label: Label, address: bytes, now: float) -> int | None:
        """Return the length of the longest prefix with a rule of that label that holds an address; None without one.

        ``address``: 4 or 16 bytes; ``now``: Unix time, at which the rule must not have ended.
        """
        number, bits = int.from_bytes(address, "big"), len(address) * 8
        for length in self._lengths:
            if length <= bits:
                network = number >> bits - length << bits - length
                place = self.places.get((label, Prefix(network.to_bytes(len(address), "big"), length)))
                if place is not None and self.ends[place] > now:
                    return length
        return None


class KnownRules:
    """The rules as they were read last: read again when the store was written, or the clock set, which moves ends."""

    def __init__(self, store: Path) -> None:
        """``store`` is the file."""
        self._watch = StoreWatch(store)
        self._version = -1
        self._ahead = 0.0
        self._rules = Rules([])

    def read(self, store: Store) -> Rules:
        """Return the rules of the store, which was opened for reading."""
        version, ahead = self._watch.version(), clock.stepped(store)
        if version != self._version or abs(ahead - self._ahead) > clock.STEP:
            self._rules = Rules([*store.rules(), *store.rules(mode="shadow")])
            self._version, self._ahead = version, ahead
        return self._rules


@dataclass(frozen=True)
class RuleHits:
    """Rules with all their hits, a row each: packets, bytes. ``at``: when they were counted, monotonic, seconds."""

    of: Rules
    hits: NDArray[np.uint64]
    at: float


class SeenList(NamedTuple):
    """A named list with all its hits. ``kind`` is ``shadow`` if it only counts."""

    found: ListHits
    kind: Literal["block", "shadow"] = "block"

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it: a list and a shadow list may share a name."""
        return self.kind, self.found.its.name


class Reading(NamedTuple):
    """Everything, at about one moment: on a busy machine its parts may be far apart, so each has a time of its own.

    ``wall`` is Unix time, seconds; ``lists_at`` monotonic.
    """

    wall: float
    interfaces: tuple[Seen, ...]
    mode: str  # of the SYN guard
    rules: RuleHits
    lists: tuple[SeenList, ...]
    lists_at: float
    syns: ranking.Syns
    filters: tuple[FilterWithHits, ...] = ()  # in the order in which they are asked; read with the lists
    filtered: Mapping[int, Mapping[End, Share]] = {}  # by slot of a filter: the sources of what it dropped
    decided: Mapping[bytes, Decided] = {}  # by source: what dropped its packet that was sampled last
    chance: Share = Share(0.0, 0.0, 0)  # drops of the sources that are too many to be named; `samples`: how many
    limits_clients: bool = False  # the guard limits connections by source, so that real clients may exceed it


Session = Callable[[], AbstractContextManager[Controller]]


class Reader:
    """Takes readings. ``session`` opens the controller without the lock. Call it in one thread only."""

    def __init__(self, pins: Pins, store: Path, session: Session) -> None:
        self._pins = pins
        self._rules = KnownRules(store)
        self._session = session
        self._syns: ranking.Syns | None = None
        self._dropped = Dropped(pins)
        self._backlogs = Backlogs()

    def __call__(self) -> Reading:
        """Take a reading. Raise XdpguardError if no attached interface is in reach, or it cannot be read."""
        with self._session() as session:
            interfaces = tuple(self._look(session))
            if not any(it.counts for it in interfaces):
                raise nothing_attached(session.store)
            now = time.monotonic()
            self._dropped.read({it.place: it.counts for it in interfaces if it.counts}, now)
            self._syns = ranking.read(self._pins, now, self._syns, self._dropped.by)
            rules, lists, at = self._hits(session), tuple(_lists(session)), time.monotonic()
            filters, policy, dropped = tuple(session.filters.in_force()), guardpolicy.read(self._pins), self._dropped
            return Reading(
                time.time(),
                interfaces,
                policy.mode,
                rules,
                lists,
                at,
                self._syns,
                filters,
                dropped.filters,
                dropped.decided,
                dropped.chance(),
                policy.connections,
            )

    def _look(self, session: Controller) -> list[Seen]:
        rows = session.store.execute("SELECT name, netns, attached FROM interfaces")
        since = {(name, netns): float(attached) for name, netns, attached in rows}
        found = []
        interfaces = session.interfaces()
        backlogs = self._backlogs.read({it.netns for it in interfaces})
        for it in interfaces:
            place = (it.name, it.netns)
            if not self._pins.is_current(*place):
                found.append(Seen(it, since.get(place, 0.0), None, None))
                continue
            state = guard.read(self._pins, *place)
            began = time.time() - (time.monotonic_ns() - state.began) / 1e9
            counts = counters.read(self._pins, *place)
            at = time.monotonic()
            active_since = began if state.active() else 0.0
            overflows = _overflows(it.netns)
            found.append(
                Seen(it, since.get(place, 0.0), counts, state, active_since, at, backlogs[it.netns], overflows)
            )
        return found

    def _hits(self, session: Controller) -> RuleHits:
        rules = self._rules.read(session.store)
        hits = rules.stored
        with session.tables() as tables:
            if (~rules.shadow).any() and session.rules.hits.counted_in(tables):
                hits = hits + np.where(rules.shadow[:, None], 0, tables.hits_at(rules.slots)).astype(np.uint64)
        if rules.shadow.any():
            hits = hits.copy()
            places = np.flatnonzero(rules.shadow)
            counted = session.shadow_rules.hits.of([rules.rules[int(place)] for place in places])
            hits[places] = [(it.packets, it.bytes) for it in counted]
        return RuleHits(rules, hits, time.monotonic())


def _overflows(netns: str) -> int:
    try:
        return netstat.listen_overflows(netns)
    except (XdpguardError, OSError):  # a namespace that no longer exists: its interfaces are shown as gone
        return 0


def _lists(session: Controller) -> Iterator[SeenList]:
    """Yield the lists that drop first, then shadow lists."""
    yield from (SeenList(it) for it in session.lists.in_force())
    yield from (SeenList(it, "shadow") for it in session.shadow_lists.in_force())
