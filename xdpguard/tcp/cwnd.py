# SPDX-License-Identifier: GPL-2.0
"""Congestion windows over time: samples of connections, and a bounded history of each."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Iterable
from typing import NamedTuple

from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.tcp import CwndSample
from xdpguard.errors import XdpguardError
from xdpguard.net.netns import all_places
from xdpguard.tcp import program
from xdpguard.tcp.diag import Diag
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.names import ALL_STATES, LISTEN, TIME_WAIT
from xdpguard.tcp.process import Inodes
from xdpguard.tcp.program import Recording, Records

TRACEPOINTS = ("tcp:tcp_probe", "sock:inet_sock_set_state")
_SAMPLE = dtype(CwndSample)
_RING_PAGES = 2048  # 8 MiB: 87,000 samples
_SOCKETS = 65_536
_NO_THRESHOLD = 0x7FFFFFFF  # TCP_INFINITE_SSTHRESH, include/net/tcp.h


class Ends(NamedTuple):
    """A connection's addresses (16 bytes each) and ports."""

    local: bytes
    local_port: int
    remote: bytes
    remote_port: int


class Sample(NamedTuple):
    """A connection at one moment: ``at`` monotonic, ns; congestion window and threshold (None: unset) in segments,
    all other sizes in bytes; ``srtt`` in us; ``skipped``: segments since the previous sample that produced none.
    """

    at: int
    sk: int
    netns: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    window: int
    threshold: int | None
    srtt: int
    send_window: int
    receive_window: int
    flight: int
    skipped: int
    closed: bool

    @property
    def ends(self) -> Ends:
        """The connection's addresses and ports."""
        return Ends(*self[3:7])


class Windows(Recording):
    """The attached program. Use as a context manager."""

    def __init__(self, chosen: Filter, every: float) -> None:
        """``every``: minimum seconds between two samples of a connection."""
        switches = {"RING_PAGES": _RING_PAGES, "SOCKETS": _SOCKETS, "EVERY": round(every * 1e9)}
        self._program = program.load("cwnd", TRACEPOINTS, chosen, switches)
        self._ring = Records(self._program, _SAMPLE)
        self.inodes = Inodes(self._program, chosen.pid)

    def read(self) -> list[Sample]:
        """Return every sample since the last call, in order; a connection's end is a sample without values."""
        found = self._ring.read()
        columns = {name: found[name].tolist() for name in found.dtype.names or ()}
        columns["threshold"] = [None if it >= _NO_THRESHOLD else it for it in columns["threshold"]]
        columns["closed"] = [bool(it) for it in columns["closed"]]
        return [Sample(*row) for row in zip(*(columns[name] for name in Sample._fields), strict=True)]


class History:
    """The latest samples of the most recent live connections; the number of both is bounded."""

    def __init__(self, connections: int, samples: int) -> None:
        self._most = connections
        self._samples = samples
        self._held: OrderedDict[int, deque[Sample]] = OrderedDict()

    def add(self, samples: Iterable[Sample]) -> None:
        """Add samples, and drop the connections that have ended."""
        for it in samples:
            if it.closed:
                self._held.pop(it.sk, None)
                continue
            held = self._held.setdefault(it.sk, deque(maxlen=self._samples))
            if held and held[-1][2:7] != it[2:7]:
                held.clear()  # a new connection at the same address; the old one's end was lost
            held.append(it)
            self._held.move_to_end(it.sk)
            if len(self._held) > self._most:
                self._held.popitem(last=False)

    def sweep(self, living: Collection[Ends]) -> None:
        """Drop connections that are not among ``living``: their end was lost."""
        for sk in [sk for sk, its in self._held.items() if its[-1].ends not in living]:
            del self._held[sk]

    def connections(self) -> list[list[Sample]]:
        """Return each connection's samples, oldest first; the connection with the largest window first."""
        return sorted((list(it) for it in self._held.values()), key=lambda its: (-its[-1].window, its[-1].at))


def living() -> set[Ends]:
    """Return all current connections in all namespaces."""
    found: set[Ends] = set()
    for place in all_places():
        try:
            with Diag(place) as diag:
                sockets = diag.sockets(ALL_STATES & ~(1 << LISTEN | 1 << TIME_WAIT))
        except (XdpguardError, OSError):
            continue  # the namespace is gone
        names = ("local", "local_port", "remote", "remote_port")
        columns = (map(bytes, sockets[it]) if sockets[it].ndim > 1 else sockets[it].tolist() for it in names)
        found |= {Ends(*row) for row in zip(*columns, strict=True)}
    return found


_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Iterable[int]) -> str:
    """Draw values as blocks between zero and the largest of them."""
    numbers = list(values)
    largest = max(numbers, default=0)
    if not largest:
        return _BLOCKS[0] * len(numbers)
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, it * len(_BLOCKS) // (largest + 1))] for it in numbers)
