# SPDX-License-Identifier: GPL-2.0
"""Sockets by state, kept current by the transitions that the kernel counts.

It starts from a snapshot and adds the transitions; a new snapshot every few seconds (less often where one is costly)
prevents drift. Tracepoints report no transitions of minisockets: TIME_WAIT is read from the kernel's own count, and
half-open connections are dumped.
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
from xdpguard.tcp.diag import Diag, Sockets, is_timewait
from xdpguard.tcp.names import CLOSE, FIN_WAIT2, LISTEN, SYN_RECV, TIME_WAIT
from xdpguard.tcp.snapshot import Snapshot

_LEAST_PAUSE = 5.0  # seconds between two snapshots
_HURRY = 1.0  # seconds between two snapshots when the next will be more accurate
_SHARE = 100  # snapshots may take 1% of this thread's time, and so may dumps of half-open connections
_TIMEWAIT = re.compile(r"\btw (\d+)")


class Pace:
    """Schedules a costly task: when is it due again?"""

    def __init__(self, least: float) -> None:
        self._least = least
        self._next = self._last = 0.0

    def due(self) -> bool:
        """Return whether the task is due."""
        return time.monotonic() >= self._next

    def spent(self, seconds: float) -> None:
        """Record that the task was just done and took this much CPU time."""
        self._last = time.monotonic()
        self._next = self._last + max(self._least, _SHARE * seconds)

    def hurry(self) -> None:
        """Ask for the task before its regular time."""
        self._next = min(self._next, self._last + _HURRY)

    def also(self, seconds: float) -> None:
        """Record CPU time that a consequence of the task took."""
        self._next += _SHARE * seconds


@dataclass
class _Base:
    """A namespace at its latest snapshot."""

    taken: Snapshot
    full: dict[int, int]  # full sockets by state
    fin_wait2: int  # timewait sockets in FIN_WAIT2
    half_open: int
    changes: Matrix  # the counts before the snapshot
    exact: bool  # no transition while it was taken


@dataclass(frozen=True)
class Now:
    """A namespace now: sockets by state, and transitions since the last reading by (from, to)."""

    place: Place
    states: Mapping[int, int]
    changes: Mapping[tuple[int, int], int]
    listening: Sockets  # the listeners, with their accept queues
    taken: Snapshot  # the latest snapshot


class Live:
    """Keeps the states of namespaces current. Use while its `Changes` is attached."""

    def __init__(self, changes: Changes, places: Callable[[], list[Place]]) -> None:
        """``places`` returns the namespaces to read; it is called for each snapshot."""
        self._changes = changes
        self._find = places
        self._bases: dict[int, _Base] = {}
        self._before: dict[int, Matrix] = {}
        self._pace = Pace(_LEAST_PAUSE)
        self._half_open_pace = Pace(0.0)

    def read(self) -> list[Now]:
        """Return the state of every namespace."""
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
                del self._bases[inode]  # it is gone
                continue
            step = matrix - self._before.get(inode, matrix)
            changed = {(int(a), int(b)): int(step[a, b]) for a, b in np.argwhere(step > 0)}
            self._before[inode] = matrix
            if not base.exact and not changed:
                # A snapshot taken amid transitions may be slightly off; one taken now would be exact.
                self._pace.hurry()
            found.append(Now(base.taken.place, states, changed, listening, base.taken))
        if ask:
            self._half_open_pace.spent(time.thread_time() - begun)
        return found

    def renew(self, inodes: Iterable[int], gone: Callable[[int], bool]) -> None:
        """Take a snapshot now if one of these namespaces has none, or if ``gone`` says that its inode was reused."""
        for inode in filter(gone, list(self._bases)):
            del self._bases[inode]
            self._before.pop(inode, None)
        if any(inode not in self._bases for inode in inodes):
            self._synchronise()

    def spent(self, seconds: float) -> None:
        """Account for CPU time spent on the new snapshots: the next ones come later."""
        self._pace.also(seconds)

    def _synchronise(self) -> None:
        begun = time.thread_time()
        bases: dict[int, _Base] = {}
        for place in self._find():
            before = self._changes.read().get(place.inode, nothing())
            try:
                taken = snapshot.take(place)
            except (XdpguardError, OSError):
                continue  # it is gone
            after = self._changes.read().get(place.inode, nothing())
            timewait = is_timewait(taken.sockets)
            full = snapshot.count(taken.sockets[~timewait])
            half_open = full.pop(SYN_RECV, 0)
            waiting = int((timewait & (taken.sockets["state"] == FIN_WAIT2)).sum())
            # The snapshot was taken in between; assume that half of those transitions are in it.
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
            timewait = _timewait_sockets()
        with Diag(base.taken.place) as diag:
            listening = diag.sockets(1 << LISTEN)
            if ask:
                base.half_open = diag.sockets(1 << SYN_RECV).size
        found[LISTEN] = listening.size
        found[SYN_RECV] = base.half_open
        found[FIN_WAIT2] += base.fin_wait2
        found[TIME_WAIT] = timewait - base.fin_wait2
        found.pop(CLOSE)
        return listening, {state: number for state, number in found.items() if number > 0}


def _timewait_sockets() -> int:
    """Return the timewait sockets of this thread's namespace: TIME_WAIT, and FIN_WAIT2 of closed sockets."""
    match = _TIMEWAIT.search(Path("/proc/thread-self/net/sockstat").read_text(encoding="ascii"))
    return int(match[1]) if match else 0
