# SPDX-License-Identifier: GPL-2.0
"""Retransmissions as they happen."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.tcp import Retransmitted
from xdpguard.tcp import program
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.names import STATES
from xdpguard.tcp.process import Inodes
from xdpguard.tcp.program import Recording, Records

TRACEPOINTS = ("tcp:tcp_retransmit_skb", "tcp:tcp_retransmit_synack", "sock:inet_sock_set_state")
# enum xg_retransmission, bpf/tcp/kind.h; the first is not a retransmission: the connection closed.
KINDS = ("close", "syn", "syn-ack", "loss-probe", "timeout", "fast", "other")
# struct xg_retransmitted
_RECORD = dtype(Retransmitted)
_RING_PAGES = 2048  # 8 MiB: 88,000 events
_SEGMENTS = 65_536


class Retransmission(NamedTuple):
    """Retransmitted segments or, with the kind ``close``, the end of a connection.

    ``at`` is monotonic, ns; addresses are 16 bytes; ``sent`` is the connection's total, 0 before it exists (SYN-ACK);
    ``again``: retransmitted before.
    """

    at: int
    sk: int
    netns: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    sent: int
    segments: int
    kind: str
    state: str
    again: bool


class Retransmissions(Recording):
    """The attached program. Use as a context manager."""

    def __init__(self, chosen: Filter, closes: bool = False) -> None:
        """``closes``: also report the ends of connections, with the totals they sent."""
        switches = {"RING_PAGES": _RING_PAGES, "SEGMENTS": _SEGMENTS, "CLOSED": int(closes)}
        self._program = program.load("retrans", TRACEPOINTS[: None if closes else 2], chosen, switches)
        self._ring = Records(self._program, _RECORD)
        self.inodes = Inodes(self._program, chosen.pid)

    def read(self) -> list[Retransmission]:
        """Return every event since the last call, in order."""
        found = self._ring.read()
        names = ("at", "sk", "netns", "local", "local_port", "remote", "remote_port", "sent", "segments")
        columns = [found[name].tolist() for name in names]
        kinds = [KINDS[kind] for kind in found["kind"].tolist()]
        states = [STATES[state] for state in found["state"].tolist()]
        again = (found["again"] != 0).tolist()
        return [Retransmission(*row) for row in zip(*columns, kinds, states, again, strict=True)]
