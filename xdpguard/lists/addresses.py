# SPDX-License-Identifier: GPL-2.0
"""A set of addresses as disjoint prefixes, IPv4 and IPv6, in numpy arrays: the contents of a list once it is read.

Overlapping and adjacent ranges are merged, and each range is split into the fewest prefixes that cover it: the form the
kernel's tables need. A list whose ranges would be split into far more prefixes than it has entries is refused.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.errors import UsageError
from xdpguard.lists import ranges
from xdpguard.lists.ranges import U8, U64, Ranges
from xdpguard.policy.target import Prefix

U32 = NDArray[np.uint32]
I64 = NDArray[np.int64]

# How many prefixes a list may split into: so many for each entry, and so many anyway.
GROWTH = 8
FREE = 1 << 20

_PACKED4 = np.dtype([("network", "<u4"), ("length", "u1")])
_PACKED6 = np.dtype([("high", "<u8"), ("low", "<u8"), ("length", "u1")])


class AddressSet(NamedTuple):
    """Disjoint prefixes in ascending order: networks in host byte order with host bits zero, lengths in bits."""

    network4: U32
    length4: U8
    high6: U64
    low6: U64
    length6: U8

    def __len__(self) -> int:
        """Return the number of prefixes, of both families."""
        return self.network4.size + self.high6.size

    def holding(self, address: Prefix) -> Prefix | None:
        """Return the prefix that contains an address, or overlaps a prefix; None if there is none."""
        number = int.from_bytes(address.network, "big")
        width = len(address.network) * 8
        last = number | ((1 << (width - address.length)) - 1)
        place = self._place(last, address.version)
        if place < 0:
            return None
        found = self.prefix(address.version, place)
        first = int.from_bytes(found.network, "big")
        return found if first | ((1 << (width - found.length)) - 1) >= number else None

    def prefix(self, version: int, place: int) -> Prefix:
        """Return one of the prefixes."""
        if version == 4:
            return Prefix(int(self.network4[place]).to_bytes(4, "big"), int(self.length4[place]))
        number = int(self.high6[place]) << 64 | int(self.low6[place])
        return Prefix(number.to_bytes(16, "big"), int(self.length6[place]))

    def packed(self) -> tuple[bytes, bytes]:
        """Encode both families as bytes, for the store."""
        four = np.empty(self.network4.size, _PACKED4)
        four["network"], four["length"] = self.network4, self.length4
        six = np.empty(self.high6.size, _PACKED6)
        six["high"], six["low"], six["length"] = self.high6, self.low6, self.length6
        return four.tobytes(), six.tobytes()

    def _place(self, last: int, version: int) -> int:
        """Return the index of the last prefix that begins no later than ``last``; -1 if there is none."""
        if version == 4:
            return int(np.searchsorted(self.network4, np.uint32(last), "right")) - 1
        high, low = np.uint64(last >> 64), np.uint64(last & (1 << 64) - 1)
        begin = int(np.searchsorted(self.high6, high, "left"))
        end = int(np.searchsorted(self.high6, high, "right"))
        return begin + int(np.searchsorted(self.low6[begin:end], low, "right")) - 1


def unpacked(four: bytes, six: bytes) -> AddressSet:
    """Decode the bytes of `AddressSet.packed`."""
    a, b = np.frombuffer(four, _PACKED4), np.frombuffer(six, _PACKED6)
    fields = (a["network"], a["length"], b["high"], b["low"], b["length"])
    return AddressSet(*(np.ascontiguousarray(field) for field in fields))


def aggregate(
    first4: U32, last4: U32, high6: U64, low6: U64, length6: U8, ranges6: Ranges | None = None
) -> tuple[AddressSet, int]:
    """Build a set from IPv4 ranges (first and last address), IPv6 prefixes and IPv6 ranges, in any order.

    Returns the set, and the number of duplicate entries. Raises UsageError, before any prefix is made, if the ranges
    would be split into far more prefixes than there are entries.
    """
    begin4, end4, duplicates4 = _merged4(first4, last4)
    given = first4.size + high6.size
    if ranges6 is None or not ranges6.size:
        _check_count(given, _count4(begin4, end4) + high6.size)
        high, low, length, duplicates6 = _aggregate6(high6, low6, length6)
    else:
        joined, duplicates6 = ranges.merged(ranges6.and_prefixes(high6, low6, length6))
        _check_count(given + ranges6.size, _count4(begin4, end4) + ranges.count(joined))
        high, low, length = ranges.prefixes(joined)
    return AddressSet(*_split4(begin4, end4), high, low, length), duplicates4 + duplicates6


def _check_count(given: int, prefixes: int) -> None:
    most = max(FREE, GROWTH * given)
    if prefixes > most:
        raise UsageError(
            f"the {given:,} entries are ranges that only {prefixes:,} prefixes describe exactly, and there may be"
            f" {most:,}",
            "nothing was changed; widen the ranges to whole prefixes, such as 2001:db8::/64 for"
            " 2001:db8::1-2001:db8::ffff:ffff:ffff:fffe",
        )


def _merged4(first: U32, last: U32) -> tuple[I64, I64, int]:
    """Merge ranges that overlap or adjoin; return first and last addresses, ascending, and the number of duplicates."""
    if not first.size:
        return np.empty(0, np.int64), np.empty(0, np.int64), 0
    packed = first.astype(np.uint64) << np.uint64(32) | last
    packed.sort()
    same = packed[1:] == packed[:-1]
    duplicates = int(np.count_nonzero(same))
    first64 = (packed >> np.uint64(32)).astype(np.int64)
    reach = np.maximum.accumulate((packed & np.uint64(0xFFFFFFFF)).astype(np.int64))
    begins = np.concatenate(([True], first64[1:] > reach[:-1] + 1))
    ends = np.concatenate((begins[1:], [True]))
    return first64[begins], reach[ends], duplicates


def _count4(begin: I64, end: I64) -> int:
    """Return how many prefixes disjoint ranges split into."""
    several = begin != end
    many = (column[several].astype(np.uint64) for column in (begin, end))
    (first, last), zero = many, np.zeros(int(several.sum()), np.uint64)
    return int(begin.size - zero.size) + ranges.count(Ranges.of(zero, first, zero, last))


def _split4(begin: I64, end: I64) -> tuple[U32, U8]:
    """Split disjoint ranges into the fewest prefixes, in ascending order."""
    single = begin == end
    if single.all():
        return begin.astype(np.uint32), np.full(begin.size, 32, np.uint8)
    networks, lengths = [begin[single]], [np.full(int(single.sum()), 32, np.uint8)]
    begin, end = begin[~single], end[~single]
    while begin.size:
        # The largest block that begins here: limited by the alignment of its start, and by what is left.
        aligned = np.where(begin == 0, 32, np.frexp((begin & -begin).astype(np.float64))[1] - 1)
        bits = np.minimum(aligned, np.frexp((end - begin + 1).astype(np.float64))[1] - 1)
        networks.append(begin)
        lengths.append((32 - bits).astype(np.uint8))
        begin = begin + (np.int64(1) << bits.astype(np.int64))
        more = begin <= end
        begin, end = begin[more], end[more]
    network, length = np.concatenate(networks).astype(np.uint32), np.concatenate(lengths)
    order = np.argsort(network)
    return network[order], length[order]


def _aggregate6(high: U64, low: U64, length: U8) -> tuple[U64, U64, U8, int]:
    if not high.size:
        return high, low, length, 0
    order = np.lexsort((length, low, high) if low.any() else (length, high))
    high, low, length = high[order], low[order], length[order]
    new = np.concatenate(([True], (high[1:] != high[:-1]) | (low[1:] != low[:-1]) | (length[1:] != length[:-1])))
    duplicates = int(new.size - np.count_nonzero(new))
    high, low, length = high[new], low[new], length[new]
    kept = ~_covered(high, low, length)
    high, low, length = _joined(high[kept], low[kept], length[kept])
    order = np.lexsort((low, high))
    return high[order], low[order], length[order], duplicates


def _covered(high: U64, low: U64, length: U8) -> NDArray[np.bool_]:
    """Return which prefixes lie inside another: those that end no later than an earlier one, in ascending order."""
    host = ranges.host_bits(length)
    last_high, last_low = high | host[0], low | host[1]
    if (length <= 64).all():
        reach = np.maximum.accumulate(last_high)
        return np.concatenate(([False], reach[:-1] >= last_high[1:]))
    # numpy has no maximum of 128-bit numbers, but their ranks have one.
    order = np.lexsort((last_low, last_high))
    steps = (np.diff(last_high[order]) != 0) | (np.diff(last_low[order]) != 0)
    ranks = np.empty(order.size, np.int64)
    ranks[order] = np.concatenate(([0], np.cumsum(steps)))
    reach_rank = np.maximum.accumulate(ranks)
    return np.concatenate(([False], reach_rank[:-1] >= ranks[1:]))


def _joined(high: U64, low: U64, length: U8) -> tuple[U64, U64, U8]:
    """Merge pairs of halves into their common prefix, repeatedly. Takes disjoint prefixes."""
    pool: dict[int, list[tuple[U64, U64]]] = {}
    for value in np.unique(length):
        chosen = length == value
        pool[int(value)] = [(high[chosen], low[chosen])]
    found: list[tuple[U64, U64, U8]] = []
    for bits in range(128, -1, -1):
        parts = pool.get(bits)
        if not parts:
            continue
        a, b = (np.concatenate([part[half] for part in parts]) for half in (0, 1))
        if len(parts) > 1:
            order = np.lexsort((b, a))
            a, b = a[order], b[order]
        if bits:
            a, b = _halves(a, b, bits, pool)
        found.append((a, b, np.full(a.size, bits, np.uint8)))
    columns: Any = zip(*found, strict=True)
    one, two, three = (np.concatenate(column) for column in columns)
    return one, two, three


def _halves(high: U64, low: U64, bits: int, pool: dict[int, list[tuple[U64, U64]]]) -> tuple[U64, U64]:
    """Move pairs of halves to the pool as one prefix a bit shorter; return the others."""
    flip_high = np.uint64(1 << (64 - bits)) if bits <= 64 else np.uint64(0)
    flip_low = np.uint64(1 << (128 - bits)) if bits > 64 else np.uint64(0)
    first = ((high[:-1] & flip_high) == 0) & ((low[:-1] & flip_low) == 0)
    pair = first & (high[:-1] | flip_high == high[1:]) & (low[:-1] | flip_low == low[1:])
    if not pair.any():
        return high, low
    pool.setdefault(bits - 1, []).append((high[:-1][pair], low[:-1][pair]))
    alone = ~(np.concatenate((pair, [False])) | np.concatenate(([False], pair)))
    return high[alone], low[alone]
