# SPDX-License-Identifier: GPL-2.0
"""TCP's figures for a service that runs for months: what is told of each namespace at one moment, part by part.

Counts since the beginning only rise; each part can be left out, and costs nothing then.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Generic, Protocol, TypeVar

import numpy as np

from xdpguard.errors import MissingError, XdpguardError
from xdpguard.net.netns import NoSuchNamespace, Place, all_places, cookie_of
from xdpguard.tcp import evidence, program
from xdpguard.tcp.changes import Changes
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.histogram import Histogram
from xdpguard.tcp.live import Live
from xdpguard.tcp.names import STATES
from xdpguard.tcp.resent import Counter
from xdpguard.tcp.rtt import RoundTrips
from xdpguard.tcp.snapshot import Listener

_AGAIN = 300.0  # seconds until it is tried again to attach what the kernel did not take


@dataclass(frozen=True)
class Parts:
    """What is wanted."""

    states: bool = True
    transitions: bool = True
    retransmissions: bool = True
    backlog: bool = True
    rtt: bool = True


@dataclass
class Reading:
    """All figures, by name of the namespace (empty: the service's own) and what they are of.

    ``counted``: namespaces whose ``states`` are told, sockets in a state. Since the beginning: ``transitions`` from one
    state to another; where ``resent`` says so, ``retransmissions`` in segments by kind, and ``synacks`` sent again by
    local port; ``rtt`` in us, one value a received segment.
    """

    counted: set[str] = field(default_factory=set)
    states: dict[tuple[str, str], int] = field(default_factory=dict)
    transitions: dict[tuple[str, str, str], int] = field(default_factory=dict)
    resent: bool = False
    retransmissions: dict[tuple[str, str], int] = field(default_factory=dict)
    synacks: dict[tuple[str, int], int] = field(default_factory=dict)
    backlog: dict[str, list[Listener]] = field(default_factory=dict)
    rtt: dict[str, Histogram] = field(default_factory=dict)


class Figures:
    """The programs that the wanted parts need, attached. Use as a context manager."""

    def __init__(self, parts: Parts, places: Callable[[], list[Place]] = all_places) -> None:
        """``places`` are the namespaces that are looked at."""
        self._places = places
        self._changes = _Part(lambda: Changes(Filter()))
        self._resent = _Part(Counter)
        self._rtt = _Part(_round_trips)
        self._live: Live | None = None
        self._cookies: dict[int, int] = {}
        self._parts = Parts(False, False, False, False, False)
        self.want(parts)

    def want(self, parts: Parts) -> None:
        """Attaches and detaches what has changed; the counts of all others go on. `failed` says what could not be."""
        self._parts = parts
        self._changes.want(parts.states or parts.transitions)
        self._resent.want(parts.retransmissions)
        self._rtt.want(parts.rtt)
        if not parts.states or self._changes.its is None:
            self._live = None
        elif self._live is None:
            self._live = Live(self._changes.its, self._places)

    @property
    def failed(self) -> list[XdpguardError]:
        """Why parts that are wanted are not there; what failed is tried again some time later."""
        return [part.failed for part in (self._changes, self._resent, self._rtt) if part.failed]

    def read(self) -> Reading:
        """Every figure now."""
        found = Reading()
        places = self._places()
        names = {place.inode: place.name for place in places}
        gone = self._gone()
        for part in (self._changes, self._resent, self._rtt):
            if part.its is not None:
                part.its.forget(gone)
        if self._live:
            self._live.renew(names, gone)
            for now in self._live.read():
                found.counted.add(now.place.name)
                found.states |= {(now.place.name, STATES[state]): number for state, number in now.states.items()}
        if self._changes.its and self._parts.transitions:
            for netns, matrix in self._changes.its.read().items():
                for a, b in np.argwhere(matrix) if netns in names else ():
                    found.transitions[names[netns], STATES[a], STATES[b]] = int(matrix[a, b])
        if self._resent.its:
            resent, found.resent = self._resent.its.read(), True
            found.retransmissions = {
                (names[it.netns], it.kind): number for it, number in resent.kinds.items() if it.netns in names
            }
            found.synacks = {
                (names[it.netns], it.port): number for it, number in resent.synacks.items() if it.netns in names
            }
        if self._parts.backlog:
            for place in places:
                with contextlib.suppress(XdpguardError, OSError):  # it has gone
                    found.backlog[place.name] = evidence.backlogs(place)
        if self._rtt.its:
            groups = self._rtt.its.read().items()
            found.rtt = {names[group.netns]: its for group, its in groups if group.netns in names}
        return found

    def close(self) -> None:
        """Detaches."""
        self.want(Parts(False, False, False, False, False))

    def __enter__(self) -> Figures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _gone(self) -> Callable[[int], bool]:
        """Whether the namespace of an inode number has gone since the last time: also where another has it now."""
        now: dict[int, int] = {}
        for place in all_places():
            with contextlib.suppress(OSError, NoSuchNamespace):
                now[place.inode] = cookie_of(place)
        before, self._cookies = self._cookies, now
        return lambda inode: inode not in now or before.get(inode, now[inode]) != now[inode]


class _Program(Protocol):
    def forget(self, gone: Callable[[int], bool]) -> None: ...
    def close(self) -> None: ...


_P = TypeVar("_P", bound=_Program)


class _Part(Generic[_P]):
    """A program that is attached while it is wanted."""

    def __init__(self, make: Callable[[], _P]) -> None:
        self.its: _P | None = None
        self.failed: XdpguardError | None = None
        self._make = make
        self._tried = 0.0

    def want(self, wanted: bool) -> None:
        if not wanted:
            if self.its is not None:
                self.its.close()
            self.its, self.failed = None, None
        elif self.its is None and (self.failed is None or time.monotonic() - self._tried >= _AGAIN):
            self._tried = time.monotonic()
            try:
                self.its, self.failed = self._make(), None
            except XdpguardError as error:
                self.failed = error


def _round_trips() -> RoundTrips:
    if not program.tells_socket():
        raise MissingError(
            "this kernel's tcp:tcp_probe does not tell the socket, hence not its namespace",
            "use a kernel whose tracepoint has the field skaddr",
        )
    return RoundTrips(Filter())


def cumulative(histogram: Histogram) -> Mapping[float, int]:
    """How many times were at most so many seconds, by powers of two from 64 us to 8.4 s, as Prometheus has buckets."""
    powers = histogram.powers()
    return {(1 << power) / 1e6: sum(number for its, number in powers.items() if its < power) for power in range(6, 24)}
