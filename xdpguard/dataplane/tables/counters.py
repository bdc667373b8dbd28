# SPDX-License-Identifier: GPL-2.0
"""Hit counters in a mapped array: a row for each CPU, a slot in it for each rule, 64-bit words in a slot."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable


def clear(mapped: mmap.mmap, capacity: int, size: int, slots: Iterable[int]) -> None:
    """Set slots to zero. ``capacity``: slots in a row; ``size`` of one in bytes."""
    chosen = list(slots)
    if len(chosen) == capacity:
        mapped[:] = bytes(len(mapped))
        return
    for row in range(0, len(mapped), capacity * size):
        for slot in chosen:
            start = row + slot * size
            mapped[start : start + size] = bytes(size)


def snapshot(mapped: mmap.mmap, capacity: int, size: int) -> Callable[[int], list[int]]:
    """Copy all counters; call it with a slot for its words, added up over the CPUs.

    Those of a slot beyond the end, which was assigned with other maps, are zero.
    """
    numbers, words = memoryview(mapped[:]).cast("Q"), size // 8
    rows = range(0, len(numbers), capacity * words)

    def of(slot: int) -> list[int]:
        starts = [row + slot * words for row in rows] if slot < capacity else []
        return [sum(numbers[start + word] for start in starts) for word in range(words)]

    return of
