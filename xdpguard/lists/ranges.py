# SPDX-License-Identifier: GPL-2.0
"""IPv6 ranges in numpy: merged, counted and split into prefixes. A 128-bit number is two arrays, upper and lower half.

A range of two addresses can need 252 prefixes. How many is computed from the ends alone, so that a set of ranges can be
refused before any prefix is made.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

_ONE, _ZERO = np.uint64(1), np.uint64(0)
_ONES = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


class Wide(NamedTuple):
    """128-bit numbers."""

    high: U64
    low: U64

    def at(self, where: NDArray[np.intp] | Bools | slice) -> Wide:
        """Return the numbers at these places."""
        return Wide(self.high[where], self.low[where])

    def equal(self, other: Wide) -> Bools:
        """Return where the numbers are the other ones."""
        found: Bools = (self.high == other.high) & (self.low == other.low)
        return found

    def same_as_before(self) -> Bools:
        """Return which of the numbers, from the second one on, are the same as the one before them."""
        return self.at(slice(1, None)).equal(self.at(slice(None, -1)))

    def __and__(self, other: Wide) -> Wide:
        return Wide(self.high & other.high, self.low & other.low)

    def __invert__(self) -> Wide:
        return Wide(~self.high, ~self.low)

    def plus(self, other: Wide) -> Wide:
        """Return the sums, modulo 2**128."""
        with np.errstate(over="ignore"):
            low = self.low + other.low
            return Wide(self.high + other.high + (low < self.low), low)

    def next(self) -> Wide:
        """Return the successors, modulo 2**128."""
        with np.errstate(over="ignore"):
            low = self.low + _ONE
            return Wide(self.high + (low == 0), low)

    def above(self, other: Wide) -> Bools:
        """Return where the numbers are greater than the other ones."""
        found: Bools = (self.high > other.high) | ((self.high == other.high) & (self.low > other.low))
        return found

    def zero(self) -> Bools:
        """Return where the numbers are zero."""
        found: Bools = (self.high == 0) & (self.low == 0)
        return found


class Ranges(NamedTuple):
    """Ranges of IPv6 addresses, each from its first to its last address."""

    first: Wide
    last: Wide

    @classmethod
    def of(cls, first_high: U64, first_low: U64, last_high: U64, last_low: U64) -> Ranges:
        """Return ranges given by the halves of their ends."""
        return cls(Wide(first_high, first_low), Wide(last_high, last_low))

    @classmethod
    def none(cls) -> Ranges:
        """Return no ranges."""
        empty = np.empty(0, np.uint64)
        return cls.of(empty, empty, empty, empty)

    @property
    def size(self) -> int:
        """How many there are."""
        return self.first.high.size

    def at(self, where: NDArray[np.intp] | Bools) -> Ranges:
        """Return the ranges at these places."""
        return Ranges(self.first.at(where), self.last.at(where))

    def and_prefixes(self, high: U64, low: U64, length: U8) -> Ranges:
        """Return these ranges and those of prefixes."""
        upper, lower = host_bits(length)
        parts = zip((*self.first, *self.last), (high, low, high | upper, low | lower), strict=True)
        return Ranges.of(*(np.concatenate(part) for part in parts))


def merged(ranges: Ranges) -> tuple[Ranges, int]:
    """Merge ranges that overlap or adjoin; return disjoint ones in ascending order, and the number of duplicates."""
    if not ranges.size:
        return ranges, 0
    order = np.lexsort((ranges.last.low, ranges.last.high, ranges.first.low, ranges.first.high))
    first, last = ranges.first.at(order), ranges.last.at(order)
    duplicates = int(np.count_nonzero(first.same_as_before() & last.same_as_before()))
    furthest = reach(last)
    after = furthest.at(slice(None, -1)).next()
    begins = np.concatenate(([True], first.at(slice(1, None)).above(after) & ~after.zero()))
    ends = np.concatenate((begins[1:], [True]))
    return Ranges(first.at(begins), furthest.at(ends)), duplicates


def reach(last: Wide) -> Wide:
    """Return, for each number, the greatest so far."""
    # numpy has no maximum of 128-bit numbers, but their ranks have one.
    by_last = np.lexsort((last.low, last.high))
    ranks = np.empty(by_last.size, np.int64)
    ranks[by_last] = np.arange(by_last.size)
    return last.at(by_last[np.maximum.accumulate(ranks)])


def count(ranges: Ranges) -> int:
    """Return how many prefixes the ranges split into, each into the fewest that cover it."""
    host, single = _shape(ranges)
    few = Ranges(ranges.first.at(~single), ranges.last.at(~single))
    below, above = _sides(few, host.at(~single))
    bits = sum(int(_ones_in(half).sum(dtype=np.int64)) for side in (below, above) for half in side)
    return int(np.count_nonzero(single)) + bits


def prefixes(ranges: Ranges) -> tuple[U64, U64, U8]:
    """Split disjoint ranges into the fewest prefixes, in ascending order: upper and lower half, and length."""
    host, single = _shape(ranges)
    length = 128 - _ones_in(host.high[single]) - _ones_in(host.low[single])
    found = [(*ranges.first.at(single), length.astype(np.uint8))]
    few, host = Ranges(ranges.first.at(~single), ranges.last.at(~single)), host.at(~single)
    below, above = _sides(few, host)
    half = _shifted(host)
    middle = few.last & ~half
    for bit in range(128 if few.size else 0):
        # Below the middle, blocks grow; above it, they shrink.
        rows = _having(below, bit)
        found.append((*few.first.at(rows).plus(below.at(rows) & _number((1 << bit) - 1)), _lengths(rows, bit)))
        rows = _having(above, bit)
        found.append((*middle.at(rows).plus(above.at(rows) & _number(-2 << bit)), _lengths(rows, bit)))
    high, low, lengths = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.lexsort((low, high))
    return high[order], low[order], lengths[order]


def host_bits(length: U8) -> tuple[U64, U64]:
    """Return the bits after the prefix as upper and lower half. C does not define a shift by 64, hence two steps."""
    upper, lower = np.minimum(length, 64).astype(np.uint64), np.maximum(length, 64).astype(np.uint64) - np.uint64(64)

    def mask_after(bits: U64) -> U64:
        return np.where(bits == 64, _ZERO, _ONES >> np.minimum(bits, np.uint64(63)))

    return mask_after(upper), mask_after(lower)


def _shape(ranges: Ranges) -> tuple[Wide, Bools]:
    """Return the host bits of the shortest prefix around each range, and which ranges are that prefix."""
    first, last = ranges
    high, low = _smeared(first.high ^ last.high), _smeared(first.low ^ last.low)
    host = Wide(high, np.where(high != 0, _ONES, low))
    whole = (first & host).zero() & (last.high & host.high == host.high) & (last.low & host.low == host.low)
    return host, whole


def _sides(ranges: Ranges, host: Wide) -> tuple[Wide, Wide]:
    """Return how many addresses each range has below and from the middle of the prefix around it on."""
    half = _shifted(host)
    return (~ranges.first & half).next(), (ranges.last & half).next()


def _shifted(wide: Wide) -> Wide:
    """Return the numbers divided by two."""
    return Wide(wide.high >> _ONE, wide.low >> _ONE | (wide.high & _ONE) << np.uint64(63))


def _having(wide: Wide, bit: int) -> NDArray[np.intp]:
    """Return which numbers have a bit set."""
    words = wide.high >> np.uint64(bit - 64) if bit >= 64 else wide.low >> np.uint64(bit)
    return np.flatnonzero(words & _ONE)


def _number(value: int) -> Wide:
    """Return one number, modulo 2**128, to be combined with many."""
    return Wide(*(np.array(half, np.uint64) for half in divmod(value % (1 << 128), 1 << 64)))


def _lengths(rows: NDArray[np.intp], bit: int) -> U8:
    return np.full(rows.size, 128 - bit, np.uint8)


def _smeared(words: U64) -> U64:
    """Return words with all bits below the highest one set too."""
    for shift in (1, 2, 4, 8, 16, 32):
        words = words | words >> np.uint64(shift)
    return words


def _ones_in(words: U64) -> U64:
    """Count the bits that are set (Warren, "Hacker's Delight", 5-1)."""
    words = words - (words >> _ONE & np.uint64(0x5555_5555_5555_5555))
    pairs = np.uint64(0x3333_3333_3333_3333)
    words = (words & pairs) + (words >> np.uint64(2) & pairs)
    words = words + (words >> np.uint64(4)) & np.uint64(0x0F0F_0F0F_0F0F_0F0F)
    with np.errstate(over="ignore"):
        return words * np.uint64(0x0101_0101_0101_0101) >> np.uint64(56)
