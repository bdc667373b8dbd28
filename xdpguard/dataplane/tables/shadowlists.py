# SPDX-License-Identifier: GPL-2.0
"""The shadow lists in the kernel: an index and pre-filters of their own, built like those of the enforced lists."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xdpguard.dataplane.sys import abi, indexes
from xdpguard.dataplane.tables import settings
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.policy.hits import Hits, Split

_PLACES = abi.SHADOW_RULES + abi.LISTS
_WORDS = abi.SHADOW_HITS.size // 8


class ShadowListMaps(ListMaps):
    """The maps of the shadow lists, opened from their pins. Use as a context manager."""

    INDEX, NETS4, NETS6 = indexes.SHADOW_INDEX, "shadow_nets4", "shadow_nets6"
    COUNTERS, COUNTERS_SIZE = "shadow_hits", abi.SHADOW_HITS.size
    FLAGS = (settings.SHADOW_LISTS4, settings.SHADOW_LISTS6, settings.SHADOW_LISTS6_WIDE)
    GATE = settings.SHADOW
    RENEW = staticmethod(settings.renew_shadow)

    def clear_hits(self, numbers: Iterable[int]) -> None:
        """Set hit counters to zero, before their numbers are given to new lists."""
        rows = self._words(self.COUNTERS).reshape(-1, _PLACES, _WORDS)
        for number in numbers:
            rows[:, abi.SHADOW_RULES + number] = 0

    def splits(self) -> Callable[[int], Split]:
        """Take a snapshot of all hit counters, by class; call it with the number of a list."""
        rows = self._words(self.COUNTERS).reshape(-1, _PLACES, _WORDS)
        sums = rows[:, abi.SHADOW_RULES :].sum(axis=0).tolist()

        def of(number: int) -> Split:
            its = sums[number]
            return Split(Hits(*its[0:2]), Hits(*its[2:4]), Hits(*its[4:6]))

        return of

    def hits(self) -> Callable[[int], Hits]:
        """Take a snapshot of all hit counters, all classes together; call it with the number of a list."""
        splits = self.splits()
        return lambda number: splits(number).total

    def counts(self) -> Callable[[int], Hits | Split]:
        """Take a snapshot of all counters in the form this mode has, by class; call it with the number of a list."""
        return self.splits()
