# SPDX-License-Identifier: GPL-2.0
"""The hash tables of the deny index: each entry is placed in one of two cache lines (bpf/stages/index.h).

An entry is in its first line, or in its second one when the first is full: cuckoo hashing with lines as buckets
(Dietzfelbinger and Weidling, "Balanced allocation and dictionaries with tightly packed constant size bins", 2007).
"""

from __future__ import annotations

import secrets
from random import Random

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
Places = NDArray[np.int64]

_HALF = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)
_AGAIN = 0x2C1B3C6D
_KICKS = 500


class TooFull(Exception):
    """The entries do not fit into this many lines with this hash; try another multiplier, or more lines."""


def multiplier() -> int:
    """Return a random odd number for the hash, so that collisions cannot be planned."""
    return secrets.randbits(64) | 1


def hash_pair(factor: int, high: U64, low: U64 | np.uint64) -> U64:
    """Return ``xg_hash_pair`` (bpf/algo/hash.h) of many words at once: 32 bits each."""
    with np.errstate(over="ignore"):
        mixed = high * np.uint64(factor) + low
        mixed ^= mixed >> _HALF
        mixed *= np.uint64(factor)
    return mixed >> _HALF


def hash_again(value: U64) -> U64:
    """Return ``xg_hash_again`` (bpf/algo/hash.h) of many hashes at once."""
    return ((value ^ value >> np.uint64(15)) * np.uint64(_AGAIN)) & _LOW


def place(value: U64, count: int) -> Places:
    """Return ``xg_hash_place`` (bpf/algo/hash.h): which of ``count`` places each hash selects."""
    return ((value * np.uint64(count)) >> _HALF).astype(np.int64)


def lines_for(entries: int, capacity: int) -> int:
    """Return how many lines a table gets: they end up half full, so that few entries need their second line."""
    return max(1, -(-2 * entries // capacity))


def arrange(hashes: U64, count: int, capacity: int) -> Places:
    """Return each entry's slot ``line * capacity + rank`` in a table of ``count`` lines; lines fill from rank 0.

    Raise TooFull when there is no such arrangement.
    """
    first = place(hashes, count)
    slots, left = _ranked(first, capacity, np.zeros(count, np.int64))
    if not left.size:
        return slots
    used = np.minimum(np.bincount(first, minlength=count), capacity)
    second = place(hash_again(hashes[left]), count)
    placed, still = _ranked(second, capacity, used)
    slots[left] = placed
    if still.size:
        _kick(hashes, slots, left[still], count, capacity)
    return slots


def _ranked(lines: Places, capacity: int, used: Places) -> tuple[Places, Places]:
    """Return slots after those used in each line, -1 where there is no room; and the indices of entries without any."""
    packed = lines.astype(np.uint64) << _HALF | np.arange(lines.size, dtype=np.uint64)
    packed.sort()
    order = (packed & _LOW).astype(np.int64)
    sorted_lines = (packed >> _HALF).astype(np.int64)
    begins = np.concatenate(([True], sorted_lines[1:] != sorted_lines[:-1]))
    starts = np.flatnonzero(begins)
    ranks = np.arange(lines.size) - np.repeat(starts, np.diff(np.append(starts, lines.size)))
    ranks += used[sorted_lines]
    room = ranks < capacity
    slots = np.full(lines.size, -1, np.int64)
    slots[order[room]] = sorted_lines[room] * capacity + ranks[room]
    return slots, np.sort(order[~room])


def _kick(hashes: U64, slots: Places, homeless: Places, count: int, capacity: int) -> None:
    """Place the few whose lines are both full: move one of a line's entries to its other line, and so on."""
    holders = np.full(count * capacity, -1, np.int64)
    settled = np.flatnonzero(slots >= 0)
    holders[slots[settled]] = settled
    random = Random(0)

    def lines_of(entry: int) -> tuple[int, int]:
        value = int(hashes[entry])
        again = (value ^ value >> 15) * _AGAIN & 0xFFFFFFFF
        return value * count >> 32, again * count >> 32

    for entry in homeless.tolist():
        moving, line = entry, lines_of(entry)[0]
        for _ in range(_KICKS):
            begin = line * capacity
            free = next((slot for slot in range(begin, begin + capacity) if holders[slot] < 0), -1)
            slot = free if free >= 0 else begin + random.randrange(capacity)
            moved, holders[slot], slots[moving] = int(holders[slot]), moving, slot
            if moved < 0:
                break
            moving = moved
            one, other = lines_of(moved)
            line = other if line == one else one
        else:
            raise TooFull
