# SPDX-License-Identifier: GPL-2.0
"""Rule tables that outlive the process that writes them, as the kernel's do: in memory shared with forked children."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from xdpguard.policy.hits import Hits, Split
from xdpguard.policy.rule import Mode, Rule
from xdpguard.policy.target import Prefix, Target, parse_prefix

TARGETS: list[Prefix] = [parse_prefix(f"10.0.0.{number}")[0] for number in range(12)]


class SharedTables:
    """The tables of one mode. Every entry and every counter is one byte: what is killed has written it or has not."""

    def __init__(self, mode: Mode, capacity: int = 64) -> None:
        self.capacity = capacity
        self.mode = mode
        self.on_write: Callable[[], None] = lambda: None
        self.refuses_after = -1  # so many writes the kernel takes, and no more; -1: any number
        self._slots = mmap.mmap(-1, mmap.PAGESIZE)  # by target: its slot and one, or 0
        self._counts = mmap.mmap(-1, mmap.PAGESIZE)  # by slot

    @contextmanager
    def opened(self) -> Iterator[SharedTables]:
        """As the real ones are opened."""
        yield self

    def entries(self) -> dict[Target, int]:
        """The slot of each entry."""
        return {target: self._slots[place] - 1 for place, target in enumerate(TARGETS) if self._slots[place]}

    def receive(self) -> list[Target]:
        """A packet from each target; returns those that an entry counted."""
        for slot in self.entries().values():
            self._counts[slot] = (self._counts[slot] + 1) % 256
        return list(self.entries())

    def add(self, rules: Iterable[Rule]) -> None:
        for rule in rules:
            self._write(rule.target, rule.slot + 1)

    def remove(self, rules: Iterable[Rule], *_: object) -> None:
        for rule in rules:
            self._write(rule.target, 0)

    def sync(self, rules: Iterable[Rule]) -> int:
        wanted = {rule.target: rule.slot for rule in rules}
        strays = {slot for target, slot in self.entries().items() if wanted.get(target) != slot}
        for target, slot in wanted.items():
            self._write(target, slot + 1)
        for target in self.entries().keys() - wanted.keys():
            self._write(target, 0)
        self.clear_hits(strays & set(wanted.values()))
        return 0

    def held(self, rules: Iterable[Rule]) -> int:
        there = self.entries()
        return sum(there.get(rule.target) == rule.slot for rule in rules)

    def clear_hits(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self.on_write()
            self._counts[slot] = 0

    def hits(self) -> Callable[[int], Hits | Split]:
        def of(slot: int) -> Hits | Split:
            found = Hits(self._counts[slot], 0)
            return Split(Hits(0, 0), Hits(0, 0), found) if self.mode == "shadow" else found

        return of

    def generation(self) -> str:
        return f"these {self.mode}"

    def seeded(self) -> bool:
        return True

    def _write(self, target: Target, value: int) -> None:
        if self.refuses_after == 0:
            raise OSError(12, "Cannot allocate memory")
        self.refuses_after -= self.refuses_after > 0
        self.on_write()
        assert isinstance(target, Prefix)
        self._slots[TARGETS.index(target)] = value
