# SPDX-License-Identifier: GPL-2.0
"""Shadow rules in the store, apart from those that decide; older stores; sums that only rise."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import pytest

from xdpguard.control.change import Changes
from xdpguard.control.entries import Entries
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import XdpguardError
from xdpguard.metrics.shadows import ShadowTotals
from xdpguard.policy.hits import NO_SPLIT, Hits, Split
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix, parse_prefix
from xdpguard.store.database import Store

A, B = parse_prefix("198.51.100.7")[0], parse_prefix("198.51.100.0/24")[0]


class FakeTables:
    """Shadow rules as the kernel would hold them; ``refuses``: it has no room."""

    capacity = 64

    def __init__(self) -> None:
        self.rules: dict[Prefix, int] = {}
        self.counted: dict[int, Split] = {}
        self.refuses = False

    def add(self, rules: Iterable[Rule]) -> None:
        for rule in rules:
            if self.refuses:
                raise OSError(28, "No space left on device")
            self.rules[cast(Prefix, rule.target)] = rule.slot

    def remove(self, rules: Iterable[Rule], *_: object) -> None:
        for rule in rules:
            self.rules.pop(cast(Prefix, rule.target), None)

    def sync(self, rules: Iterable[Rule]) -> int:
        self.rules = {cast(Prefix, rule.target): rule.slot for rule in rules}
        return 0

    def held(self, rules: Iterable[Rule]) -> int:
        return sum(rule.target in self.rules for rule in rules)

    def clear_hits(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self.counted.pop(slot, None)

    def hits(self) -> Callable[[int], Split]:
        return lambda slot: self.counted.get(slot, NO_SPLIT)

    def generation(self) -> str:
        return "these"


class FakeDataplane:
    def __init__(self, attached: bool = True) -> None:
        self.attached = attached
        self.maps = FakeTables()

    def exists(self) -> bool:
        return self.attached

    def shadow_tables(self) -> Any:
        return nullcontext(self.maps)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "store.db") as made:
        yield made


def book(store: Store, dataplane: FakeDataplane, now: float = 1000.0) -> Entries:
    return Entries(Changes(store, dataplane.exists), dataplane.shadow_tables, "shadow", lambda: now)


def stored(store: Store) -> list[Rule]:
    return store.rules(mode="shadow")


def one(packets: int) -> Split:
    return Split(Hits(packets, 60 * packets), Hits(0, 0), Hits(2 * packets, 0))


def test_shadow_rules_are_not_rules(store: Store) -> None:
    its = FakeDataplane()
    done = book(store, its).add("block", [A, B], "why", "cli", 10.0)
    assert (done.added, done.updated, done.in_force) == (2, 0, True)
    assert store.rules() == []
    assert store.covering("block", A) == []
    assert not store.touches("block", A)
    assert [rule.target for rule in store.covering("block", A, mode="shadow")] == [A, B]
    assert [store.counts(now, "shadow")["block"] for now in (1009, 1010)] == [2, 0]
    assert book(store, its).add("block", [A], "again", "cli", None, replace=True).updated == 1
    assert {rule.reason for rule in stored(store)} == {"why", "again"}
    book(store, its, 1010).purge()
    assert [rule.target for rule in stored(store)] == [A]
    assert set(its.maps.rules) == {A}


def test_counts_are_taken_in_once_and_go_with_the_rule(store: Store) -> None:
    its = FakeDataplane()
    made = book(store, its)
    made.add("block", [A], "", "cli", None)
    its.maps.counted[0] = one(3)
    assert made.in_force()[0].split == one(3)
    made.hits.fold_in()
    made.hits.fold_in()
    its.attached = False
    assert made.in_force()[0].split == one(3)
    assert made.in_force()[0].packets == 9
    made.remove_rules(stored(store))
    assert stored(store) == []
    made.add("block", [A], "", "cli", None)
    assert made.in_force()[0].split == NO_SPLIT


def test_when_the_kernel_refuses_nothing_is_changed(store: Store) -> None:
    its = FakeDataplane()
    made = book(store, its)
    made.add("block", [A], "first", "cli", None)
    its.maps.refuses = True
    with pytest.raises(XdpguardError, match="did not accept"):
        made.add("block", [A, B], "second", "cli", None)
    assert [(rule.target, rule.reason) for rule in stored(store)] == [(A, "first")]
    assert set(its.maps.rules) == {A}
    assert not made.changes.pending()


def test_an_interrupted_change_is_rolled_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    its = FakeDataplane()
    made = book(store, its)
    made.add("block", [A], "", "cli", None)
    monkeypatch.setattr(made, "resync", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    monkeypatch.setattr(its.maps, "add", lambda rules: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        made.add("block", [B], "", "cli", None)
    again = book(store, its)
    assert again.changes.pending()
    its.maps.rules = {}
    assert again.changes.catch_up()
    assert set(its.maps.rules) == {A}
    assert not again.changes.pending()


def test_sums_only_rise(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    its = FakeDataplane()
    made = book(store, its, now=0.0)
    made.add("block", [A, B], "", "cli", None)
    totals = ShadowTotals()

    class FakeRuleset:
        def __init__(self, *_: object) -> None:
            self.shadow_rules, self.shadow_lists = made, self

        def in_force(self) -> list[Any]:
            return []

    monkeypatch.setattr("xdpguard.metrics.shadows.Ruleset", FakeRuleset)

    def read() -> Split:
        return totals.read(store, cast(Pins, None)).counted

    monkeypatch.setattr("xdpguard.metrics.shadows.KernelDataplane", lambda pins: its)
    its.maps.counted = {0: one(5), 1: one(1)}
    assert read() == one(6)
    its.maps.counted = {0: one(7)}
    assert read() == one(8), "what seems to have gone down stays"
    its.maps.counted = {0: one(7), 1: one(1)}
    assert read() == one(8), "and is not counted twice"
    made.remove_rules(stored(store))
    assert read() == one(8)
