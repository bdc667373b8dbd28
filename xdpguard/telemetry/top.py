# SPDX-License-Identifier: GPL-2.0
"""Sources and ports that stand out in the table of tuples; computed with numpy, as it may hold millions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.counts import Tuple4, Tuple6
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.policy.target import Prefix

_SHARE = 100  # one in so many SYNs makes a source, or a port, stand out
_PORTS = {"source_port": ">u2", "destination_port": ">u2"}
_TUPLE4 = dtype(Tuple4, source="<u4", destination="<u4", **_PORTS)
# Compared as a whole. numpy leaves zeroes at the end out, which is undone where the address is read.
_TUPLE6 = dtype(Tuple6, source="S16", destination="S16", **_PORTS)

_U64 = NDArray[np.uint64]


class Top(NamedTuple):
    """The totals of the table of tuples, and the sources and ports with most of its SYNs, in descending order."""

    tuples: int
    syns: int
    sources: list[tuple[str, int]]
    ports: list[tuple[int, int]]


def top(pins: Pins, most: int) -> Top:
    """Summarise the table of tuples, naming at most ``most`` sources and ports with at least 1% of the SYNs each.

    In a spoofed flood no source has that: each reading would name different ones, and a metrics database would keep
    every name.
    """
    four = _tuples(pins, "tuples4", _TUPLE4)
    six = _tuples(pins, "tuples6", _TUPLE6)
    return summed(four, six, most)


def summed(four: NDArray[Any], six: NDArray[Any], most: int) -> Top:
    """Summarise the values of the two maps as `top` does."""
    counts = [part["syns"] + part["syns_elsewhere"] for part in (four, six)]
    total = sum(int(count.sum()) for count in counts)
    if not most:
        return Top(len(four) + len(six), total, [], [])
    named4 = _most(four["source"], counts[0], total, most)
    named6 = _most(six["source"], counts[1], total, most)
    sources = [(_text(int(source).to_bytes(4, "little")), count) for source, count in named4]
    sources += [(_text(bytes(source).ljust(16, b"\0")), count) for source, count in named6]
    ports = _most(
        np.concatenate([four["destination_port"], six["destination_port"]]), np.concatenate(counts), total, most
    )
    return Top(len(four) + len(six), total, _ordered(sources)[:most], [(int(port), count) for port, count in ports])


def _tuples(pins: Pins, name: str, layout: np.dtype[Any]) -> NDArray[Any]:
    with opened(pins.open(name, abi.TUPLE_KEY.size, layout.itemsize)) as descriptor:
        _, values, count = kernel.entries(descriptor, abi.TUPLE_KEY.size, layout.itemsize)
    return np.frombuffer(values, layout, count)


def _most(keys: NDArray[Any], counts: _U64, total: int, most: int) -> list[tuple[Any, int]]:
    if not len(keys):
        return []
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sums = np.add.reduceat(counts[order], begins)
    chosen = np.flatnonzero(sums * np.uint64(_SHARE) >= np.uint64(max(total, 1)))
    return _ordered((ordered[begins[place]], int(sums[place])) for place in chosen)[:most]


def _ordered(rows: Iterable[tuple[Any, int]]) -> list[tuple[Any, int]]:
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def _text(address: bytes) -> str:
    return str(Prefix(address, len(address) * 8))
