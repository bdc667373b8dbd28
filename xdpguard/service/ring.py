# SPDX-License-Identifier: GPL-2.0
"""The events of the data plane, read from whichever ring is pinned."""

from __future__ import annotations

import time

from xdpguard.dataplane.sys.pins import Pins
from xdpguard.service.suspects import Suspects
from xdpguard.telemetry import events


class Ring:
    """Follows the ring: the last detach removes the maps, and the next attach makes new ones."""

    def __init__(self, pins: Pins) -> None:
        self._pins = pins
        self._ring: events.Events | None = None

    def filenos(self) -> list[int]:
        """Return the descriptors to select for reading: none while there is no ring."""
        return [self._ring.fileno()] if self._ring else []

    def open(self) -> None:
        """Open the ring that is pinned now."""
        there = self._pins.ring_id(events.NAME)
        if self._ring is not None and self._ring.id != there:
            self._ring.close()
            self._ring = None
        if self._ring is None and there:
            self._ring = events.Events(self._pins)

    def drain(self, suspects: Suspects) -> bool:
        """Process the queued events; return whether one of them is the start of a flood."""
        begun = False
        for event in self._ring.read() if self._ring else ():
            suspects.note(event, time.monotonic())
            begun = begun or event.kind == events.FLOOD_BEGINS
        return begun
