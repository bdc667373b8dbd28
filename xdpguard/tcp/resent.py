# SPDX-License-Identifier: GPL-2.0
"""Retransmitted segments, counted in the kernel by namespace and kind; SYN-ACKs by port as well."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.tcp import Resent as Layout
from xdpguard.tcp import program
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.program import Attached
from xdpguard.tcp.retrans import KINDS

TRACEPOINTS = ("tcp:tcp_retransmit_skb", "tcp:tcp_retransmit_synack")
_COUNTS = 16_384
_RESENT = dtype(Layout)


class Kind(NamedTuple):
    """A namespace by inode number, and a kind of retransmission (`retrans.KINDS`)."""

    netns: int
    kind: str


class Service(NamedTuple):
    """A namespace by inode number, and a local port."""

    netns: int
    port: int


class Resent(NamedTuple):
    """Segments retransmitted since the program was attached: by kind, including SYN-ACKs; SYN-ACKs also by port."""

    kinds: dict[Kind, int]
    synacks: dict[Service, int]


class Counter(Attached):
    """The attached program. Use as a context manager."""

    def __init__(self, netns: int = 0) -> None:
        """``netns``: the inode number of the only namespace to count, 0 for all."""
        self._program = program.load("resent", TRACEPOINTS, Filter(netns=netns), {"COUNTS": _COUNTS})
        self._fd = self._program.map_fd("counts")

    def read(self) -> Resent:
        """Return the counts so far."""
        keys, values, number = kernel.entries(self._fd, _RESENT.itemsize, 8)
        found = Resent({}, {})
        counts = np.frombuffer(values, "<u8", number).tolist()
        for (netns, port, kind), count in zip(np.frombuffer(keys, _RESENT, number).tolist(), counts, strict=True):
            key = Kind(netns, KINDS[kind])
            found.kinds[key] = found.kinds.get(key, 0) + count
            if port:
                found.synacks[Service(netns, port)] = count
        return found

    def forget(self, gone: Callable[[int], bool]) -> None:
        """Remove the counts of those namespaces, by inode number, for which ``gone`` is true."""
        program.forget(self._fd, _RESENT, 8, gone)
