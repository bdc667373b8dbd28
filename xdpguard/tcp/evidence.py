# SPDX-License-Identifier: GPL-2.0
"""What the listeners of a namespace suffer: the evidence of a flood, or of an application that does not keep up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from xdpguard.net.netns import entered_path
from xdpguard.tcp import snapshot, sysctls
from xdpguard.tcp.diag import Diag
from xdpguard.tcp.names import LISTEN, SYN_RECV
from xdpguard.tcp.namespaces import Place
from xdpguard.tcp.resent import Counter, Service
from xdpguard.tcp.snapshot import Listener, Snapshot


class Pressure(NamedTuple):
    """A listener with its queues and their limits, and how many SYN-ACKs its port sends again a second."""

    listener: Listener
    synacks_per_second: float


def backlogs(place: Place) -> list[Listener]:
    """The listeners of a namespace, the fullest queue first. Only listeners and half-open connections are asked for;
    ``connections`` counts none. OSError when the namespace has gone.
    """
    with entered_path(place.path):
        limits = sysctls.read()
    with Diag(place) as diag:
        return snapshot.listeners(Snapshot(place, diag.sockets(1 << LISTEN | 1 << SYN_RECV), limits))


class Evidence:
    """Asked again and again, within its `Counter`."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._before: Mapping[Service, int] = counter.read().synacks
        self._at = time.monotonic()

    def read(self, places: list[Place]) -> dict[int, list[Pressure]]:
        """By inode number of the namespace; rates are those since the last call."""
        now, at = self._counter.read().synacks, time.monotonic()
        seconds = max(at - self._at, 1e-3)
        rates = {it: (number - self._before.get(it, 0)) / seconds for it, number in now.items()}
        self._before, self._at = now, at
        return {
            place.inode: [
                Pressure(it, max(0.0, rates.get(Service(place.inode, it.port), 0.0))) for it in backlogs(place)
            ]
            for place in places
        }
