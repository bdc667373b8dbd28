# SPDX-License-Identifier: GPL-2.0
"""TCP metrics: of the namespaces with an attached interface, and the service's own.

The programs are attached at the first scrape; a service that nobody scrapes has no cost from them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec

from xdpguard.errors import XdpguardError
from xdpguard.net import netns
from xdpguard.net.netns import Place
from xdpguard.policy.model import TcpMetrics
from xdpguard.tcp.figures import Figures, Parts, Reading, cumulative
from xdpguard.tcp.names import SHOWN, STATES
from xdpguard.tcp.retrans import KINDS
from xdpguard.tcp.text import address

if TYPE_CHECKING:
    from xdpguard.metrics.samples import Gathering


class TcpFigures:
    """Call it from one thread at a time; ``wanted`` may be set from any."""

    def __init__(self) -> None:
        self.wanted = TcpMetrics(False, False, False, False, False)
        self._figures: Figures | None = None
        self._places: list[Place] = []

    def put(self, out: Gathering, links: Collection[str], most: int) -> list[XdpguardError]:
        """Add the figures; return why parts are missing.

        ``links``: namespaces with an attached interface; at most ``most`` listeners, and ports, are named.
        """
        self._places = _places(links)
        parts = Parts(**msgspec.structs.asdict(self.wanted))
        if self._figures is None:
            self._figures = Figures(parts, lambda: self._places)
        self._figures.want(parts)
        _put(out, self._figures.read(), [place.name for place in self._places], most)
        return self._figures.failed

    def close(self) -> None:
        """Detach the programs."""
        if self._figures is not None:
            self._figures.close()
        self._figures = None


def _places(links: Collection[str]) -> list[Place]:
    """Return the namespaces of these names, and the service's own, without those that no longer exist."""
    found: dict[int, Place] = {}
    for name in ("", *sorted(name for name in links if name)):
        with contextlib.suppress(XdpguardError, OSError):
            place = netns.place(name)
            found.setdefault(place.inode, place)
    return list(found.values())


def _put(out: Gathering, its: Reading, names: Collection[str], most: int) -> None:
    # Emit possible values as 0 before they occur: a rate needs an earlier value.
    for name in sorted(its.counted):
        for state in SHOWN:
            out.put("xdpguard_tcp_sockets", its.states.get((name, STATES[state]), 0), name, STATES[state])
    for (name, old, new), number in sorted(its.transitions.items()):
        out.put("xdpguard_tcp_transitions_total", number, name, old, new)
    if its.resent:
        for name in names:
            for kind in KINDS[1:]:
                out.put("xdpguard_tcp_retransmissions_total", its.retransmissions.get((name, kind), 0), name, kind)
    listeners = [(name, listener) for name, found in its.backlog.items() for listener in found]
    listeners.sort(key=lambda it: -it[1].share)
    ports = dict(its.synacks)
    for name, it in listeners[:most]:
        labels = name, address(it.address), str(it.port)
        out.put("xdpguard_tcp_accept_queue", it.fullest.length, *labels)
        out.put("xdpguard_tcp_accept_queue_limit", it.fullest.limit, *labels)
        out.put("xdpguard_tcp_syn_backlog", it.syn.length, *labels)
        out.put("xdpguard_tcp_syn_backlog_limit", it.syn.limit, *labels)
        if its.resent:
            ports.setdefault((name, it.port), 0)
    for (name, port), number in sorted(ports.items(), key=lambda it: -it[1])[:most]:
        out.put("xdpguard_tcp_synack_retransmissions_total", number, name, str(port))
    for name, times in its.rtt.items():
        buckets = (*cumulative(times).items(), (math.inf, times.count))
        out.put("xdpguard_tcp_rtt_seconds", times.sum / 1e6, name, buckets=buckets)
