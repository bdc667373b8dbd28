# SPDX-License-Identifier: GPL-2.0
"""Addresses that a list keeps out of its own entries: `!`, nomatch, rows that say allow.

The most specific one decides, as in ipset, pf and rbldnsd: an exception is cut out of every larger entry, and an entry
inside an exception stays. Where an exclusion mark stands before an address, other programs go by the order of the lines
instead; where that would differ, the file is refused.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.errors import UsageError
from xdpguard.lists.formats.entries import Entry, entry, shown
from xdpguard.lists.ranges import Ranges

_MOST = 1 << 20  # exceptions
_STEPS = 1 << 22  # pairs of an entry and an exception that overlap
_LOWER = (1 << 64) - 1

Numbers = NDArray[np.uint32]
Halves = NDArray[np.uint64]
Bytes = NDArray[np.uint8]
Origins = NDArray[np.intp]


class _Hole(NamedTuple):
    first: int
    last: int
    line: int
    marked: bool  # by an exclusion mark, whose meaning may depend on the order


class _Group(NamedTuple):
    """Exceptions that overlap, with their first and last address."""

    first: int
    last: int
    holes: list[_Hole]


class Exceptions:
    """The exceptions of one list."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._holes: dict[int, dict[tuple[int, int], _Hole]] = {4: {}, 6: {}}
        self._steps = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return sum(map(len, self._holes.values()))

    def add(self, text: str, line: int, marked: bool) -> None:
        """Add the addresses of a text. Raise UsageError if it has none: what it excludes would be blocked."""
        said = entry(text)
        if not isinstance(said, Entry):
            raise UsageError(
                f"{self._name}:{line}: an exception that cannot be read: {shown(text)!r}",
                "correct it: what it excludes would be blocked",
            )
        for first, last in said.ranges4:
            self._holes[4][first, last] = _Hole(first, last, line, marked)
        for network, length in said.prefixes6:
            last = network | ((1 << (128 - length)) - 1)
            self._holes[6][network, last] = _Hole(network, last, line, marked)
        for first, last in said.ranges6:
            self._holes[6][first, last] = _Hole(first, last, line, marked)
        if len(self) > _MOST:
            raise UsageError(f"{self._name}: more than {_MOST:,} exceptions", "split it into several lists")

    def cut4(self, first: Numbers, last: Numbers) -> tuple[Numbers, Numbers, Origins | None]:
        """Return IPv4 ranges without the exceptions, and which of the ranges each was part of; None: all are left."""
        groups = _groups(self._holes[4].values())
        if not groups or not len(first):
            return first, last, None
        low = np.array([group.first for group in groups], dtype=np.uint32)
        high = np.array([group.last for group in groups], dtype=np.uint32)
        touched = _touched(first, last, low, high)
        places = np.flatnonzero(touched).tolist()
        made = [
            (*piece, at)
            for at, begin, end in zip(places, first[touched].tolist(), last[touched].tolist(), strict=True)
            for piece in self._pieces(begin, end, groups)
        ]
        kept = ~touched
        starts, ends, origins = ([piece[column] for piece in made] for column in range(3))
        return (
            np.concatenate([first[kept], np.array(starts, dtype=np.uint32)]),
            np.concatenate([last[kept], np.array(ends, dtype=np.uint32)]),
            np.concatenate([np.flatnonzero(kept), np.array(origins, dtype=np.intp)]),
        )

    def cut6(self, high: Halves, low: Halves, length: Bytes) -> tuple[Halves, Halves, Bytes, Origins | None]:
        """Return IPv6 prefixes without the exceptions; see `cut4`."""
        groups = _groups(self._holes[6].values())
        if not groups or not len(high):
            return high, low, length, None
        lower = np.array([group.first >> 64 for group in groups], dtype=np.uint64)
        upper = np.array([group.last >> 64 for group in groups], dtype=np.uint64)
        host = np.array([(1 << max(64 - bits, 0)) - 1 for bits in range(129)], dtype=np.uint64)[length]
        touched = _touched(high, high | host, lower, upper)
        made: list[tuple[int, int, int]] = []
        columns = (high[touched], low[touched], length[touched], np.flatnonzero(touched))
        for upper_half, lower_half, bits, at in zip(*(column.tolist() for column in columns), strict=True):
            begin = upper_half << 64 | lower_half
            for piece in self._pieces(begin, begin | ((1 << (128 - bits)) - 1), groups):
                made.extend((*prefix, at) for prefix in _prefixes(*piece))
        kept = ~touched
        return (
            np.concatenate([high[kept], np.array([it[0] >> 64 for it in made], dtype=np.uint64)]),
            np.concatenate([low[kept], np.array([it[0] & _LOWER for it in made], dtype=np.uint64)]),
            np.concatenate([length[kept], np.array([it[1] for it in made], dtype=np.uint8)]),
            np.concatenate([np.flatnonzero(kept), np.array([it[2] for it in made], dtype=np.intp)]),
        )

    def cut_ranges6(self, ranges: Ranges) -> tuple[Ranges, Origins | None]:
        """Return IPv6 ranges without the exceptions; see `cut4`."""
        groups = _groups(self._holes[6].values())
        if not groups or not ranges.size:
            return ranges, None
        rows = zip(*(half.tolist() for half in (*ranges.first, *ranges.last)), strict=True)
        made = [
            (*piece, at)
            for at, (high, low, upper, lower) in enumerate(rows)
            for piece in self._pieces(high << 64 | low, upper << 64 | lower, groups)
        ]
        halves = (
            [end[side] >> 64 for end in made] if up else [end[side] & _LOWER for end in made]
            for side in (0, 1)
            for up in (True, False)
        )
        origins = np.array([it[2] for it in made], dtype=np.intp)
        return Ranges.of(*(np.array(half, dtype=np.uint64) for half in halves)), origins

    def _pieces(self, begin: int, end: int, groups: list[_Group]) -> list[tuple[int, int]]:
        """Return what is left of a range."""
        at = bisect_left(groups, begin, key=lambda group: group.last)
        stop = bisect_right(groups, end, key=lambda group: group.first)
        pieces: list[tuple[int, int]] = []
        next_one = begin
        for hole in (hole for group in groups[at:stop] for hole in group.holes):
            self._steps += 1
            if self._steps > _STEPS:
                raise UsageError(f"{self._name}: its exceptions cut up too many entries", "split it into several lists")
            if hole.last < begin or hole.first > end:
                continue
            whole = begin <= hole.first and hole.last <= end
            if not whole or (hole.first, hole.last) == (begin, end):
                if hole.marked:
                    raise UsageError(
                        f"{self._name}:{hole.line}: an exception that is not part of a larger entry: the list has "
                        "an entry within it, or across its end",
                        "take one of them out",
                    )
                if hole.first <= begin and hole.last >= end:
                    continue  # the entry is the more specific one
            if hole.first > next_one:
                pieces.append((next_one, hole.first - 1))
            next_one = max(next_one, hole.last + 1)
        if next_one <= end:
            pieces.append((next_one, end))
        return pieces


def _prefixes(first: int, last: int) -> list[tuple[int, int]]:
    """Return the fewest IPv6 prefixes that cover a range."""
    found: list[tuple[int, int]] = []
    while first <= last:
        size = (last - first + 1).bit_length() - 1
        if first:
            size = min(size, (first & -first).bit_length() - 1)
        found.append((first, 128 - size))
        first += 1 << size
    return found


def _groups(holes: Iterable[_Hole]) -> list[_Group]:
    """Return the exceptions in ascending order, those that overlap together."""
    groups: list[_Group] = []
    for hole in sorted(holes):
        if groups and hole.first <= groups[-1].last:
            groups[-1].holes.append(hole)
            groups[-1] = groups[-1]._replace(last=max(groups[-1].last, hole.last))
        else:
            groups.append(_Group(hole.first, hole.last, [hole]))
    return groups


def _touched(
    first: NDArray[np.unsignedinteger],
    last: NDArray[np.unsignedinteger],
    low: NDArray[np.unsignedinteger],
    high: NDArray[np.unsignedinteger],
) -> NDArray[np.bool_]:
    """Return which ranges overlap one of these, which are disjoint and ascending."""
    at = np.searchsorted(high, first, "left")
    inside = at < len(low)
    found: NDArray[np.bool_] = inside & (low[np.minimum(at, len(low) - 1)] <= last)
    return found
