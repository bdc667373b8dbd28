# SPDX-License-Identifier: GPL-2.0
"""Interface counters that only rise, although the kernel's restart with each new pair of maps.

The maps of an interface are kept open, so that they can be read once more after they were replaced or removed: nothing
counted between two readings is lost.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.errors import XdpguardError
from xdpguard.telemetry import counters

Place = tuple[str, str]  # interface and namespace
_REMEMBERED = 1024  # places: containers come and go


class Reading(NamedTuple):
    """An interface: its counters and floods since the service knows it, and its guard's current state."""

    counters: counters.Counters
    floods: int
    state: guard.State


@dataclass
class _Maps:
    """An interface's open maps. ``number`` is the kernel's id of the counters."""

    number: int
    counters: int
    guard: int

    def sums(self) -> list[int]:
        """Return every count: the counters, then the floods."""
        return [*counters.sums(self.counters), guard.state_of(self.guard).floods]

    def close(self) -> None:
        """Close the maps."""
        os.close(self.counters)
        os.close(self.guard)


class Totals:
    """All interfaces of an instance. Use from one thread at a time."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._maps: dict[Place, _Maps] = {}
        self._base: dict[Place, list[int]] = {}

    def read(self, place: Place) -> Reading | None:
        """Return an interface's totals; None if it has no maps."""
        maps = self._opened(place)
        if maps is None:
            return None
        sums, state = maps.sums(), guard.state_of(maps.guard)
        base = self._base.get(place)
        if base is not None:
            sums = [now + before for now, before in zip(sums, base, strict=True)]
        return Reading(counters.decode(sums[:-1]), sums[-1], state)

    def keep(self, places: Collection[Place]) -> None:
        """Close the maps of all other interfaces; their counts are remembered."""
        for place in [it for it in self._maps if it not in places]:
            self._release(place)
        for place in [it for it in self._base if it not in places][:-_REMEMBERED]:
            del self._base[place]

    def close(self) -> None:
        """Close all maps."""
        self.keep(())

    def _opened(self, place: Place) -> _Maps | None:
        """Return the maps that are pinned now, opened once."""
        held = self._maps.get(place)
        try:
            descriptor = self._pins.open_link("counters", *place, abi.COUNTERS.size)
        except XdpguardError:
            self._release(place)
            return None
        number = kernel.map_info(descriptor).id
        if held is not None and held.number == number:
            os.close(descriptor)
            return held
        self._release(place)
        try:
            self._maps[place] = _Maps(number, descriptor, self._pins.open_link("guard", *place, abi.GUARD.size))
        except XdpguardError:
            os.close(descriptor)
            return None
        return self._maps[place]

    def _release(self, place: Place) -> None:
        maps = self._maps.pop(place, None)
        if maps is None:
            return
        sums = maps.sums()
        maps.close()
        base = self._base.pop(place, None)
        self._base[place] = [a + b for a, b in zip(sums, base, strict=True)] if base else sums
