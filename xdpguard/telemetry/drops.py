# SPDX-License-Identifier: GPL-2.0
"""Samples of dropped packets (bpf/drops.h): the latest ones of each interface, and a live stream."""

from __future__ import annotations

import mmap
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.sys.ring import Ring
from xdpguard.telemetry import counters

RING = "drops"
RULE, LIST, FILTER = 1, 2, 3  # enum xg_probe_entry
WINDOW = (1 << 27) / 1e9  # s, XG_WINDOW_SHIFT
_LEASE = 3_000_000_000  # ns; renewed long before it ends
_CLOCK_SET = 1_000_000  # ns
_MOST = 0xFFFFFFFF

Place = tuple[str, str]  # interface and namespace


class Drop(NamedTuple):
    """``struct xg_drop``. ``at`` is Unix time, ns; ``frame`` the first bytes of ``length``."""

    at: int
    place: Place
    reason: abi.Reason
    length: int
    frame: bytes
    entry: int  # RULE, LIST, FILTER, or 0: no entry decided
    number: int  # slot of the rule, number of the list
    observed: bool  # not dropped: the deciding entry only observes


class Decoder:
    """Decodes the records of the given interfaces."""

    def __init__(self, pins: Pins, places: Sequence[Place]) -> None:
        self._places = {pins.link_number(*place): place for place in places}
        self._reasons = {reason.number: reason for reason in abi.reasons()}
        self._offset = _offset()

    def follow_clock(self) -> None:
        """Notice when the wall clock was set; smaller differences come from reading two clocks."""
        offset = _offset()
        if abs(offset - self._offset) > _CLOCK_SET:
            self._offset = offset

    def decode(self, record: bytes) -> Drop | None:
        """Return the sample; None if the slot is empty, is being written, or belongs to another interface."""
        begun, link, at, length, number, reason, entry, observed, captured, frame, done = abi.DROP.unpack(record)
        place = self._places.get(link)
        if begun != done or not at or place is None or reason not in self._reasons:
            return None
        return Drop(
            at + self._offset,
            place,
            self._reasons[reason],
            length,
            frame[:captured],
            entry,
            number if entry else 0,
            bool(observed),
        )


def _offset() -> int:
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def last(pins: Pins, places: Sequence[Place]) -> list[Drop]:
    """Return the latest samples of these interfaces, oldest first: up to 8 of each reason and CPU."""
    decoder = Decoder(pins, places)
    found = []
    for place in places:
        with opened(pins.open_link("kept", *place, abi.DROP.size)) as descriptor, kept_memory(descriptor) as held:
            # One record at a time: its first and last number reveal whether it changed meanwhile.
            for at in range(0, len(held) - abi.DROP.size + 1, abi.DROP.size):
                drop = decoder.decode(held[at : at + abi.DROP.size])
                if drop is not None:
                    found.append(drop)
    return sorted(found, key=lambda it: it.at)


def kept_memory(descriptor: int) -> mmap.mmap:
    """Map an interface's latest samples read-only: whole records, padded with zeros to the end of a page."""
    size = kernel.map_info(descriptor).max_entries * abi.DROP.size
    return mmap.mmap(descriptor, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ)


class Drops(Ring):
    """The live stream of samples. Its holder is the only reader (`Instance.reader`) and calls `ask` every second.

    The program goes on sending for 3 s after the last call, so if this process dies or hangs, sending stops by itself.
    """

    def __init__(self, pins: Pins, places: Sequence[Place], rate: float, reasons: Collection[str] = ()) -> None:
        """``rate``: samples a second per reason and CPU of each interface, 0 for every drop; ``reasons``: which, empty
        for all.
        """
        super().__init__(pins.open_ring(RING))
        self._pins = pins
        self._decoder = Decoder(pins, places)
        samples = min(max(1, round(rate * WINDOW)), _MOST) if rate else _MOST
        try:
            with opened(pins.open("drop_reader", 4, abi.READER.size)) as descriptor:
                self._asked = mmap.mmap(descriptor, mmap.PAGESIZE)
            session = abi.READER.unpack_from(self._asked)[2] % 255 + 1
            bits = sum(1 << it.number for it in abi.reasons() if not reasons or it.name in reasons)
            abi.READER.pack_into(self._asked, 0, 0, samples, session, bits, 0)
            self._until = memoryview(self._asked).cast("Q")
            for _ in self.records():
                pass  # left over from an earlier reader
            self.ask()
        except BaseException:
            super().close()
            raise

    def follow(self, places: Sequence[Place]) -> None:
        """Read the samples of these interfaces from here on."""
        self._decoder = Decoder(self._pins, places)

    def ask(self) -> None:
        """Request samples for the next 3 s."""
        until = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + _LEASE
        self._until[0] = until  # written atomically
        self._decoder.follow_clock()

    def read(self) -> Iterator[Drop]:
        """Yield every sample available now."""
        for record in self.records():
            drop = self._decoder.decode(record)
            if drop is not None:
                yield drop

    def close(self) -> None:
        """Stop the stream and release the ring."""
        self._until[0] = 0
        self._until.release()
        self._asked.close()
        super().close()


class Sums(NamedTuple):
    """By reason: drops (including those only observed), samples of them, and samples lost because the ring was full."""

    dropped: Mapping[str, int]
    samples: Mapping[str, int]
    lost: Mapping[str, int]


def sums(pins: Pins, places: Sequence[Place]) -> Sums:
    """Return the sums over these interfaces."""
    found = [counters.read(pins, *place) for place in places]
    return Sums(
        _summed([it.drops() for it in found]),
        _summed([it.samples for it in found]),
        _summed([it.lost for it in found]),
    )


def _summed(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(part.get(name, 0) for part in parts) for name in counters.dropping()}
