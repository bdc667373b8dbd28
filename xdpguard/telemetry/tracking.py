# SPDX-License-Identifier: GPL-2.0
"""Read the LRU tables: TCP flags by source, initial SYNs by tuple."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from struct import Struct
from typing import Literal, NamedTuple

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.layouts.base import places
from xdpguard.dataplane.sys.layouts.counts import SourceCounts as Layout
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.policy.target import Prefix

_PORTS_AT = places(Layout)["ports_number"]

By = Literal["tuple", "source", "destination", "port"]


class Tuple(NamedTuple):
    """The four coordinates of a connection attempt; addresses as text."""

    source: str
    destination: str
    source_port: int
    destination_port: int


class SourceCounts(NamedTuple):
    """A source's TCP segments, and how many carried each flag (in the order of abi.FLAGS)."""

    packets: int
    flags: tuple[int, ...]


def tuples(pins: Pins) -> Counter[Tuple]:
    """Return initial SYNs by tuple, IPv4 and IPv6."""
    found: Counter[Tuple] = Counter()
    for name, layout in (("tuples4", abi.TUPLE4), ("tuples6", abi.TUPLE6)):
        for _, value in _entries(pins, name, abi.TUPLE_KEY, layout):
            source, destination, source_port, destination_port, _, syns, elsewhere = layout.unpack(value)
            place = Tuple(
                _text(source),
                _text(destination),
                int.from_bytes(source_port, "big"),
                int.from_bytes(destination_port, "big"),
            )
            found[place] += syns + elsewhere
    return found


def syns_by(pins: Pins, by: By, top: int | None) -> list[dict[str, str | int]]:
    """Return initial SYNs in descending order: one row per tuple, source, destination, or destination and port."""
    sums: Counter[tuple[str | int, ...]] = Counter()
    fields: tuple[str, ...] = {
        "tuple": ("source", "source_port", "destination", "destination_port"),
        "source": ("source",),
        "destination": ("destination",),
        "port": ("destination", "destination_port"),
    }[by]
    for place, count in tuples(pins).items():
        sums[tuple(getattr(place, name) for name in fields)] += count
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return [dict(zip(fields, key, strict=True)) | {"syns": count} for key, count in ordered[:top]]


def sources(pins: Pins) -> dict[str, SourceCounts]:
    """Return TCP flag counts by source address, summed over the CPUs."""
    sums: dict[str, list[int]] = {}
    for name, layout in (("sources4", abi.SOURCE4), ("sources6", abi.SOURCE6)):
        for key, value in _entries(pins, name, layout, abi.SOURCE_COUNTS):
            address, _ = layout.unpack(key)
            numbers = abi.SOURCE_COUNTS.unpack(value)
            row = sums.setdefault(_text(address), [0] * len(numbers))
            for place, number in enumerate(numbers):
                row[place] += number
    return {address: SourceCounts(row[0], tuple(row[1 : 1 + len(abi.FLAGS)])) for address, row in sums.items()}


class OneSource(NamedTuple):
    """The tracked counts of one source; ``ports``: how many of 64 port classes it tried, on the CPU that saw most."""

    packets: int
    flags: dict[str, int]
    ports: int


def one(pins: Pins, address: bytes) -> OneSource | None:
    """Return the counts of one source address (4 or 16 bytes), summed over the CPUs; None if it is not tracked."""
    name, layout = ("sources4", abi.SOURCE4) if len(address) == 4 else ("sources6", abi.SOURCE6)
    with opened(pins.open(name, layout.size, abi.SOURCE_COUNTS.size)) as descriptor:
        keys = [layout.pack(address, cpu) for cpu in range(kernel.possible_cpus())]
        rows = [kernel.lookup(descriptor, key, abi.SOURCE_COUNTS.size) for key in keys]
    found = [abi.SOURCE_COUNTS.unpack(row) for row in rows if row]
    if not found:
        return None
    sums = [sum(column) for column in zip(*found, strict=True)]
    flags = dict(zip(abi.FLAGS, sums[1 : 1 + len(abi.FLAGS)], strict=True))
    return OneSource(sums[0], flags, max(row[_PORTS_AT] for row in found))


def _entries(pins: Pins, name: str, key: Struct, value: Struct) -> Iterable[tuple[bytes, bytes]]:
    with opened(pins.open(name, key.size, value.size)) as descriptor:
        return kernel.pairs(descriptor, key.size, value.size).items()


def _text(address: bytes) -> str:
    return str(Prefix(address, len(address) * 8))
