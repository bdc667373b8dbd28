# SPDX-License-Identifier: GPL-2.0
"""The named lists in the kernel: the index in force, its pre-filters, the hit counters (bpf/maps.h).

A new index is written beside the one in force and then replaces it. Both share the pre-filters: bits that the new one
needs are set before, bits that it no longer needs are cleared after, so that no entry is missing at any moment.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, indexes, kernel
from xdpguard.dataplane.sys.held import HeldMaps
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import settings
from xdpguard.dataplane.tables.listnets import reached4, reached6
from xdpguard.lists.addresses import AddressSet
from xdpguard.policy.hits import Hits, Split

_U64 = NDArray[np.uint64]
_KEY = bytes(4)
_WORDS = abi.LINE.size // 8


class ListMaps(HeldMaps):
    """The maps of the lists, opened from their pins. Use as a context manager."""

    INDEX, NETS4, NETS6 = indexes.LIST_INDEX, "list_nets4", "list_nets6"
    COUNTERS, COUNTERS_SIZE = "list_hits", abi.HITS.size
    FLAGS = (settings.LISTS4, settings.LISTS6, settings.LISTS6_WIDE)
    GATE = settings.DENY
    RENEW = staticmethod(settings.renew)  # tells the program that they have changed

    def __init__(self, pins: Pins) -> None:
        sizes = {"settings": abi.SETTINGS.size, self.INDEX: 4, self.NETS4: abi.NETS4.size, self.NETS6: abi.LINE.size}
        sizes[self.COUNTERS] = self.COUNTERS_SIZE
        super().__init__(pins, {name: (4, size) for name, size in sizes.items()})

    def swap(self, lines: _U64, nets4: _U64 | None, nets6: _U64 | None, wide6: bool) -> None:
        """Put an index in force: lines of eight words, pre-filters as words, None for a family without entries.

        Raise OSError, and change nothing, when the kernel has no room for it.
        """
        with opened(indexes.create(len(lines))) as descriptor:
            _words_of(descriptor)[:] = lines.reshape(-1)
            self._add(self.NETS4, nets4)
            self._add(self.NETS6, nets6)
            self._flags(lambda old, new: old | new, nets4 is not None, nets6 is not None, wide6)
            with indexes.held(self._maps[self.INDEX]):
                kernel.update(self._maps[self.INDEX], _KEY, descriptor.to_bytes(4, "little"))
            # At once: a process killed here must not leave results of the old index cached per source.
            self.RENEW(self._maps["settings"])
        self._flags(lambda old, new: new, nets4 is not None, nets6 is not None, wide6)
        self._write(self.NETS4, nets4)
        self._write(self.NETS6, nets6)
        self.RENEW(self._maps["settings"])

    def empty(self) -> None:
        """Take all lists out of force."""
        self._flags(lambda old, new: new, False, False, False)
        with indexes.held(self._maps[self.INDEX]):
            kernel.delete(self._maps[self.INDEX], _KEY)
        self._write(self.NETS4, None)
        self._write(self.NETS6, None)
        self.RENEW(self._maps["settings"])

    def lines(self) -> _U64 | None:
        """Return a copy of the index in force; None when there is none."""
        descriptor = indexes.in_force(self._maps[self.INDEX])
        if descriptor is None:
            return None
        try:
            return _words_of(descriptor).copy().reshape(-1, _WORDS)
        finally:
            os.close(descriptor)

    def digest(self) -> int:
        """Return a checksum of the pre-filters and of the settings that enable them, to detect changes."""
        fields = self._settings()
        flags = [int(bool(fields[flag])) for flag in self.FLAGS]
        # The program asks for no entry at all while its gate is shut.
        shut = int(any(flags) and not fields[self.GATE])
        total = sum(bit << place for place, bit in enumerate([*flags, shut]))
        for name in (self.NETS4, self.NETS6):
            total = total << 32 | zlib.crc32(self._words(name).data)
        return total

    def reached(self, entries: AddressSet) -> int:
        """Count the entries of a list that the pre-filters let the program look up."""
        fields = self._settings()
        four, six, wide = (bool(fields[flag] and fields[self.GATE]) for flag in self.FLAGS)
        found = 0
        if four:
            found += reached4(self._words(self.NETS4), entries.network4, entries.length4)
        if six and wide:
            found += len(entries.high6)
        elif six:
            found += reached6(self._words(self.NETS6), entries.high6, entries.length6)
        return found

    def clear_hits(self, numbers: Iterable[int]) -> None:
        """Set hit counters to zero, before their numbers are given to new lists."""
        rows = self._words(self.COUNTERS).reshape(-1, abi.LISTS, 2)
        for number in numbers:
            rows[:, number] = 0

    def hits(self) -> Callable[[int], Hits]:
        """Take a snapshot of all hit counters; call it with the number of a list."""
        sums = self._words(self.COUNTERS).reshape(-1, abi.LISTS, 2).sum(axis=0)
        return lambda number: Hits(int(sums[number, 0]), int(sums[number, 1]))

    def counts(self) -> Callable[[int], Hits | Split]:
        """Take a snapshot of all counters in the form this mode has; call it with the number of a list."""
        return self.hits()

    def _add(self, name: str, wanted: _U64 | None) -> None:
        if wanted is not None:
            words = self._words(name)
            np.bitwise_or(words, wanted, out=words)

    def _write(self, name: str, wanted: _U64 | None) -> None:
        words = self._words(name)
        if wanted is not None:
            words[:] = wanted
        elif words.any():
            words[:] = 0

    def _flags(self, merge: Callable[[int, int], int], *values: bool) -> None:
        with settings.changing(self._maps["settings"]) as fields:
            for place, value in zip(self.FLAGS, values, strict=True):
                fields[place] = merge(fields[place], int(value))

    def _words(self, name: str) -> _U64:
        return _words_of(self._maps[name])


def _words_of(descriptor: int) -> _U64:
    """Map an array map as words. The mapping ends with the last reference to it."""
    return np.frombuffer(kernel.mapped(descriptor), np.uint64)
