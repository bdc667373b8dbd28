# SPDX-License-Identifier: GPL-2.0
"""TCP's figures for a service that runs for months: what is told of each namespace at one moment, part by part.

Counts since the beginning only rise; each part can be left out, and costs nothing then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np

from xdpguard.errors import XdpguardError
from xdpguard.tcp import evidence
from xdpguard.tcp.changes import Changes
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.histogram import Histogram
from xdpguard.tcp.live import Live
from xdpguard.tcp.names import STATES
from xdpguard.tcp.namespaces import Place, all_places
from xdpguard.tcp.resent import Counter
from xdpguard.tcp.rtt import RoundTrips
from xdpguard.tcp.snapshot import Listener


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

    ``states``: sockets in a state. Since the beginning: ``transitions`` from one state to another, ``retransmissions``
    in segments by kind, ``synacks`` sent again by local port, ``rtt`` in us, one value a received segment.
    """

    states: dict[tuple[str, str], int] = field(default_factory=dict)
    transitions: dict[tuple[str, str, str], int] = field(default_factory=dict)
    retransmissions: dict[tuple[str, str], int] = field(default_factory=dict)
    synacks: dict[tuple[str, int], int] = field(default_factory=dict)
    backlog: dict[str, list[Listener]] = field(default_factory=dict)
    rtt: dict[str, Histogram] = field(default_factory=dict)


class Figures:
    """The programs that the wanted parts need, attached. Use as a context manager."""

    def __init__(self, parts: Parts, places: Callable[[], list[Place]] = all_places) -> None:
        """``places`` are the namespaces that are looked at. MissingError where the kernel lacks what a part needs."""
        self._parts = parts
        self._places = places
        self._stack = ExitStack()
        with ExitStack() as stack:
            counted = parts.states or parts.transitions
            self._changes = stack.enter_context(Changes(Filter())) if counted else None
            self._live = Live(self._changes, places) if self._changes and parts.states else None
            self._resent = stack.enter_context(Counter()) if parts.retransmissions else None
            self._rtt = stack.enter_context(RoundTrips(Filter())) if parts.rtt else None
            self._stack = stack.pop_all()

    def read(self) -> Reading:
        """Every figure now."""
        found = Reading()
        places = self._places()
        names = {place.inode: place.name for place in places}
        if self._live:
            for now in self._live.read():
                found.states |= {(now.place.name, STATES[state]): number for state, number in now.states.items()}
        if self._changes and self._parts.transitions:
            for netns, matrix in self._changes.read().items():
                for a, b in np.argwhere(matrix) if netns in names else ():
                    found.transitions[names[netns], STATES[a], STATES[b]] = int(matrix[a, b])
        if self._resent:
            resent = self._resent.read()
            found.retransmissions = {
                (names[it.netns], it.kind): number for it, number in resent.kinds.items() if it.netns in names
            }
            found.synacks = {
                (names[it.netns], it.port): number for it, number in resent.synacks.items() if it.netns in names
            }
        if self._parts.backlog:
            for place in places:
                try:
                    found.backlog[place.name] = evidence.backlogs(place)
                except (XdpguardError, OSError):
                    continue  # it has gone
        if self._rtt:
            self._rtt.forget({place.inode for place in places})
            groups = self._rtt.read().items()
            found.rtt = {names[group.netns]: its for group, its in groups if group.netns in names}
        return found

    def close(self) -> None:
        """Detaches."""
        self._stack.close()

    def __enter__(self) -> Figures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def cumulative(histogram: Histogram) -> Mapping[float, int]:
    """How many times were at most so many seconds, by powers of two from 64 us to 8.4 s, as Prometheus has buckets."""
    powers = histogram.powers()
    return {(1 << power) / 1e6: sum(number for its, number in powers.items() if its < power) for power in range(6, 24)}
