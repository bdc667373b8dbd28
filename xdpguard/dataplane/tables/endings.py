# SPDX-License-Identifier: GPL-2.0
"""The ends of the deny index's entries: numbers in their words, and the table that they stand for (bpf/stages/entry.h).

There are numbers for 16,383 different ends, which are then exact. Where there are more, ends are rounded up to a step,
a power of two in seconds: less than the time between the first and the last of them divided by 8,191, so 64 s for ends
within a week.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane.sys import abi
from xdpguard.lists.ranges import U32, U64

MOST = (1 << 14) - 1  # numbers; 0: no end
AT = np.uint64(34)  # the place of the number in an entry's word
MASK = np.uint64(MOST)
_A_LINE = abi.LINE.size // 8  # ends


def step(ends: U32) -> int:
    """Return the seconds to multiples of which these ends are rounded up; 1: they are exact."""
    found, size = np.unique(ends[ends != 0]).astype(np.int64), 1
    while np.unique(-(-found // size)).size > MOST:
        size *= 2
    return size


def numbered(ends: U32) -> tuple[U64, U64]:
    """Return the number of each end (Unix time, 0: none), and the ends by number from 0 on (Unix time)."""
    if not ends.any():
        return np.zeros(ends.size, np.uint64), np.empty(0, np.uint64)
    size = step(ends)
    table, numbers = np.unique(-(-ends.astype(np.int64) // size), return_inverse=True)
    first = 0 if table[0] == 0 else 1  # number 0 stands for no end, also when every entry has one
    table = table * size if first == 0 else np.concatenate(([0], table * size))
    return (numbers.reshape(-1) + first).astype(np.uint64), table.astype(np.uint64)


def lines(table: U64, offset: float) -> U64:
    """Return a table of ends as lines of an index. ``offset``: CLOCK_BOOTTIME minus Unix time, seconds."""
    made = np.zeros((-(-table.size // _A_LINE), _A_LINE), np.uint64)
    given = np.flatnonzero(table)
    # An end before this boot has come, whenever that was.
    since = np.maximum(table[given].astype(np.float64) + offset, 0.001)
    made.reshape(-1)[given] = (since * 1e9).astype(np.uint64)
    return made


def read(words: U64, table: U64, offset: float) -> U32:
    """Return the ends of entries (Unix time, 0: none) from their words; ``table``: the lines of ends."""
    held = table.reshape(-1)
    ends: NDArray[np.float64] = np.zeros(max(1, held.size), np.float64)
    ends[: held.size] = np.where(held == 0, 0, np.rint(held / 1e9 - offset))
    found: U32 = ends[(words >> AT & MASK).astype(np.int64)].astype(np.uint32)
    return found
