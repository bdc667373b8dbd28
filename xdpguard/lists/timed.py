# SPDX-License-Identifier: GPL-2.0
"""Ranges of addresses that have ends: made disjoint, so that each address has the latest end of all that hold it.

IPv4 addresses are taken for the lowest 32 bits of IPv6 ones: both go the same way.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import numpy as np

from xdpguard.lists import ranges
from xdpguard.lists.ranges import U8, U32, U64, Ranges

LATEST = (1 << 32) - 1  # Unix time; what ends later has no end
_HALF = (1 << 64) - 1
_ONE = np.uint32(1)


class Given(NamedTuple):
    """The ends of the entries of a list: IPv4 ranges, IPv6 prefixes, IPv6 ranges. Unix time, 0 for none."""

    four: U32
    six: U32
    ranges6: U32 = np.empty(0, np.uint32)


def of4(first: U32, last: U32) -> Ranges:
    """Return IPv4 ranges in the form in which this module takes them."""
    zero = np.zeros(first.size, np.uint64)
    return Ranges.of(zero, first.astype(np.uint64), zero, last.astype(np.uint64))


def disjoint(given: Ranges, until: U32) -> tuple[Ranges, U32, int]:
    """Return disjoint ranges in ascending order, the end of each, and the number of duplicates among those given."""
    if not given.size:
        return given, until, 0
    order = np.lexsort((given.last.low, given.last.high, given.first.low, given.first.high))
    given, until = given.at(order), until[order] - _ONE  # no end, 0, wraps around: it is later than any
    again = np.concatenate(([False], given.first.same_as_before() & given.last.same_as_before()))
    duplicates, starts = int(np.count_nonzero(again)), np.flatnonzero(~again)
    given, until = given.at(starts), np.maximum.reduceat(until, starts)
    reach = ranges.reach(given.last)
    apart = given.first.at(slice(1, None)).above(reach.at(slice(None, -1)))
    alone = np.concatenate(([True], apart)) & np.concatenate((apart, [True]))
    if not alone.all():
        given, until = _with(given.at(alone), until[alone], _swept(given.at(~alone), until[~alone]))
    joins = given.first.at(slice(1, None)).equal(given.last.at(slice(None, -1)).next()) & (until[1:] == until[:-1])
    begins, ends = np.concatenate(([True], ~joins)), np.concatenate((~joins, [True]))
    return Ranges(given.first.at(begins), given.last.at(ends)), until[begins] + _ONE, duplicates


def prefixes(given: Ranges, until: U32) -> tuple[U64, U64, U8, U32]:
    """Split disjoint ranges in ascending order as `ranges.prefixes` does; return the end of each prefix, too."""
    high, low, length = ranges.prefixes(given)
    # Ranges and prefixes in one order, a range before the prefixes in it.
    count = given.size
    inside = np.arange(count + high.size) >= count
    upper, lower = np.concatenate((given.first.high, high)), np.concatenate((given.first.low, low))
    order = np.lexsort((inside, lower, upper))
    places = np.cumsum(~inside[order]) - 1
    return high, low, length, until[places[inside[order]]]


def _swept(given: Ranges, until: U32) -> list[tuple[int, int, int]]:
    """Return the pieces of ranges that overlap, ascending: first and last address, and the latest end there is."""
    halves = zip(*(half.tolist() for half in (*given.first, *given.last)), until.tolist(), strict=True)
    pieces: list[tuple[int, int, int]] = []
    heap: list[tuple[int, int]] = []  # of the ranges that have begun: end, negative, and last address
    at = 0
    for high, low, upper, lower, end in (*halves, (1 << 64, 0, 0, 0, 0)):
        begin = high << 64 | low
        while heap and at < begin:
            latest, last = heap[0]
            if last < at:
                heapq.heappop(heap)
                continue
            stop = min(last, begin - 1)
            pieces.append((at, stop, -latest))
            at = stop + 1
        at = begin
        heapq.heappush(heap, (-end, upper << 64 | lower))
    return pieces


def _with(given: Ranges, until: U32, pieces: list[tuple[int, int, int]]) -> tuple[Ranges, U32]:
    """Return ranges and pieces of others in ascending order."""
    halves = ([it[side] >> shift & _HALF for it in pieces] for side in (0, 1) for shift in (64, 0))
    columns = [
        np.concatenate((column, np.array(half, np.uint64)))
        for column, half in zip((*given.first, *given.last), halves, strict=True)
    ]
    until = np.concatenate((until, np.array([it[2] for it in pieces], np.uint32)))
    order = np.lexsort((columns[1], columns[0]))
    return Ranges.of(*columns).at(order), until[order]
