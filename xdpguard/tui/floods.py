# SPDX-License-Identifier: GPL-2.0
"""What has become of real clients since a flood began: those that returned a valid SYN cookie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from xdpguard.dataplane.tables import guard
from xdpguard.tui.reading import Place, Reading, Seen

_SPOOFED = 0.5  # share of cookies that come back, below which the sources count as spoofed: service/detector.py
_ENOUGH = 1000  # cookies that must have been sent for that


class _Counted(Protocol):
    """What a trend has: totals by series."""

    @property
    def totals(self) -> Mapping[str, int]:
        """The totals."""


class Counts(NamedTuple):
    """What counts in a flood: totals since the interface was attached."""

    cookies: int  # sent
    valid: int  # handshakes completed with one
    lost: int  # handshakes that may be lost after that: at a full accept queue, or above a limit


class Flood(NamedTuple):
    """A flood on an interface. ``since``: what was counted since it began; ``whole``: seen from its begin."""

    since: Counts
    whole: bool

    @property
    def spoofed(self) -> bool:
        """Whether so few cookies come back that the sources must be spoofed."""
        return self.since.cookies >= _ENOUGH and self.since.valid < _SPOOFED * self.since.cookies

    @property
    def through(self) -> int:
        """How many of the clients got through, at least."""
        return max(0, self.since.valid - self.since.lost)


class Floods:
    """Follows the floods of all interfaces from reading to reading."""

    def __init__(self) -> None:
        self._last: dict[Place, Counts] = {}
        self._base: dict[Place, tuple[Counts, bool]] = {}  # what was counted before a flood, and whether it is `whole`

    def add(self, reading: Reading, trends: Mapping[Place, _Counted]) -> dict[Place, Flood]:
        """Return the floods that go on at this reading."""
        found, bases, last = {}, {}, {}
        for it in reading.interfaces:
            if it.place not in trends:
                continue
            now = last[it.place] = _counts(it, trends[it.place].totals, reading.limits_clients)
            if not is_flood(it, reading.mode):
                continue
            before = self._last.get(it.place)
            base, whole = self._base.get(it.place, (before or now, before is not None))
            if any(new < old for new, old in zip(now, base, strict=True)):  # attached anew: counted from zero
                base, whole = now, False
            bases[it.place] = base, whole
            found[it.place] = Flood(Counts(*(new - old for new, old in zip(now, base, strict=True))), whole)
        self._base, self._last = bases, last
        return found


def is_flood(seen: Seen, mode: str) -> bool:
    """Return whether the guard of an interface acts, or would, because of a flood; not if it always does."""
    state = seen.guard
    return state is not None and mode != "off" and state.until != guard.ALWAYS and seen.active_since > 0


def _counts(seen: Seen, totals: Mapping[str, int], limits_clients: bool) -> Counts:
    """``limits_clients``: SYNs over a rate are counted together with connections over one."""
    over = totals["reason syn_rate"] if limits_clients else 0
    return Counts(totals["reason cookie_sent"], totals["valid"], seen.overflows + over)
