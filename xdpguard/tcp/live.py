# SPDX-License-Identifier: GPL-2.0
"""How many sockets are in each state, kept current by the changes that the kernel counts.

A snapshot is the beginning; changes are added to it; and a new snapshot is taken every few seconds, so that nothing
drifts, less often where it costs more. What is no full socket makes no change that a tracepoint tells: TIME_WAIT is
read from the kernel's own count, half-open connections are asked for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xdpguard.errors import XdpguardError
from xdpguard.net.netns import Place, entered_path
from xdpguard.tcp import snapshot
from xdpguard.tcp.changes import Changes, Matrix, nothing
from xdpguard.tcp.diag import Diag, Sockets, is_small
from xdpguard.tcp.names import CLOSE, FIN_WAIT2, LISTEN, SYN_RECV, TIME_WAIT
from xdpguard.tcp.snapshot import Snapshot

_LEAST_PAUSE = 5.0  # seconds between two snapshots
_HURRY = 1.0  # likewise, where one is known to be better than the last
_SHARE = 100  # a hundredth of this thread's time is what snapshots may take, and half-open connections as much
_SMALL = re.compile(r"\btw (\d+)")


class Pace:
    """When something that costs time is due again."""

    def __init__(self, least: float) -> None:
        self._least = least
        self._next = self._last = 0.0

    def due(self) -> bool:
        """Whether it is."""
        return time.monotonic() >= self._next

    def spent(self, seconds: float) -> None:
        """It was done now, and took so much of the processor."""
        self._last = time.monotonic()
        self._next = self._last + max(self._least, _SHARE * seconds)

    def hurry(self) -> None:
        """It is wanted before its time."""
        self._next = min(self._next, self._last + _HURRY)

    def also(self, seconds: float) -> None:
        """What comes of it took so much as well."""
        self._next += _SHARE * seconds


@dataclass
class _Base:
    """A namespace at its last snapshot."""

    taken: Snapshot
    full: dict[int, int]  # full sockets by state
    small: int  # small sockets in FIN_WAIT2
    half_open: int
    changes: Matrix  # those before the snapshot
    exact: bool  # nothing changed while it was taken


@dataclass(frozen=True)
class Now:
    """A namespace at this moment: sockets by state, and changes since the last time by (from, to)."""

    place: Place
    states: Mapping[int, int]
    changes: Mapping[tuple[int, int], int]
    listening: Sockets  # the listeners, with their accept queues
    taken: Snapshot  # the last one


class Live:
    """Namespaces, kept current. Use within its `Changes`."""

    def __init__(self, changes: Changes, places: Callable[[], list[Place]]) -> None:
        """``places`` names the namespaces to look at; it is asked again with each snapshot."""
        self._changes = changes
        self._find = places
        self._bases: dict[int, _Base] = {}
        self._before: dict[int, Matrix] = {}
        self._pace = Pace(_LEAST_PAUSE)
        self._half_open_pace = Pace(0.0)

    def read(self) -> list[Now]:
        """Every namespace now."""
        if self._pace.due():
            self._synchronise()
        counted = self._changes.read()
        ask, begun = self._half_open_pace.due(), time.thread_time()
        found = []
        for inode, base in list(self._bases.items()):
            matrix = counted.get(inode, nothing())
            try:
                listening, states = self._states(base, matrix, ask)
            except (XdpguardError, OSError):
                del self._bases[inode]  # it has gone
                continue
            step = matrix - self._before.get(inode, matrix)
            changed = {(int(a), int(b)): int(step[a, b]) for a, b in np.argwhere(step > 0)}
            self._before[inode] = matrix
            if not base.exact and not changed:
                # Taken amidst changes it may be off by some; now it would be exact.
                self._pace.hurry()
            found.append(Now(base.taken.place, states, changed, listening, base.taken))
        if ask:
            self._half_open_pace.spent(time.thread_time() - begun)
        return found

    def renew(self, inodes: Iterable[int], gone: Callable[[int], bool]) -> None:
        """Takes a snapshot at once where a namespace of these has none, or ``gone`` says that its is another's."""
        for inode in filter(gone, list(self._bases)):
            del self._bases[inode]
            self._before.pop(inode, None)
        if any(inode not in self._bases for inode in inodes):
            self._synchronise()

    def spent(self, seconds: float) -> None:
        """Working with new snapshots took so much of the processor: the next ones come later."""
        self._pace.also(seconds)

    def _synchronise(self) -> None:
        begun = time.thread_time()
        bases: dict[int, _Base] = {}
        for place in self._find():
            before = self._changes.read().get(place.inode, nothing())
            try:
                taken = snapshot.take(place)
            except (XdpguardError, OSError):
                continue  # it has gone
            after = self._changes.read().get(place.inode, nothing())
            small = is_small(taken.sockets)
            full = snapshot.count(taken.sockets[~small])
            half_open = full.pop(SYN_RECV, 0)
            waiting = int((small & (taken.sockets["state"] == FIN_WAIT2)).sum())
            # The snapshot lies between; what happened meanwhile is in it by half.
            bases[place.inode] = _Base(
                taken, full, waiting, half_open, (before + after) // 2, bool((before == after).all())
            )
        self._bases = bases
        self._before = {inode: matrix for inode, matrix in self._before.items() if inode in bases}
        self._pace.spent(time.thread_time() - begun)

    def _states(self, base: _Base, matrix: Matrix, ask: bool) -> tuple[Sockets, dict[int, int]]:
        step = matrix - base.changes
        moved = step.sum(axis=0) - step.sum(axis=1)
        found = {state: base.full.get(state, 0) + int(moved[state]) for state in range(1, 12)}
        with entered_path(base.taken.place.path):
            small = _small_sockets()
        with Diag(base.taken.place) as diag:
            listening = diag.sockets(1 << LISTEN)
            if ask:
                base.half_open = diag.sockets(1 << SYN_RECV).size
        found[LISTEN] = listening.size
        found[SYN_RECV] = base.half_open
        found[FIN_WAIT2] += base.small
        found[TIME_WAIT] = small - base.small
        found.pop(CLOSE)
        return listening, {state: number for state, number in found.items() if number > 0}


def _small_sockets() -> int:
    """Small sockets of the namespace this thread is in: TIME_WAIT, and FIN_WAIT2 of closed ones."""
    match = _SMALL.search(Path("/proc/thread-self/net/sockstat").read_text(encoding="ascii"))
    return int(match[1]) if match else 0
