# SPDX-License-Identifier: GPL-2.0
"""The sockets of a namespace at one moment, summed up by state, by listener, by remote prefix."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from xdpguard.net.netns import Place, entered_path
from xdpguard.policy.target import MAPPED
from xdpguard.tcp import sysctls
from xdpguard.tcp.diag import Diag, Sockets
from xdpguard.tcp.names import LISTEN, SYN_RECV

_ANY6 = bytes(16)
_ANY4 = MAPPED + bytes(4)


class Queue(NamedTuple):
    """How many connections wait, and how many may."""

    length: int
    limit: int

    @property
    def share(self) -> float:
        """The fraction of the limit in use; 1 or more is full."""
        return self.length / self.limit if self.limit else float(self.length > 0)


class Listener(NamedTuple):
    """A listener, or several that share an address and port (SO_REUSEPORT).

    ``accept``: connections not accepted yet, of all of them; ``fullest``: those of the fullest one, since each drops
    its own when full; ``syn``: half-open ones; ``connections``: all others on its address and port.
    """

    address: bytes
    port: int
    sockets: int
    inodes: tuple[int, ...]
    accept: Queue
    fullest: Queue
    syn: Queue
    syn_retransmitted: int  # half-open connections with a retransmitted SYN-ACK
    syn_sources: int  # distinct remote addresses of the half-open connections
    connections: int

    @property
    def share(self) -> float:
        """The usage of its fullest queue."""
        return max(self.fullest.share, self.syn.share)


class Remote(NamedTuple):
    """The connections with a remote prefix: its masked address (16 bytes), and the number in each state."""

    prefix: bytes
    states: Mapping[int, int]

    @property
    def total(self) -> int:
        """The number of all its connections."""
        return sum(self.states.values())


class Snapshot(NamedTuple):
    """A namespace at one moment; ``at`` is monotonic, s."""

    place: Place
    sockets: Sockets
    limits: sysctls.Limits
    at: float = 0.0


def take(place: Place) -> Snapshot:
    """Read every TCP socket of a namespace. Raise OSError if it no longer exists."""
    with entered_path(place.path):
        limits = sysctls.read()
    with Diag(place) as diag:
        return Snapshot(place, diag.sockets(), limits, time.monotonic())


def count(sockets: Sockets) -> dict[int, int]:
    """Return the number of sockets in each state that occurs."""
    numbers = np.bincount(sockets["state"], minlength=13)
    return {state: int(number) for state, number in enumerate(numbers) if number}


def listeners(snapshot: Snapshot) -> list[Listener]:
    """Return every listener, the one with the fullest queues first."""
    sockets = snapshot.sockets
    listening = sockets[sockets["state"] == LISTEN]
    groups: dict[tuple[bytes, int], list[int]] = {}
    for place, it in enumerate(listening):
        groups.setdefault((it["local"].tobytes(), int(it["local_port"])), []).append(place)
    of_port: dict[int, list[bytes]] = {}
    for address, port in groups:
        of_port.setdefault(port, []).append(address)
    connected = sockets["state"] != LISTEN
    found = []
    for port, addresses in of_port.items():
        its = sockets[connected & (sockets["local_port"] == port)]
        shares = _shares(its, addresses) if len(addresses) > 1 else {addresses[0]: its}
        for address in addresses:
            found.append(_listener((address, port), listening[groups[address, port]], shares[address], snapshot.limits))
    return sorted(found, key=lambda it: (-it.share, -it.connections, it.port, it.address))


def with_queues(found: list[Listener], listening: Sockets) -> list[Listener]:
    """Return the listeners with their accept queues as of ``listening``, without those that no longer exist."""
    queues: dict[tuple[bytes, int], list[Queue]] = {}
    for local, port, length, limit in zip(
        map(bytes, listening["local"]),
        listening["local_port"].tolist(),
        listening["receive_queue"].tolist(),
        listening["send_queue"].tolist(),
        strict=True,
    ):
        queues.setdefault((local, port), []).append(Queue(length, limit))
    there = [(it, queues[it.address, it.port]) for it in found if (it.address, it.port) in queues]
    return [it._replace(accept=_all(its), fullest=_fullest(its)) for it, its in there]


def _all(queues: list[Queue]) -> Queue:
    return Queue(sum(it.length for it in queues), sum(it.limit for it in queues))


def _fullest(queues: list[Queue]) -> Queue:
    return max(queues, key=lambda it: it.share)


def remotes(sockets: Sockets, length4: int, length6: int) -> list[Remote]:
    """Return the connections grouped by remote prefix, the largest group first."""
    connected = sockets[sockets["state"] != LISTEN]
    if not connected.size:
        return []
    addresses = np.ascontiguousarray(connected["remote"])
    four = (addresses[:, :12] == np.frombuffer(MAPPED, "u1")).all(axis=1)
    addresses &= np.where(four[:, None], _mask(length4 + 96), _mask(length6))
    prefixes, places = np.unique(addresses.view("V16").reshape(-1), return_inverse=True)
    table = np.zeros((prefixes.size, 13), np.int64)
    np.add.at(table, (places.reshape(-1), connected["state"]), 1)
    found = [
        Remote(prefix, {state: number for state, number in enumerate(row) if number})
        for prefix, row in zip(prefixes.tolist(), table.tolist(), strict=True)
    ]
    return sorted(found, key=lambda it: (-it.total, it.prefix))


def _listener(key: tuple[bytes, int], its: Sockets, connected: Sockets, limits: sysctls.Limits) -> Listener:
    halves = connected[connected["state"] == SYN_RECV]
    queues = [Queue(*it) for it in zip(its["receive_queue"].tolist(), its["send_queue"].tolist(), strict=True)]
    accept = _all(queues)
    return Listener(
        *key,
        len(its),
        tuple(its["inode"].tolist()),
        accept,
        _fullest(queues),
        Queue(len(halves), limits.syn_backlog(accept.limit)),
        int((halves["retrans"] > 0).sum()),
        len(set(map(bytes, halves["remote"]))),
        len(connected) - len(halves),
    )


def _shares(connected: Sockets, addresses: list[bytes]) -> dict[bytes, Sockets]:
    """Assign connections on a port to listeners: by exact address, else the family's wildcard, else ``::``."""
    ends, places = np.unique(np.ascontiguousarray(connected["local"]).view("V16").reshape(-1), return_inverse=True)
    chosen = np.full(ends.size, -1)
    for place, local in enumerate(ends.tolist()):
        for wanted in (local, _ANY4 if local.startswith(MAPPED) else _ANY6, _ANY6):
            if wanted in addresses:
                chosen[place] = addresses.index(wanted)
                break
    whose = chosen[places.reshape(-1)]
    return {address: connected[whose == number] for number, address in enumerate(addresses)}


def _mask(length: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer((((1 << length) - 1) << (128 - length)).to_bytes(16, "big"), "u1")
