# SPDX-License-Identifier: GPL-2.0
"""Retransmissions counted by connection, remote prefix or listener, with the ratio to the segments sent.

The number of segments a group sent is exact: what its connections had sent at the start is subtracted from what they
have sent at the end, including those that closed meanwhile (the kernel reports their totals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from xdpguard.errors import XdpguardError
from xdpguard.net.netns import Place
from xdpguard.policy.target import MAPPED, Prefix
from xdpguard.tcp.diag import Diag, Info, is_timewait
from xdpguard.tcp.filters import Filter, mask_halves
from xdpguard.tcp.listeners import Listeners
from xdpguard.tcp.names import ALL_STATES, LISTEN, SYN_RECV, TIME_WAIT
from xdpguard.tcp.retrans import KINDS, Retransmission

_MOST_GROUPS = 65_536
_FULL_SOCKETS = ALL_STATES & ~(1 << LISTEN | 1 << TIME_WAIT | 1 << SYN_RECV)


class Connection(NamedTuple):
    """A connection: its namespace by inode number, and both ends; addresses are 16 bytes."""

    netns: int
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int


@dataclass
class Counted:
    """A group's retransmitted segments by kind; ``again``: those retransmitted before; ``sent``: all segments it sent,
    including retransmissions.
    """

    kinds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(KINDS[1:], 0))
    again: int = 0
    sent: int = 0

    @property
    def segments(self) -> int:
        """Retransmitted segments of all kinds."""
        return sum(self.kinds.values())

    @property
    def ratio(self) -> float | None:
        """The ratio to the segments sent, None if there are none; without SYN-ACKs, which no connection counts."""
        return (self.segments - self.kinds["syn-ack"]) / self.sent if self.sent else None


Key = tuple[int, bytes, int, bytes, int]
Grouping = Callable[[Connection], Key]


def by_connection(it: Connection) -> Key:
    """Group each connection on its own."""
    return it.netns, it.local, it.local_port, it.remote, it.remote_port


def by_listener() -> Grouping:
    """Group by local address and port where something listens on the port; the others form one group, no address."""
    known = Listeners()

    def group(it: Connection) -> Key:
        if known.listens(it.netns, it.local_port):
            return it.netns, it.local, it.local_port, b"", 0
        return it.netns, b"", 0, b"", 0

    return group


def by_remote(length4: int, length6: int) -> Grouping:
    """Group by remote prefix."""
    masks = [int.from_bytes(_mask(length), "big") for length in (length4 + 96, length6)]

    def group(it: Connection) -> Key:
        mask = masks[0] if it.remote.startswith(MAPPED) else masks[1]
        return it.netns, b"", 0, (int.from_bytes(it.remote, "big") & mask).to_bytes(16, "big"), 0

    return group


class Tally:
    """Counts retransmissions by group. Bounded: what exceeds the number of groups is counted in ``rest``."""

    def __init__(self, chosen: Filter, grouping: Grouping) -> None:
        self._chosen = chosen
        self._grouping = grouping
        self._begun: dict[Connection, int] = {}
        self._groups: dict[Key, Counted] = {}
        self.rest = Counted()

    def begin(self, places: Iterable[Place], inodes: set[int] | None = None) -> None:
        """Record what connections have sent so far.

        Call this once, when the program is attached; discard the events until it returns.
        """
        self._begun = {it: info.segments_out for it, info in self._connections(places, inodes)}

    def add(self, events: Iterable[Retransmission]) -> None:
        """Count events."""
        for it in events:
            connection = Connection(it.netns, it.local, it.local_port, it.remote, it.remote_port)
            key = self._grouping(connection)
            if it.kind == "close":
                self._closed(key, it.sent - self._begun.pop(connection, 0))
                continue
            counted = self._groups.get(key)
            if counted is None and len(self._groups) < _MOST_GROUPS:
                counted = self._groups[key] = Counted()
            counted = counted or self.rest
            counted.kinds[it.kind] += it.segments
            counted.again += it.again * it.segments

    def finish(
        self,
        places: Iterable[Place],
        inodes: set[int] | None,
        late: Callable[[], list[Retransmission]],
    ) -> dict[Key, Counted]:
        """Return the counts, including what live connections have sent.

        ``late`` returns the events that occurred while those were read.
        """
        living = {it: info.segments_out - self._begun.get(it, 0) for it, info in self._connections(places, inodes)}
        events = late()
        self.add(events)
        for it in events:
            if it.kind == "close":
                living.pop(Connection(it.netns, it.local, it.local_port, it.remote, it.remote_port), None)
        for connection, sent in living.items():
            self._groups.setdefault(self._grouping(connection), Counted()).sent += sent
        return {key: its for key, its in self._groups.items() if its.segments or its.sent}

    def _closed(self, key: Key, sent: int) -> None:
        counted = self._groups.get(key)
        if counted is None:
            # A single connection without retransmissions is of no interest; a group of them is.
            alone = bool(key[4])
            counted = self.rest if alone or len(self._groups) >= _MOST_GROUPS else Counted()
            if counted is not self.rest:
                self._groups[key] = counted
        counted.sent += sent

    def _connections(self, places: Iterable[Place], inodes: set[int] | None) -> Iterable[tuple[Connection, Info]]:
        for place in places:
            if self._chosen.netns not in (0, place.inode):
                continue
            try:
                with Diag(place) as diag:
                    sockets, infos = diag.infos(_FULL_SOCKETS)
            except (XdpguardError, OSError):
                continue  # it is gone
            rows = zip(
                map(bytes, sockets["local"]),
                sockets["local_port"].tolist(),
                map(bytes, sockets["remote"]),
                sockets["remote_port"].tolist(),
                sockets["inode"].tolist(),
                is_timewait(sockets).tolist(),
                infos,
                strict=True,
            )
            for local, local_port, remote, remote_port, inode, timewait, info in rows:
                connection = Connection(place.inode, local, local_port, remote, remote_port)
                if not timewait and (inodes is None or inode in inodes) and wanted(self._chosen, connection):
                    yield connection, info


def wanted(chosen: Filter, it: Connection) -> bool:
    """Return whether a filter matches a connection, as the programs decide it (xg_wanted() in bpf/tcp/ends.h)."""
    version = 4 if it.remote.startswith(MAPPED) else 6
    if chosen.netns not in (0, it.netns) or chosen.family not in (0, version):
        return False
    for ports, port in ((chosen.local_ports, it.local_port), (chosen.remote_ports, it.remote_port)):
        if not ports[0] <= port <= ports[1]:
            return False
    ends = ((chosen.local, it.local), (chosen.remote, it.remote))
    return all(prefix is None or _covers(prefix, address) for prefix, address in ends)


def _covers(prefix: Prefix, address: bytes) -> bool:
    plain = address[12:] if address.startswith(MAPPED) else address
    return prefix.covers(Prefix(plain, len(plain) * 8))


def _mask(length: int) -> bytes:
    high, low = mask_halves(length)
    return high.to_bytes(8, "little") + low.to_bytes(8, "little")
