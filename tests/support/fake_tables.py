# SPDX-License-Identifier: GPL-2.0
"""Rules in maps that a test can see into and break: no kernel, no root."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from xdpguard.control.change import Changes
from xdpguard.control.entries import Entries
from xdpguard.policy.hits import Hits
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Kind, Prefix, parse_prefix
from xdpguard.store.database import Store


class FakeTables:
    """Maps as a dictionary; ``broken`` makes the next addition fail half-way, as a kernel without memory would."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.there: dict[tuple[Kind, str], int] = {}
        self.ends: dict[tuple[Kind, str], float | None] = {}
        self.counts: dict[int, Hits] = {}
        self.broken = False

    def add(self, rules: Iterable[Rule]) -> None:
        for number, item in enumerate(rules):
            if self.broken and number == 1:
                self.broken = False
                raise OSError(12, "Cannot allocate memory")
            self.there[item.kind, str(item.target)] = item.slot
            self.ends[item.kind, str(item.target)] = item.expires

    def remove(
        self, rules: Iterable[Rule], still_touched: Callable[[Prefix], bool], remaining: Callable[[], Iterable[Rule]]
    ) -> None:
        del still_touched, remaining
        for item in rules:
            del self.there[item.kind, str(item.target)]

    def sync(self, rules: Iterable[Rule]) -> int:
        rules = list(rules)
        self.there = {(item.kind, str(item.target)): item.slot for item in rules}
        self.ends = {(item.kind, str(item.target)): item.expires for item in rules}
        return 0

    def held(self, rules: Iterable[Rule]) -> int:
        return sum(self.there.get((item.kind, str(item.target))) == item.slot for item in rules)

    def clear_hits(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self.counts.pop(slot, None)

    def seeded(self) -> bool:
        return True

    def generation(self) -> str:
        return "this boot:1"

    def hits(self) -> Callable[[int], Hits]:
        return lambda slot: self.counts.get(slot, Hits(0, 0))


def made(store: Store, tables: FakeTables | None, clock: Callable[[], float] = time.time) -> Entries:
    dataplane = FakeDataplane(tables)
    return Entries(Changes(store, dataplane.exists), dataplane.tables, now=clock)


class FakeDataplane:
    def __init__(self, tables: FakeTables | None) -> None:
        self._tables = tables

    def exists(self) -> bool:
        return self._tables is not None

    @contextmanager
    def tables(self) -> Iterator[FakeTables]:
        assert self._tables is not None
        yield self._tables


def prefixes(*texts: str) -> list[Prefix]:
    return [parse_prefix(text)[0] for text in texts]
