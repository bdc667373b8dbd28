# SPDX-License-Identifier: GPL-2.0
"""Events that the data plane reports at once: floods and scans."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.sys.ring import Ring

NAME = "events"  # the ring's name
FLOOD_BEGINS, FLOOD_ENDS, SCAN = 1, 2, 3  # enum xg_event_kind


class Event(NamedTuple):
    """``struct xg_event``. ``at`` is coarse monotonic, ns; ``source`` 4 or 16 bytes."""

    at: int
    kind: int
    ifindex: int
    source: bytes
    port: int
    cause: int


class Events(Ring):
    """The ring of events."""

    def __init__(self, pins: Pins) -> None:
        super().__init__(pins.open_ring(NAME))

    def read(self) -> Iterator[Event]:
        """Return every event available now."""
        return map(_event, self.records())


def _event(data: bytes) -> Event:
    at, kind, ifindex, source, port, version, cause, _ = abi.EVENT.unpack(data)
    return Event(at, kind, ifindex, source[:4] if version == 4 else source, port, cause)
