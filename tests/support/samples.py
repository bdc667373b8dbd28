# SPDX-License-Identifier: GPL-2.0
"""Samples of drops on the bench, with a clock that a test moves from window to window."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from support.bench import Bench, one_cpu
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.tables import guard
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.telemetry.drops import Drop, Drops, last, sums

ETHER = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
WINDOW = 1 << 27  # ns, XG_WINDOW_SHIFT of bpf/drops.h
PLACES = [("bench", "")]


def v4(source: str = "16.1.1.1", length: int = 0, flags: str = "A", dport: int = 80) -> bytes:
    head = ETHER / IP(src=source, dst="203.0.113.1") / TCP(flags=flags, dport=dport)
    return bytes(head / Raw(bytes(n & 255 for n in range(max(0, length - 54)))))


def v6(source: str) -> bytes:
    return bytes(ETHER / IPv6(src=source, dst="2001:db8:1::1") / TCP(dport=80, flags="A"))


FLAGS, SOURCE, MALFORMED, CLOSED = v4(flags="SF"), v4("127.0.0.1"), v4()[:40], v4(dport=81)


class Timed:
    """A bench whose clock stands at the beginning of a window."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.begin = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) // WINDOW + 1) * WINDOW
        self.window(0)

    def window(self, number: int, passed: int = 0) -> None:
        """Sets the clock: so many windows, and ns of one, have passed."""
        self.bench.set_clock(self.begin + number * WINDOW + passed)

    def send(self, frame: bytes, times: int = 1) -> str:
        """The reason."""
        return self.bench.send(frame, times).reason

    def samples(self, reason: str) -> int:
        """How many were taken."""
        return sums(self.bench.pins, PLACES).samples[reason]

    def kept(self, reason: str = "") -> list[Drop]:
        """The last ones."""
        return [drop for drop in last(self.bench.pins, PLACES) if reason in ("", drop.reason.name)]

    def asked(self) -> mmap.mmap:
        """What the reader has written."""
        return mapped(self.bench, "drop_reader")


def mapped(bench: Bench, name: str) -> mmap.mmap:
    """A shared map's memory, or an interface's own."""
    pins = bench.pins
    descriptor = (
        pins.open_link(name, *PLACES[0], abi.DROP.size) if name == "kept" else pins.open(name, 4, abi.READER.size)
    )
    try:
        info = kernel.map_info(descriptor)
        return mmap.mmap(descriptor, -(-info.max_entries * info.value_size // mmap.PAGESIZE) * mmap.PAGESIZE)
    finally:
        os.close(descriptor)


def prepare(bench: Bench) -> None:
    """No samples, and no reader."""
    bench.reset()
    for name in ("kept", "drop_reader"):
        with mapped(bench, name) as memory:
            memory[:] = bytes(len(memory))
    with ListMaps(bench.pins) as maps:
        maps.empty()
    guard.settle(bench.pins, *PLACES[0], "off", guard.Surroundings(b""))
    with Drops(bench.pins, PLACES, 1):
        pass  # takes what is in the ring


@contextmanager
def timed_on(bench: Bench) -> Iterator[Timed]:
    """A bench at the beginning of a window, on one CPU, as each has samples of its own."""
    with one_cpu():
        prepare(bench)
        yield Timed(bench)
