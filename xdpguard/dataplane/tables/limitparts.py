# SPDX-License-Identifier: GPL-2.0
"""Which part of the table of source buckets each limit by source has (bpf/stages/rates.h).

A limit that stays keeps its part, as a source's bucket is found from where the part begins. Room is left for limits to
come; once there is none, the limit with the largest part gives up its upper half, and only its sources of that half
begin again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from xdpguard.dataplane.sys import abi

_LEAST = abi.FILTER_SETS // 16  # sets of a part that is not divided while there is room elsewhere


class Part(NamedTuple):
    """Sets of buckets: the first one, and how many. Sizes are powers of two, and divide the first one."""

    at: int
    size: int

    def halves(self) -> tuple[Part, Part]:
        """Return the lower and the upper half."""
        half = self.size // 2
        return Part(self.at, half), Part(self.at + half, half)


def assigned(slots: Iterable[int], held: Mapping[int, Part]) -> dict[int, Part]:
    """Return the part of each limit, by the slot of its filter. ``held``: those in force before."""
    asked = list(slots)
    found = {slot: held[slot] for slot in asked if slot in held}
    free = list(_free(Part(0, abi.FILTER_SETS), sorted(found.values())))
    for slot in asked:
        if slot in found:
            continue
        if not free:
            largest = max(found, key=lambda it: found[it].size)
            found[largest], upper = found[largest].halves()
            free.append(upper)
        part = max(free, key=lambda it: it.size)
        free.remove(part)
        if part.size > _LEAST:
            part, rest = part.halves()
            free.append(rest)
        found[slot] = part
    return found


def _free(whole: Part, used: list[Part]) -> Iterable[Part]:
    """Return the largest parts of the whole that no used one, all of them in it, takes any of."""
    if not used:
        yield whole
    elif used[0].size < whole.size:
        for half in whole.halves():
            yield from _free(half, [it for it in used if half.at <= it.at < half.at + half.size])
