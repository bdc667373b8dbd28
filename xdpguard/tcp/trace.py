# SPDX-License-Identifier: GPL-2.0
"""State transitions of TCP sockets as they happen, each with its process where that is certain."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.tcp import Transition as Layout
from xdpguard.tcp import program
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.listeners import Listeners
from xdpguard.tcp.names import CLOSE, LISTEN, STATES, SYN_RECV, SYN_SENT, TIME_WAIT
from xdpguard.tcp.owners import Owner, Owners
from xdpguard.tcp.program import Recording, Records
from xdpguard.tcp.text import process_name

TRACEPOINTS = ("sock:inet_sock_set_state",)
_TRANSITION = dtype(Layout)
_RING_PAGES = 4096  # 16 MiB: 160,000 transitions, three seconds of 5,000 connections/s with both ends on this host
_SOCKETS = 131_072


class Transition(NamedTuple):
    """A state transition. Times are monotonic, ns; ``since`` 0: the old state predates the trace; ``pid`` 0: unknown.

    ``rest``: the state that continues in a timewait socket where the kernel itself reports CLOSE; empty: none.
    Addresses are 16 bytes.
    """

    at: int
    since: int
    sk: int
    netns: int
    pid: int
    process: str
    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    old: str
    new: str
    rest: str


class Trace(Recording):
    """The attached program. Use as a context manager."""

    def __init__(self, chosen: Filter) -> None:
        """``chosen.pid`` is applied here: in the kernel, not every transition reveals its process."""
        self._pid = chosen.pid
        switches = {"SOCKETS": _SOCKETS, "RING_PAGES": _RING_PAGES}
        raw = dict.fromkeys(("xg_first", "xg_second"), "inet_sock_set_state")
        self._program = program.load("trace", TRACEPOINTS, chosen, switches, pid=0, raw=raw)
        self._stood_in = self._program.map_fd("stood_in")
        self._ring = Records(self._program, _TRANSITION)
        self._owners = Owners()
        self._listeners = Listeners()
        self._names: dict[bytes, str] = {}
        self.seen = 0
        self.unknown = 0  # filtered out by process id because theirs was unknown

    def read(self) -> Iterator[Transition]:
        """Yield every transition since the last call."""
        found = self._ring.read()
        names = [name for name in found.dtype.names or () if name != "zero"]
        rows = list(zip(*(found[name].tolist() for name in names), self._closers(found), strict=True))
        for row in rows:
            event = self._event(*row)
            if self._pid and event.pid != self._pid:
                self.unknown += not event.pid
                continue
            self.seen += 1
            yield event

    def lost(self) -> int:
        """Return the number of transitions that did not fit in the ring buffer."""
        return self._ring.lost()

    def missed(self) -> int:
        """Return the number of transitions, on the whole host, that hit a program already running on their CPU."""
        return max(0, self._program.missed("xg_first") - kernel.sum_over_cpus(self._stood_in))

    def _closers(self, found: NDArray[Any]) -> list[tuple[int, bytes] | None]:
        """Return, for each transition, the process that made the socket's next one itself, if that is among them."""
        answers: list[tuple[int, bytes] | None] = [None] * found.size
        following: dict[int, tuple[int, bytes]] = {}
        columns = (found[name][::-1].tolist() for name in ("sk", "own", "pid", "comm", "new_state"))
        for place, (sk, own, pid, comm, new) in enumerate(zip(*columns, strict=True), start=1):
            if new == CLOSE:
                following.pop(sk, None)  # what follows is another socket
            elif own:
                following[sk] = (pid, comm)
            elif sk in following:
                answers[-place] = following[sk]
        return answers

    def _event(
        self,
        at: int,
        since: int,
        sk: int,
        local: bytes,
        remote: bytes,
        local_port: int,
        remote_port: int,
        netns: int,
        pid: int,
        inode: int,
        old: int,
        new: int,
        own: int,
        rest: int,
        comm: bytes,
        closer: tuple[int, bytes] | None,
    ) -> Transition:
        name = ""
        if own or (pid and (not inode or old == SYN_SENT)):
            # Made by the process itself; or on a socket that it has closed, or is just connecting.
            name = self._name(comm)
            if new == LISTEN:
                self._listeners.forget()
        else:
            owner = None
            if inode and closer:
                # This process has the socket open, and is about to shut it down or close it.
                owner = Owner(closer[0], self._name(closer[1]))
            elif inode:
                owner = self._owners.find(inode)
            elif SYN_RECV in (old, new):
                # Not accepted yet: it still belongs to the listener.
                owner = self._owners.find(self._listeners.inode(netns, local, local_port))
            pid, name = (owner.pid, owner.name) if owner else (0, "")
        return Transition(
            at,
            since,
            sk,
            netns,
            pid,
            name,
            local,
            local_port,
            remote,
            remote_port,
            STATES[old],
            STATES[TIME_WAIT] if rest else STATES[new],
            STATES[rest],
        )

    def _name(self, comm: bytes) -> str:
        found = self._names.get(comm)
        if found is None:
            if len(self._names) > 4096:
                self._names.clear()
            found = self._names[comm] = process_name(comm)
        return found
