# SPDX-License-Identifier: GPL-2.0
"""The filters in the kernel: the set in force, and what each has matched (bpf/maps.h).

A new set is written beside the one in force and then replaces it, so that a packet meets the old filters or the new
ones. Slots of hit counters are more than filters, so that a new filter gets one that no old one counts in.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, indexes, kernel
from xdpguard.dataplane.sys.held import HeldMaps
from xdpguard.dataplane.sys.layouts.base import places
from xdpguard.dataplane.sys.layouts.filters import Filter, FilterHead
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import counters, settings
from xdpguard.dataplane.tables.filterentries import in_boottime
from xdpguard.dataplane.tables.limitparts import Part

__all__ = ["FilterTables", "in_boottime"]

_KEY = bytes(4)
_HEAD, _ENTRY = places(FilterHead), places(Filter)
_GENERATION = _HEAD["generation"]


class FilterTables(HeldMaps):
    """The maps of the filters, opened from their pins. Use as a context manager."""

    COUNTERS = "filter_hits"
    capacity = abi.FILTER_SLOTS

    def __init__(self, pins: Pins) -> None:
        sizes = {"settings": abi.SETTINGS.size, indexes.FILTER_SET: 4, self.COUNTERS: abi.FILTER_HITS.size}
        sizes["filter_buckets"] = 8
        super().__init__(pins, {name: (4, size) for name, size in sizes.items()})

    def replace(self, lower: bytes, upper: bytes) -> None:
        """Put a set in force: the halves of what `classifier.compiled` returns.

        Raise OSError, and change nothing, when the kernel has no room for it.
        """
        with opened(indexes.create_filters()) as descriptor:
            with kernel.mapped(descriptor) as block:
                block[: len(lower)] = lower
                block[abi.FILTER_HIGH : abi.FILTER_HIGH + len(upper)] = upper
            with indexes.held(self._maps[indexes.FILTER_SET]):
                kernel.update(self._maps[indexes.FILTER_SET], _KEY, descriptor.to_bytes(4, "little"))
        self._ask(1)

    def empty(self) -> None:
        """Take all filters out of force."""
        self._ask(0)
        with indexes.held(self._maps[indexes.FILTER_SET]):
            kernel.delete(self._maps[indexes.FILTER_SET], _KEY)

    def in_force(self) -> int:
        """Return the generation of the set in force; 0 when there is none, or the program is not told to ask it."""
        if not self._settings()[settings.FILTERS]:
            return 0
        descriptor = indexes.in_force(self._maps[indexes.FILTER_SET])
        if descriptor is None:
            return 0
        with opened(descriptor), kernel.mapped(descriptor) as block:
            return int(abi.FILTER_HEAD.unpack_from(block)[_GENERATION])

    def digest(self) -> int:
        """Return a checksum of the whole set in force; 0 when there is none."""
        descriptor = indexes.in_force(self._maps[indexes.FILTER_SET])
        if descriptor is None:
            return 0
        with opened(descriptor), kernel.mapped(descriptor) as block:
            return zlib.crc32(block)

    def parts(self) -> dict[int, Part]:
        """Return the part of the source buckets that each limit by source of the set in force has, by slot."""
        descriptor = indexes.in_force(self._maps[indexes.FILTER_SET])
        if descriptor is None:
            return {}
        found = {}
        with opened(descriptor), kernel.mapped(descriptor) as block:
            head = abi.FILTER_HEAD.unpack_from(block)
            for number in range(head[_HEAD["count"]]):
                entry = abi.FILTER.unpack_from(block, head[_HEAD["filters"]] + number * abi.FILTER.size)
                if entry[_ENTRY["per"]]:
                    found[entry[_ENTRY["slot"]]] = Part(entry[_ENTRY["sets_at"]], entry[_ENTRY["sets_mask"]] + 1)
        return found

    def clear_hits(self, slots: Iterable[int]) -> None:
        """Set hit counters and limits to zero, before their slots are given to new filters."""
        chosen = list(slots)
        with kernel.mapped(self._maps[self.COUNTERS]) as mapped:
            counters.clear(mapped, abi.FILTER_SLOTS, abi.FILTER_HITS.size, chosen)
        for slot in chosen:
            kernel.update(self._maps["filter_buckets"], slot.to_bytes(4, "little"), bytes(8))

    def hits(self) -> Callable[[int], tuple[int, int, int, int]]:
        """Take a snapshot of all hit counters; call it with a slot.

        Packets and bytes that the filter matched, and packets and bytes of them that were over its limit.
        """
        with kernel.mapped(self._maps[self.COUNTERS]) as mapped:
            words = counters.snapshot(mapped, abi.FILTER_SLOTS, abi.FILTER_HITS.size)

        def of(slot: int) -> tuple[int, int, int, int]:
            packets, octets, limited_packets, limited_bytes = words(slot)
            return packets, octets, limited_packets, limited_bytes

        return of

    def _ask(self, value: int) -> None:
        with settings.changing(self._maps["settings"]) as fields:
            fields[settings.FILTERS] = value
