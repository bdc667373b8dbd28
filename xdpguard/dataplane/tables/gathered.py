# SPDX-License-Identifier: GPL-2.0
"""The entries of the deny index, gathered from all lists: each prefix once, IPv6 ones of as few lengths as fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.errors import XdpguardError
from xdpguard.lists.addresses import AddressSet
from xdpguard.lists.ranges import U8, U32, U64

U16 = NDArray[np.uint16]
Lists = Sequence[tuple[int, AddressSet]]  # with their numbers

_LENGTHS = 16  # IPv6 prefix lengths per table: XG_INDEX_LENGTHS
# Entries there may be after splitting prefixes of too many lengths: so many for each, and so many anyway.
_GROWTH, _FREE_SPLIT = 8, 1 << 20


class Entries4(NamedTuple):
    """IPv4 prefixes: networks in host byte order, lengths in bits, numbers of the lists, ends (Unix time, 0: none)."""

    network: U32
    length: U8
    owner: U16
    end: U32


class Entries6(NamedTuple):
    """IPv6 prefixes: both halves of the networks in host byte order, and the rest as of IPv4 prefixes."""

    high: U64
    low: U64
    length: U8
    owner: U16
    end: U32


def gathered4(lists: Lists) -> Entries4:
    """Return the IPv4 entries of lists; a prefix in several lists counts for the one in which it lasts longest."""
    network: U32 = _joined(np.uint32, (its.network4 for _, its in lists))
    length: U8 = _joined(np.uint8, (its.length4 for _, its in lists))
    owner: U16 = _joined(np.uint16, (np.full(its.network4.size, number, np.uint16) for number, its in lists))
    end: U32 = _joined(np.uint32, (its.ends4 for _, its in lists))
    if (length == 0).any():
        # 0.0.0.0/0 has no bit to stand for its length: it is written as two halves.
        network, owner, end = _halved(network, length, 1 << 31), _halved(owner, length), _halved(end, length)
        length = _halved(np.maximum(length, 1), length)
    if len(lists) > 1 or (length == 1).any():
        kept = _first(end, network.astype(np.uint64) << np.uint64(8) | length)
        network, length, owner, end = network[kept], length[kept], owner[kept], end[kept]
    return Entries4(network, length, owner, end)


def gathered6(lists: Lists) -> Entries6:
    """Return the IPv6 entries of lists; a prefix in several lists counts for the one in which it lasts longest."""
    high: U64 = _joined(np.uint64, (its.high6 for _, its in lists))
    low: U64 = _joined(np.uint64, (its.low6 for _, its in lists))
    length: U8 = _joined(np.uint8, (its.length6 for _, its in lists))
    owner: U16 = _joined(np.uint16, (np.full(its.high6.size, number, np.uint16) for number, its in lists))
    end: U32 = _joined(np.uint32, (its.ends6 for _, its in lists))
    if (length == 0).any():
        high, low, owner = _halved(high, length, 1 << 63), _halved(low, length), _halved(owner, length)
        end, length = _halved(end, length), _halved(np.maximum(length, 1), length)
    entries = Entries6(high, low, length, owner, end)
    return _first_of_each(entries) if len(lists) > 1 or (length == 1).any() else entries


def _joined(kind: type[np.generic], columns: Iterable[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, kind), *columns])


def _halved(column: NDArray[Any], length: U8, upper: int = 0) -> NDArray[Any]:
    """Return a column with each prefix of length 0 twice; ``upper`` is what the second half has set besides."""
    times = np.where(length == 0, 2, 1)
    found = np.repeat(column, times)
    found[np.cumsum(times)[length == 0] - 1] |= column.dtype.type(upper)
    return found


def _first(end: U32, *keys: NDArray[Any]) -> NDArray[np.intp]:
    """Return the places of the entries that count, ascending: of those with the same keys the one that ends last, and
    of these the first.
    """
    soonest = [~(end - np.uint32(1))] if end.any() else []  # no end, 0, wraps around: it is later than any
    order = np.lexsort([*soonest, *keys])  # stable
    same = np.ones(max(order.size, 1) - 1, np.bool_)
    for key in keys:
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    return np.sort(order[np.concatenate(([True], ~same))[: order.size]])


def _first_of_each(entries: Entries6) -> Entries6:
    kept = _first(entries.end, entries.length, entries.low, entries.high)
    return Entries6(*[column[kept] for column in entries])  # type: ignore[arg-type]


def limited(entries: Entries6) -> Entries6:
    """Split prefixes of some lengths into longer ones, until no more than ``_LENGTHS`` lengths are left.

    Raises XdpguardError, before anything is split, if there would be far more entries then.
    """
    lengths, counts = np.unique(entries.length, return_counts=True)
    for old, new in _splits(dict(zip(lengths.tolist(), counts.tolist(), strict=True))):
        entries = _first_of_each(_split(entries, old, new))
    return entries


def _splits(counts: dict[int, int]) -> list[tuple[int, int]]:
    """Return which lengths to write as which, given the number of prefixes of each: the cheapest first."""
    many, given, found = len(counts), sum(counts.values()), []
    while len(counts) > _LENGTHS:
        steps = pairwise(sorted(counts))
        old, new = min(steps, key=lambda step: counts[step[0]] << step[1] - step[0])
        counts[new] += counts.pop(old) << new - old
        found.append((old, new))
    if found and sum(counts.values()) > max(_FREE_SPLIT, _GROWTH * given):
        raise XdpguardError(
            f"the lists have IPv6 prefixes of {many} lengths; the kernel's index has {_LENGTHS}, and written as these"
            f" they would be {sum(counts.values()):,} entries",
            "nothing was changed; merge prefixes, widen ranges to whole prefixes, or leave out a list",
        )
    return found


def _split(entries: Entries6, old: int, new: int) -> Entries6:
    chosen = entries.length == old
    stay = [column[~chosen] for column in entries]
    step = np.arange(1 << (new - old), dtype=np.uint64)
    count = step.size
    high, low, _, owner, end = (np.repeat(column[chosen], count) for column in entries)
    step = np.tile(step, high.size // count)
    if new <= 64:
        high = high | step << np.uint64(64 - new)
    else:
        low = low | step << np.uint64(128 - new)
        if old < 64:
            high = high | step >> np.uint64(new - 64)
    return Entries6(
        np.append(stay[0], high),
        np.append(stay[1], low),
        np.append(stay[2], np.full(high.size, new, np.uint8)),
        np.append(stay[3], owner),
        np.append(stay[4], end),
    )
