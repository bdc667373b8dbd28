# SPDX-License-Identifier: GPL-2.0
"""The named lists in the kernel: the index in force, its pre-filters, the hit counters (bpf/maps.h).

A new index is written beside the one in force and then takes its place. The pre-filters are one for both: what the new
one needs is set before, what it no longer needs is cleared after, so that at no moment an entry is missing.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane import abi, kernel, settings
from xdpguard.dataplane.pins import Pins
from xdpguard.dataplane.tables import Hits

_U64 = NDArray[np.uint64]
_KEY = bytes(4)
_WORDS = abi.LINE.size // 8
_FLAGS = kernel.MAP_MMAPABLE | kernel.MAP_INNER


class ListMaps:
    """The maps of the lists, opened from their pins. Use as a context manager."""

    INDEX, NETS4, NETS6 = "list_index", "list_nets4", "list_nets6"
    HITS, HITS_SIZE = "list_hits", abi.HITS.size
    FLAGS = (settings.LISTS4, settings.LISTS6, settings.LISTS6_WIDE)
    RENEW = staticmethod(settings.renew)  # what is to be told when they have changed

    def __init__(self, pins: Pins) -> None:
        self._maps: dict[str, int] = {}
        try:
            self._maps["settings"] = pins.open("settings", 4, abi.SETTINGS.size)
            self._maps[self.INDEX] = pins.open(self.INDEX, 4, 4)
            self._maps[self.NETS4] = pins.open(self.NETS4, 4, abi.NETS4.size)
            self._maps[self.NETS6] = pins.open(self.NETS6, 4, abi.LINE.size)
            self._maps[self.HITS] = pins.open(self.HITS, 4, self.HITS_SIZE)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the maps; they stay."""
        for descriptor in self._maps.values():
            os.close(descriptor)
        self._maps.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def generation(self) -> str:
        """Names these maps among all that ever were: another name means that counters began anew."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{kernel.map_info(self._maps[self.HITS]).id}"

    def swap(self, lines: _U64, nets4: _U64 | None, nets6: _U64 | None, wide6: bool) -> None:
        """Puts an index in force: lines of eight words, pre-filters as words, None for a family without entries.

        OSError, and nothing changed, when the kernel has no room for it.
        """
        descriptor = kernel.create_map(kernel.MAP_ARRAY, 4, abi.LINE.size, len(lines), _FLAGS, "list_index")
        try:
            _mapped(descriptor, len(lines) * _WORDS)[:] = lines.reshape(-1)
            self._add(self.NETS4, nets4)
            self._add(self.NETS6, nets6)
            self._flags(lambda old, new: old | new, nets4 is not None, nets6 is not None, wide6)
            kernel.update(self._maps[self.INDEX], _KEY, descriptor.to_bytes(4, "little"))
            # At once, so that nobody who is killed here leaves sources remembered by the old index.
            self.RENEW(self._maps["settings"])
        finally:
            os.close(descriptor)
        self._flags(lambda old, new: new, nets4 is not None, nets6 is not None, wide6)
        self._write(self.NETS4, nets4)
        self._write(self.NETS6, nets6)
        self.RENEW(self._maps["settings"])

    def empty(self) -> None:
        """Takes all lists out of force."""
        self._flags(lambda old, new: new, False, False, False)
        kernel.delete(self._maps[self.INDEX], _KEY)
        self._write(self.NETS4, None)
        self._write(self.NETS6, None)
        self.RENEW(self._maps["settings"])

    def lines(self) -> _U64 | None:
        """A copy of the index in force; None when there is none."""
        while True:
            raw = kernel.lookup(self._maps[self.INDEX], _KEY, 4)
            if raw is None:
                return None
            try:
                descriptor = kernel.map_by_id(int.from_bytes(raw, "little"))
            except FileNotFoundError:
                continue  # swapped for another one just then
            try:
                count = kernel.map_info(descriptor).max_entries
                return _mapped(descriptor, count * _WORDS).copy().reshape(count, _WORDS)
            finally:
                os.close(descriptor)

    def digest(self) -> int:
        """A sum over the pre-filters and the flags that lead to them: to notice that they have changed."""
        raw = kernel.lookup(self._maps["settings"], _KEY, abi.SETTINGS.size) or b""
        fields = abi.SETTINGS.unpack(raw)
        total = sum(int(fields[flag]) << place for place, flag in enumerate(self.FLAGS))
        for name in (self.NETS4, self.NETS6):
            total += int(self._words(name).sum(dtype=np.uint64))
        return total

    def clear_hits(self, numbers: Iterable[int]) -> None:
        """Sets counters to zero, before a number is given to a new list."""
        rows = self._words("list_hits").reshape(-1, abi.LISTS, 2)
        for number in numbers:
            rows[:, number] = 0

    def hits(self) -> Callable[[int], Hits]:
        """A snapshot of all hit counters; call it with the number of a list."""
        sums = self._words("list_hits").reshape(-1, abi.LISTS, 2).sum(axis=0)
        return lambda number: Hits(int(sums[number, 0]), int(sums[number, 1]))

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
        def change(fields: list[int]) -> None:
            for place, value in zip(self.FLAGS, values, strict=True):
                fields[place] = merge(fields[place], int(value))

        settings.change(self._maps["settings"], change)

    def _words(self, name: str) -> _U64:
        info = kernel.map_info(self._maps[name])
        return _mapped(self._maps[name], info.max_entries * info.value_size // 8)


def _mapped(descriptor: int, count: int) -> _U64:
    """An array map as words. The mapping goes with the last reference to it."""
    size = -(-count * 8 // mmap.PAGESIZE) * mmap.PAGESIZE
    return np.frombuffer(mmap.mmap(descriptor, size), np.uint64, count)
