# SPDX-License-Identifier: GPL-2.0
"""Rank the sources, destinations and ports of initial SYNs, together with the drops of each (dropped.py).

Works on arrays throughout, for a hundred thousand tuples at once. Tuples evicted from the tables are missing from the
sums, so a sum may shrink.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.counts import Tuple4, Tuple6
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.telemetry.dropped import By, End, Share

U64 = NDArray[np.uint64]
Floats = NDArray[np.float64]

_PORTS = {"source_port": ">u2", "destination_port": ">u2"}
_TUPLE4 = dtype(Tuple4, source=">u4", destination=">u4", **_PORTS)
_TUPLE6 = dtype(Tuple6, source="(2,)>u8", destination="(2,)>u8", **_PORTS)


class Ends(NamedTuple):
    """One end of each tuple. ``high`` is 0 for IPv4; ``port`` is the destination port, or 0."""

    version: NDArray[np.uint8]
    high: U64
    low: U64
    port: NDArray[np.uint16]


class Ranking(NamedTuple):
    """SYNs and drops by end. ``rates`` are SYNs/s since the previous reading, ``drop_rates`` recent drops/s."""

    ends: Ends
    syns: U64
    rates: Floats
    drops: Floats
    drop_rates: Floats

    def address(self, place: int) -> bytes:
        """Return the address, 4 or 16 bytes."""
        low = int(self.ends.low[place])
        if self.ends.version[place] == 4:
            return low.to_bytes(4, "big")
        return int(self.ends.high[place]).to_bytes(8, "big") + low.to_bytes(8, "big")

    def text(self, place: int) -> str:
        """Return the address as text."""
        address = self.address(place)
        return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


class Table(NamedTuple):
    """A table of tuples: its sorted keys, and the SYNs of each."""

    keys: U64
    syns: U64


class Syns(NamedTuple):
    """The contents of the tables of tuples. ``at``: monotonic, seconds."""

    at: float
    tables: tuple[Table, Table]  # IPv4, IPv6
    by: dict[By, Ranking]

    @property
    def tuples(self) -> int:
        """The number of tuples."""
        return sum(len(table.keys) for table in self.tables)


def read(pins: Pins, at: float, before: Syns | None, dropped: Mapping[By, Mapping[End, Share]]) -> Syns:
    """Read the tables of tuples; rates are relative to ``before``. ``dropped``: the results of `Dropped`."""
    (keys4, four), (keys6, six) = _table(pins, "tuples4", _TUPLE4), _table(pins, "tuples6", _TUPLE6)
    tables = (_ordered(keys4, four), _ordered(keys6, six))
    four, six = four[tables[0][1]], six[tables[1][1]]
    held = (tables[0][0], tables[1][0])
    syns = np.concatenate([table.syns for table in held])
    olds = before.tables if before else held
    seconds = at - before.at if before else 1.0
    rates = np.concatenate([gained(now, old) for now, old in zip(held, olds, strict=True)]) / max(seconds, 1e-3)
    ports = np.concatenate([table["destination_port"] for table in (four, six)]).astype(np.uint16)
    none = np.zeros(len(ports), np.uint16)
    source, destination = _addresses(four, six, "source"), _addresses(four, six, "destination")
    wanted: dict[By, Ends] = {
        "source": Ends(*source, none),
        "destination": Ends(*destination, none),
        "port": Ends(*destination, ports),
    }
    return Syns(at, held, {name: rank(ends, syns, rates, dropped[name]) for name, ends in wanted.items()})


def gained(now: Table, before: Table) -> Floats:
    """Return the SYNs of each tuple since the previous reading.

    A tuple that is new, or whose count restarted, contributes its whole count, so evictions subtract nothing.
    """
    old = np.zeros(len(now.keys), np.uint64)
    if len(before.keys):
        places = np.minimum(np.searchsorted(before.keys, now.keys), len(before.keys) - 1)
        old = np.where(before.keys[places] == now.keys, before.syns[places], old)
    found: Floats = (now.syns - np.where(old <= now.syns, old, 0)).astype(np.float64)
    return found


def rank(ends: Ends, syns: U64, rates: Floats, dropped: Mapping[End, Share]) -> Ranking:
    """Sum the values of equal ends."""
    dropped = {end: share for end, share in dropped.items() if share.significant}
    none, more = np.zeros(len(syns)), len(dropped)
    drops = np.r_[none, [share.drops for share in dropped.values()]]
    drop_rates = np.r_[none, [share.rate for share in dropped.values()]]
    if more:
        ends = _joined(ends, dropped)
        syns, rates = np.r_[syns, np.zeros(more, np.uint64)], np.r_[rates, np.zeros(more)]
    marks = _mark(ends)
    order = np.argsort(marks)
    marks = marks[order]
    starts = np.flatnonzero(np.r_[True, marks[1:] != marks[:-1]]) if len(marks) else np.zeros(0, np.intp)
    if not len(starts):
        return Ranking(ends, syns, rates, drops, drop_rates)
    first = order[starts]
    kept = Ends(ends.version[first], ends.high[first], ends.low[first], ends.port[first])
    sums = [np.add.reduceat(values[order], starts) for values in (syns, rates, drops, drop_rates)]
    return Ranking(kept, *sums)


def _joined(ends: Ends, dropped: Iterable[End]) -> Ends:
    rows = list(dropped)
    numbers = [int.from_bytes(address, "big") for address, _ in rows]
    return Ends(
        np.r_[ends.version, np.array([4 if len(address) == 4 else 6 for address, _ in rows], np.uint8)],
        np.r_[ends.high, np.array([number >> 64 for number in numbers], np.uint64)],
        np.r_[ends.low, np.array([number & (1 << 64) - 1 for number in numbers], np.uint64)],
        np.r_[ends.port, np.array([port for _, port in rows], np.uint16)],
    )


def _mark(ends: Ends) -> U64:
    """Return a 64-bit hash of each end: among a hundred thousand, two collide with a probability of about 2^-30."""
    rest: U64 = ends.port.astype(np.uint64) + np.uint64(65_536) * ends.version.astype(np.uint64)
    mixed: U64 = ends.low + np.uint64(0x9E3779B97F4A7C15) * rest
    mixed = (mixed ^ mixed >> np.uint64(32)) * np.uint64(0xD6E8FEB86659FD93)
    mixed ^= ends.high * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ mixed >> np.uint64(29)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(32)
    return mixed


def _addresses(four: NDArray[np.void], six: NDArray[np.void], name: str) -> tuple[NDArray[np.uint8], U64, U64]:
    return (
        np.repeat(np.array([4, 6], np.uint8), (len(four), len(six))),
        np.concatenate([np.zeros(len(four), np.uint64), six[name][:, 0].astype(np.uint64)]),
        np.concatenate([four[name].astype(np.uint64), six[name][:, 1].astype(np.uint64)]),
    )


def _ordered(keys: U64, values: NDArray[np.void]) -> tuple[Table, NDArray[np.intp]]:
    order = np.argsort(keys)
    return Table(keys[order], (values["syns"] + values["syns_elsewhere"])[order]), order


def _table(pins: Pins, name: str, layout: np.dtype[np.void]) -> tuple[U64, NDArray[np.void]]:
    with opened(pins.open(name, abi.TUPLE_KEY.size, layout.itemsize)) as descriptor:
        keys, values, count = kernel.entries(descriptor, abi.TUPLE_KEY.size, layout.itemsize)
    return np.frombuffer(keys, np.uint64, count), np.frombuffer(values, layout, count)
