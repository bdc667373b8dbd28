# SPDX-License-Identifier: GPL-2.0
"""TCP figures for a service that runs for months: read for each namespace at one moment, part by part.

Counters only rise. Each part can be disabled, and then costs nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

from xdpguard.closeable import Closeable
from xdpguard.errors import XdpguardError
from xdpguard.net.netns import NoSuchNamespace, Place, all_places, cookie_of
from xdpguard.tcp import evidence
from xdpguard.tcp.changes import Changes
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.histogram import Histogram
from xdpguard.tcp.live import Live
from xdpguard.tcp.names import STATES
from xdpguard.tcp.resent import Counter
from xdpguard.tcp.rtt import RoundTrips
from xdpguard.tcp.snapshot import Listener

_RETRY_AFTER = 300.0  # seconds before another attempt to attach a program that the kernel refused


@dataclass(frozen=True)
class Parts:
    """The parts that are enabled."""

    states: bool = True
    transitions: bool = True
    retransmissions: bool = True
    backlog: bool = True
    rtt: bool = True


@dataclass
class Reading:
    """All figures, by the namespace's name (empty: the service's own) and their subject.

    ``counted``: the namespaces with ``states``, which are sockets by state. Counters since the start: ``transitions``
    from one state to another; if ``resent`` is set, ``retransmissions`` in segments by kind, and ``synacks``
    retransmitted by local port; ``rtt`` in us, one value per received segment.
    """

    counted: set[str] = field(default_factory=set)
    states: dict[tuple[str, str], int] = field(default_factory=dict)
    transitions: dict[tuple[str, str, str], int] = field(default_factory=dict)
    resent: bool = False
    retransmissions: dict[tuple[str, str], int] = field(default_factory=dict)
    synacks: dict[tuple[str, int], int] = field(default_factory=dict)
    backlog: dict[str, list[Listener]] = field(default_factory=dict)
    rtt: dict[str, Histogram] = field(default_factory=dict)


class Figures(Closeable):
    """The programs that the enabled parts need, attached. Use as a context manager."""

    def __init__(self, parts: Parts, places: Callable[[], list[Place]] = all_places) -> None:
        """``places`` returns the namespaces to read."""
        self._places = places
        self._changes = _Part(lambda: Changes(Filter()))
        self._resent = _Part(Counter)
        self._rtt = _Part(lambda: RoundTrips(Filter()))
        self._live: Live | None = None
        self._cookies: dict[int, int] = {}
        self._parts = Parts(False, False, False, False, False)
        self.want(parts)

    def want(self, parts: Parts) -> None:
        """Attach and detach what has changed; other counters continue. `failed` lists what could not be attached."""
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
        """The errors of enabled parts that are not attached; attaching is retried later."""
        return [part.failed for part in (self._changes, self._resent, self._rtt) if part.failed]

    def read(self) -> Reading:
        """Return every figure as of now."""
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
                with contextlib.suppress(XdpguardError, OSError):  # it is gone
                    found.backlog[place.name] = evidence.backlogs(place)
        if self._rtt.its:
            groups = self._rtt.its.read().items()
            found.rtt = {names[group.netns]: its for group, its in groups if group.netns in names}
        return found

    def close(self) -> None:
        """Detach everything."""
        self.want(Parts(False, False, False, False, False))

    def _gone(self) -> Callable[[int], bool]:
        """Return a test whether a namespace, by inode number, vanished since the last call; its inode may be reused."""
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
    """A program that is attached while it is enabled."""

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
        elif self.its is None and (self.failed is None or time.monotonic() - self._tried >= _RETRY_AFTER):
            self._tried = time.monotonic()
            try:
                self.its, self.failed = self._make(), None
            except XdpguardError as error:
                self.failed = error


def cumulative(histogram: Histogram) -> Mapping[float, int]:
    """Return the number of values up to each power of two from 64 us to 8.4 s, as Prometheus buckets in seconds."""
    powers = histogram.powers()
    return {(1 << power) / 1e6: sum(number for its, number in powers.items() if its < power) for power in range(6, 24)}
