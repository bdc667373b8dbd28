# SPDX-License-Identifier: GPL-2.0
"""The shadow lists in the kernel: an index and pre-filters like those of the lists that drop, beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import settings
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.policy.hits import Hits, Split

_PLACES = abi.SHADOW_RULES + abi.LISTS
_WORDS = abi.SHADOW_HITS.size // 8


class ShadowListMaps(ListMaps):
    """The maps of the shadow lists, opened from their pins. Use as a context manager."""

    INDEX, NETS4, NETS6 = "shadow_index", "shadow_nets4", "shadow_nets6"
    COUNTERS, COUNTERS_SIZE = "shadow_hits", abi.SHADOW_HITS.size
    FLAGS = (settings.SHADOW_LISTS4, settings.SHADOW_LISTS6, settings.SHADOW_LISTS6_WIDE)
    RENEW = staticmethod(settings.renew_shadow)

    def clear_hits(self, numbers: Iterable[int]) -> None:
        """Sets counters to zero, before a number is given to a new list."""
        rows = self._words(self.COUNTERS).reshape(-1, _PLACES, _WORDS)
        for number in numbers:
            rows[:, abi.SHADOW_RULES + number] = 0

    def splits(self) -> Callable[[int], Split]:
        """A snapshot of all hit counters; call it with the number of a list."""
        rows = self._words(self.COUNTERS).reshape(-1, _PLACES, _WORDS)
        sums = rows[:, abi.SHADOW_RULES :].sum(axis=0).tolist()

        def of(number: int) -> Split:
            its = sums[number]
            return Split(Hits(*its[0:2]), Hits(*its[2:4]), Hits(*its[4:6]))

        return of

    def hits(self) -> Callable[[int], Hits]:
        """Likewise, all classes together."""
        splits = self.splits()
        return lambda number: splits(number).total

    def counts(self) -> Callable[[int], Hits | Split]:
        """Likewise, by class."""
        return self.splits()
