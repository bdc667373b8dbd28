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
    """Return the numbers of so many bits, at most 16, of which those under the mask are among the wanted."""
    inside = bytearray(1 << bits)
    for first, last in wanted:
        inside[first : last + 1] = bytes([1]) * (last + 1 - first)
    return joined((it, it) for it in range(1 << bits) if inside[it & mask])


def prefixes(ranges: Ranges, bits: int) -> Iterator[tuple[int, int]]:
    """Split ranges of numbers of so many bits into (value, mask) pairs, the fewest there are."""
    everything = (1 << bits) - 1
    for begin, last in ranges:
        first = begin
        while first <= last:
            size = min(first & -first if first else 1 << bits, 1 << (last + 1 - first).bit_length() - 1)
            yield first, everything ^ (size - 1)
            first += size
