# SPDX-License-Identifier: GPL-2.0
"""IPv6 prefixes in numpy: those inside others left out, halves joined."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.lists import ranges
from xdpguard.lists.ranges import U8, U64


def joined6(high: U64, low: U64, length: U8) -> tuple[U64, U64, U8, int]:
    """Return disjoint prefixes in ascending order that hold the same addresses, and the number of duplicates."""
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
