# SPDX-License-Identifier: GPL-2.0
"""Filters in maps that a test can see into and break: no kernel, no root."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.fake_tables import FakeDataplane, FakeTables
from xdpguard.control.filters import Filters
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.filterentries import ClassifierFilter
from xdpguard.policy.filter import FilterHits, NewFilter
from xdpguard.policy.filters import FilterEntry, new_filter
from xdpguard.policy.rule import MODES, Mode
from xdpguard.store.database import Store


class FakeFilterTables:
    """The set in force as a list; ``broken``: the next one is refused, as by a kernel without memory."""

    def __init__(self) -> None:
        self.there: list[ClassifierFilter] = []
        self.counts: dict[int, FilterHits] = {}
        self.name = "maps 1"
        self.swaps = 0
        self.broken = False
        self._generation = 0

    def put(self, filters: Sequence[ClassifierFilter], generation: int) -> None:
        if self.broken:
            self.broken = False
            raise OSError(12, "Cannot allocate memory")
        self.there, self._generation = list(filters), generation
        self.swaps += 1

    def in_force(self) -> int:
        return self._generation

    def digest(self) -> int:
        return hash(tuple(self.there))

    def generation(self) -> str:
        return self.name

    def clear_hits(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self.counts.pop(slot, None)

    def hits(self) -> Callable[[int], FilterHits]:
        def of(slot: int) -> FilterHits:
            assert slot >= 0
            return self.counts.get(slot, FilterHits())

        return of

    def matches(self) -> list[Any]:
        """The tests of the filters in force, in order."""
        return [it.match for it in self.there]


class FakeMaps:
    """Tables of rules and filters in memory, and no lists in the kernel."""

    def __init__(self) -> None:
        self._of: dict[Mode, Any] = {mode: FakeDataplane(FakeTables(64)) for mode in MODES}
        self.filters = FakeFilterTables()
        self.pins = Pins(Path("/nonexistent"), "none")
        self.there = True

    def exists(self) -> bool:
        return self.there

    def tables(self) -> Any:
        return self._of["enforce"].tables()

    def shadow_tables(self) -> Any:
        return self._of["shadow"].tables()

    @contextmanager
    def opened(self) -> Iterator[FakeFilterTables]:
        yield self.filters


def made(store: Store, maps: FakeMaps, step: Callable[[str], None] = lambda step: None) -> Ruleset:
    """A ruleset of which the kernel holds rules and filters."""
    found = Ruleset(store, maps, step)
    for image in (found.lists, found.shadow_lists, found.guard, found.default, found.filters):
        found.changes._images.remove(image)
    found.filters = Filters(found.changes, maps.opened)
    for lists in (found.lists, found.shadow_lists):
        lists.on_change = found.filters.follow_lists
    return found


def new(
    name: str, match: str = "udp sport 53", action: str = "drop", life: float | None = None, **more: Any
) -> NewFilter:
    """A filter as a command makes it; a limit is given by its rate."""
    now = time.time()
    source = more.pop("source", "cli")
    if more.get("limit"):
        action = ""
    return new_filter(FilterEntry(name, match, action, **more), source, now, None if life is None else now + life)
