# SPDX-License-Identifier: GPL-2.0
"""Sets of numbers as ranges: sorted, disjoint, not adjacent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xdpguard.policy.matching.model import Range

Ranges = tuple[Range, ...]


def joined(ranges: Iterable[Range]) -> Ranges:
    """Sort ranges, and merge those that overlap or touch."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def common(one: Ranges, other: Ranges) -> Ranges:
    """Return the numbers in both."""
    found: list[Range] = []
    left, right = 0, 0
    while left < len(one) and right < len(other):
        first = max(one[left][0], other[right][0])
        last = min(one[left][1], other[right][1])
        if first <= last:
            found.append((first, last))
        if one[left][1] < other[right][1]:
            left += 1
        else:
            right += 1
    return tuple(found)


def without(domain: Ranges, ranges: Ranges) -> Ranges:
    """Return the numbers of a domain that are in none of the ranges."""
    gaps: list[Range] = []
    start = 0
    for first, last in ranges:
        if start < first:
            gaps.append((start, first - 1))
        start = last + 1
    gaps.append((start, max(start, domain[-1][1])))
    return common(domain, tuple(gaps))


def masked(bits: int, mask: int, wanted: Ranges) -> Ranges:
    """Return the numbers of so many bits of which those under the mask are among the wanted."""
    half = (1 << bits) // 2
    if not wanted or wanted == ((0, (1 << bits) - 1),):
        return wanted
    # By halves, from the highest bit down; where that bit is not under the mask both halves are the lower one.
    lower = masked(bits - 1, mask, common(wanted, ((0, half - 1),)))
    upper = lower
    if mask & half:
        above = common(wanted, ((half, 2 * half - 1),))
        upper = masked(bits - 1, mask, tuple((first - half, last - half) for first, last in above))
    return joined((*lower, *((first + half, last + half) for first, last in upper)))


def prefixes(ranges: Ranges, bits: int) -> Iterator[tuple[int, int]]:
    """Split ranges of numbers of so many bits into (value, mask) pairs, the fewest there are."""
    everything = (1 << bits) - 1
    for begin, last in ranges:
        first = begin
        while first <= last:
            size = min(first & -first if first else 1 << bits, 1 << (last + 1 - first).bit_length() - 1)
            yield first, everything ^ (size - 1)
            first += size
