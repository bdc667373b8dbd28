# SPDX-License-Identifier: GPL-2.0
"""The attack seen from above: what this host adds to the sums of its fleet, and the sums for its metrics."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.errors import XdpguardError
from xdpguard.fleet import hosts
from xdpguard.fleet.state import Message
from xdpguard.metrics.fleet import FleetTotals
from xdpguard.net.links import Link
from xdpguard.service.floods import name_of
from xdpguard.telemetry import counters


class Drops:
    """Drops a second between two readings."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._before: dict[tuple[str, str], dict[str, int]] = {}
        self._at = time.monotonic()

    def rates(self, interfaces: Iterable[Link]) -> dict[str, float]:
        """Return packets a second by reason since the last reading, of all interfaces; only reasons with any.

        What was only observed counts as well.
        """
        found: Counter[str] = Counter()
        now: dict[tuple[str, str], dict[str, int]] = {}
        for it in interfaces:
            place = it.name, it.netns
            try:
                now[place] = counters.read(self._pins, *place).drops()
            except (XdpguardError, OSError):  # detached meanwhile
                continue
            before = self._before.get(place, now[place])
            for reason, count in now[place].items():
                # Counters restart with each new pair of maps.
                found[reason] += count - before[reason] if count >= before[reason] else count
        passed, self._at = max(0.001, time.monotonic() - self._at), time.monotonic()
        self._before = now
        return {reason: round(count / passed, 1) for reason, count in found.items() if count}


class Others:
    """How all hosts stand, where [fleet] totals asks for it."""

    def __init__(self) -> None:
        self._states: dict[str, hosts.HostState] = {}

    def take(self, messages: Iterable[Message]) -> None:
        """Take what hosts have published about themselves."""
        for it in messages:
            state = None if it.data is None else hosts.decode(it.data, it.at)
            if state is None:
                self._states.pop(it.key, None)
            else:
                self._states[it.key] = state

    def totals(self, now: float) -> FleetTotals | None:
        """Return the sums; None while nothing is known. ``now``: Unix time by the server's clock."""
        if not self._states:
            return None
        return FleetTotals(*msgspec.structs.astuple(hosts.totals(self._states.values(), now)))


def floods(pins: Pins, interfaces: Iterable[Link]) -> Iterator[str]:
    """Yield the interfaces with a flood now."""
    for it in interfaces:
        try:
            state = guard.read(pins, it.name, it.netns)
        except (XdpguardError, OSError):  # detached meanwhile
            continue
        if state.until != guard.ALWAYS and state.active():
            yield name_of(it)
