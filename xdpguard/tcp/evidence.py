# SPDX-License-Identifier: GPL-2.0
"""Pressure on the listeners of a namespace: evidence of a flood, or of an application that does not keep up."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from xdpguard.errors import XdpguardError
from xdpguard.net import netns
from xdpguard.net.netns import Place, entered_path
from xdpguard.tcp import snapshot, sysctls
from xdpguard.tcp.diag import Diag
from xdpguard.tcp.live import Pace
from xdpguard.tcp.names import LISTEN, SYN_RECV
from xdpguard.tcp.resent import Counter, Service
from xdpguard.tcp.snapshot import Listener, Snapshot
from xdpguard.tcp.text import end

_MOST = 2  # listeners described
_LEAST = 0.5  # SYN-ACKs/s that are worth mentioning


class Pressure(NamedTuple):
    """A listener with its queues and their limits, and the SYN-ACKs/s that its port retransmits."""

    listener: Listener
    synacks_per_second: float


def backlogs(place: Place) -> list[Listener]:
    """Return the listeners of a namespace, the fullest queue first.

    Reads only listeners and half-open connections, so ``connections`` is 0. Raises OSError if the namespace is gone.
    """
    with entered_path(place.path):
        limits = sysctls.read()
    with Diag(place) as diag:
        return snapshot.listeners(Snapshot(place, diag.sockets(1 << LISTEN | 1 << SYN_RECV), limits))


class Evidence:
    """Measures the pressure repeatedly. Use while its `Counter` is attached."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._before: dict[Service, int] = {}
        self._begun = 0.0
        self._at: dict[int, float] = {}  # by namespace, when it was last read
        self.begin()

    def begin(self) -> None:
        """Restart: rates are measured from here on."""
        self._before, self._begun, self._at = self._counter.read().synacks, time.monotonic(), {}

    def read(self, place: Place) -> list[Pressure]:
        """Return the listeners of a namespace, the fullest queue first.

        Rates are those since the last call for the namespace; a port's rate is reported with its fullest listener.
        """
        now, at = self._counter.read().synacks, time.monotonic()
        seconds = max(at - self._at.get(place.inode, self._begun), 1e-3)
        rates = {
            its.port: max(0, number - self._before.get(its, 0)) / seconds
            for its, number in now.items()
            if its.netns == place.inode
        }
        self._before |= {its: number for its, number in now.items() if its.netns == place.inode}
        self._at[place.inode] = at
        return [Pressure(it, rates.pop(it.port, 0.0)) for it in backlogs(place)]


class Backlogs:
    """Caches `backlogs` of namespaces by name, so that reading them takes at most 1% of a core."""

    def __init__(self) -> None:
        self._pace = Pace(0.0)
        self._found: dict[str, list[Listener]] = {}

    def read(self, names: Collection[str]) -> Mapping[str, list[Listener]]:
        """Return the current or very recent backlogs; empty for a namespace that is gone."""
        if not self._pace.due() and self._found.keys() == set(names):
            return self._found
        begun = time.thread_time()
        self._found = {name: _backlogs_of(name) for name in names}
        self._pace.spent(time.thread_time() - begun)
        return self._found


def _backlogs_of(name: str) -> list[Listener]:
    try:
        return backlogs(netns.place(name))
    except (XdpguardError, OSError):
        return []


def describe(found: Sequence[Pressure], port: int) -> str:
    """Describe the listeners on a port; if there is none, those with waiting connections; empty if there are none."""
    on_it = [it for it in found if it.listener.port == port] or [it for it in found if _waits(it.listener)]
    return "; ".join(_describe(it) for it in on_it[:_MOST])


def _waits(it: Listener) -> bool:
    return bool(it.syn.length or it.accept.length)


def _describe(pressure: Pressure) -> str:
    it = pressure.listener
    again = f" ({it.syn_retransmitted:,} with a retransmitted SYN-ACK)" if it.syn_retransmitted else ""
    rate = pressure.synacks_per_second
    sent = f", {rate:,.0f} SYN-ACKs/s retransmitted" if rate >= _LEAST else ""
    return (
        f"{end(it.address, it.port)}: SYN backlog {it.syn.length:,}/{it.syn.limit:,}{again},"
        f" accept queue {it.fullest.length:,}/{it.fullest.limit:,}{sent}"
    )
