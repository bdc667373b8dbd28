# SPDX-License-Identifier: GPL-2.0
"""Congestion windows over time: samples of connections, and what is remembered of each."""

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
    """Addresses, 16 octets, and ports of a connection."""

    local: bytes
    local_port: int
    remote: bytes
    remote_port: int


class Sample(NamedTuple):
    """A connection at a moment: ``at`` monotonic, ns; windows of congestion and threshold (None: not set yet) in
    segments, all others in octets; ``srtt`` in us; ``skipped``: segments since the sample before that made none.
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
        """The connection's."""
        return Ends(*self[3:7])


class Windows(Recording):
    """The program, attached. Use as a context manager."""

    def __init__(self, chosen: Filter, every: float) -> None:
        """``every``: least seconds between two samples of a connection."""
        switches = {"RING_PAGES": _RING_PAGES, "SOCKETS": _SOCKETS, "EVERY": round(every * 1e9)}
        self._program = program.load("cwnd", TRACEPOINTS, chosen, switches)
        self._ring = Records(self._program, _SAMPLE)
        self.inodes = Inodes(self._program, chosen.pid)

    def read(self) -> list[Sample]:
        """Every sample since the last call, in order; the end of a connection that had some is one without values."""
        found = self._ring.read()
        columns = {name: found[name].tolist() for name in found.dtype.names or ()}
        columns["threshold"] = [None if it >= _NO_THRESHOLD else it for it in columns["threshold"]]
        columns["closed"] = [bool(it) for it in columns["closed"]]
        return [Sample(*row) for row in zip(*(columns[name] for name in Sample._fields), strict=True)]


class History:
    """The last samples of the connections that live: of the most recent ones, so many each."""

    def __init__(self, connections: int, samples: int) -> None:
        self._most = connections
        self._samples = samples
        self._held: OrderedDict[int, deque[Sample]] = OrderedDict()

    def add(self, samples: Iterable[Sample]) -> None:
        """Takes samples in, and forgets connections that have ended."""
        for it in samples:
            if it.closed:
                self._held.pop(it.sk, None)
                continue
            held = self._held.setdefault(it.sk, deque(maxlen=self._samples))
            if held and held[-1][2:7] != it[2:7]:
                held.clear()  # another connection in the same place, whose predecessor's end was lost
            held.append(it)
            self._held.move_to_end(it.sk)
            if len(self._held) > self._most:
                self._held.popitem(last=False)

    def sweep(self, living: Collection[Ends]) -> None:
        """Forgets connections that are not among these: their end was lost."""
        for sk in [sk for sk, its in self._held.items() if its[-1].ends not in living]:
            del self._held[sk]

    def connections(self) -> list[list[Sample]]:
        """Each connection's samples, oldest first; the connection with the largest window first."""
        return sorted((list(it) for it in self._held.values()), key=lambda its: (-its[-1].window, its[-1].at))


def living() -> set[Ends]:
    """The connections there are, in all namespaces."""
    found: set[Ends] = set()
    for place in all_places():
        try:
            with Diag(place) as diag:
                sockets = diag.sockets(ALL_STATES & ~(1 << LISTEN | 1 << TIME_WAIT))
        except (XdpguardError, OSError):
            continue  # it has gone
        names = ("local", "local_port", "remote", "remote_port")
        columns = (map(bytes, sockets[it]) if sockets[it].ndim > 1 else sockets[it].tolist() for it in names)
        found |= {Ends(*row) for row in zip(*columns, strict=True)}
    return found


_BLOCKS = "▁▂▃▄▅▆▇█"


def sparkline(values: Iterable[int]) -> str:
    """Values as blocks between nothing and the largest of them."""
    numbers = list(values)
    largest = max(numbers, default=0)
    if not largest:
        return _BLOCKS[0] * len(numbers)
    return "".join(_BLOCKS[min(len(_BLOCKS) - 1, it * len(_BLOCKS) // (largest + 1))] for it in numbers)
