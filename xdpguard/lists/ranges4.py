# SPDX-License-Identifier: GPL-2.0
"""IPv4 ranges in numpy: merged, counted and split into prefixes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xdpguard.lists import ranges
from xdpguard.lists.ranges import U8, U32, Ranges

I64 = NDArray[np.int64]


def merged4(first: U32, last: U32) -> tuple[I64, I64, int]:
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


def count4(begin: I64, end: I64) -> int:
    """Return how many prefixes disjoint ranges split into."""
    several = begin != end
    many = (column[several].astype(np.uint64) for column in (begin, end))
    (first, last), zero = many, np.zeros(int(several.sum()), np.uint64)
    return int(begin.size - zero.size) + ranges.count(Ranges.of(zero, first, zero, last))


def split4(begin: I64, end: I64) -> tuple[U32, U8]:
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
