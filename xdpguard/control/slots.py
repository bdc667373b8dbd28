# SPDX-License-Identifier: GPL-2.0
"""Assign hit counters to rules, so that no rule shows the hits of another."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain, islice
from typing import NamedTuple

from xdpguard.dataplane.sys.abi import SHADOW_RULES
from xdpguard.errors import XdpguardError
from xdpguard.policy.rule import Mode, NewRule
from xdpguard.policy.target import Target
from xdpguard.units import counted


class Room(NamedTuple):
    """The slots of a mode: the highest in use, which are in use, and those that this change has released.

    ``tables``: how many slots the tables in the kernel have; None while there are no tables.
    """

    mode: Mode
    highest: int
    used: Callable[[], Collection[int]]
    released: Collection[int]
    tables: int | None

    @property
    def capacity(self) -> int | None:
        """How many slots there are; None: no limit."""
        return SHADOW_RULES if self.tables is None and self.mode == "shadow" else self.tables

    def left(self, enough: int) -> float:
        """Return how many slots are free, infinity for no limit: at least, if that is enough, or else exactly."""
        if self.capacity is None:
            return math.inf
        behind = self.capacity - 1 - self.highest
        return behind if behind >= enough else max(0, self.capacity - len(self.used()))


def place(rules: Sequence[NewRule], own: Mapping[Target, int], room: Room) -> list[tuple[NewRule, int]]:
    """Assign each rule a slot: an existing rule keeps its own. Raise XdpguardError if there are too few.

    Slots that this change has released are used last: if it fails, they belong to their old rules again.
    """
    slots = iter(free(room, sum(1 for rule in rules if rule.target not in own)))
    return [(rule, own[rule.target] if rule.target in own else next(slots)) for rule in rules]


def free(room: Room, needed: int) -> list[int]:
    """Return slots for new rules, last those that this change released. Raise XdpguardError if there are too few."""
    first, capacity = max([room.highest, *room.released]) + 1, room.capacity
    if capacity is None or first + needed <= capacity:
        return list(range(first, first + needed))
    # Which are in use is read only where there is too little left behind them all.
    used = room.used()
    if len(used) + needed > capacity:
        raise _full(room.mode, capacity, len(used), needed)
    released = sorted(set(room.released) - set(used))
    taken = {*used, *released}
    fresh = (slot for slot in range(capacity) if slot not in taken)
    return list(islice(chain(fresh, released), needed))


def _full(mode: Mode, capacity: int, used: int, needed: int) -> XdpguardError:
    more = counted(needed, "more does", "more do")
    if mode == "shadow":
        return XdpguardError(
            f"there is room for {capacity:,} shadow rules, {used:,} exist, and {more} not fit",
            "nothing was changed; load that many as a list: xdpguard lists load NAME - --shadow",
        )
    return XdpguardError(
        f"the rule tables hold {counted(capacity, 'rule')}, {counted(used, 'is', 'are')} used, and {more} not fit",
        "nothing was changed; load that many as a list (xdpguard lists load NAME -), or make the tables larger: "
        "detach --all, add them, attach again (limits.rules in the configuration, if set, still applies)",
    )
