# SPDX-License-Identifier: GPL-2.0
"""Rules in store and maps, with maps that a test can see into and break: no kernel, no root."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.fake_tables import FakeTables, made, prefixes

from xdpguard.control.entries import Entries
from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import Hits
from xdpguard.policy.origins import later
from xdpguard.policy.rule import CONFIG, SAFETY, NewRule
from xdpguard.policy.target import Kind, Port, Prefix, parse_prefix
from xdpguard.store.database import Store


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as made:
        yield made


def shown(book: Entries) -> list[str]:
    return [str(item.rule.target) for item in book.in_force()]


def test_added_rules_are_in_store_and_maps(store: Store) -> None:
    tables = FakeTables(8)
    book = made(store, tables)
    assert book.add("block", prefixes("10.0.0.1", "10.0.0.0/8"), "why", "cli", None).added == 2
    assert set(tables.there) == {("block", "10.0.0.1"), ("block", "10.0.0.0/8")}
    assert shown(book) == ["10.0.0.1", "10.0.0.0/8"]


def test_what_is_replaced_keeps_its_slot_hits_and_age(store: Store) -> None:
    tables, clock = FakeTables(8), Clock()
    book = made(store, tables, clock)
    book.add("block", prefixes("10.0.0.1"), "first", "cli", None)
    tables.counts[0] = Hits(5, 300)
    clock.now += 60
    done = book.add("block", prefixes("10.0.0.1", "10.0.0.2"), "second", "cli", 30, replace=True)
    assert (done.added, done.updated, done.in_force) == (1, 1, True)
    first = book.in_force()[0]
    assert (first.rule.reason, first.rule.created, first.rule.slot) == ("second", 1_000_000.0, 0)
    assert (first.rule.expires, first.packets, first.bytes) == (clock.now + 30, 5, 300)


def test_a_full_table_takes_nothing_of_what_does_not_fit(store: Store) -> None:
    tables = FakeTables(3)
    book = made(store, tables)
    book.add("block", prefixes("10.0.0.1", "10.0.0.2"), "", "cli", None)
    before = dict(tables.there)
    with pytest.raises(XdpguardError, match="do not fit"):
        book.add("block", prefixes("10.0.0.3", "10.0.0.4"), "", "cli", None)
    assert tables.there == before
    assert shown(book) == ["10.0.0.1", "10.0.0.2"]
    book.add("allow", prefixes("10.0.0.3"), "", "cli", None)


def test_when_the_kernel_refuses_everything_is_as_before(store: Store) -> None:
    tables = FakeTables(100)
    book = made(store, tables)
    book.add("block", prefixes("10.0.0.1"), "old", "cli", None)
    before = dict(tables.there)
    tables.broken = True
    with pytest.raises(XdpguardError, match="Cannot allocate memory"):
        book.add("block", prefixes("10.0.0.9", "10.0.0.1", "10.0.0.8"), "new", "cli", 60)
    assert tables.there == before
    (only,) = book.in_force()
    assert (str(only.rule.target), only.rule.reason, only.rule.expires) == ("10.0.0.1", "old", None)


def test_removing_is_all_or_nothing(store: Store) -> None:
    tables = FakeTables(8)
    book = made(store, tables)
    book.add("block", prefixes("10.0.0.1", "10.0.0.0/8"), "", "cli", None)
    with pytest.raises(XdpguardError, match=r"192\.0\.2\.1 is not blocked"):
        book.remove("block", prefixes("10.0.0.1", "192.0.2.1"))
    with pytest.raises(XdpguardError) as refused:
        book.remove("block", prefixes("10.0.0.2"))
    assert "inside 10.0.0.0/8" in refused.value.remedy
    assert len(tables.there) == 2
    assert book.remove("block", prefixes("10.0.0.1", "10.0.0.1")) == ({}, [])
    assert set(tables.there) == {("block", "10.0.0.0/8")}


def test_expired_rules_are_not_shown_and_purged(store: Store) -> None:
    tables, clock = FakeTables(8), Clock()
    book = made(store, tables, clock)
    book.add("block", prefixes("10.0.0.1"), "", "cli", 10)
    clock.now += 10
    assert shown(book) == []
    assert len(tables.there) == 1
    book.purge()
    assert tables.there == {}
    assert store.rules() == []


def test_a_slot_given_anew_starts_at_zero(store: Store) -> None:
    tables = FakeTables(8)
    book = made(store, tables)
    book.add("block", prefixes("10.0.0.1"), "", "cli", None)
    tables.counts[0] = Hits(5, 300)
    book.remove("block", prefixes("10.0.0.1"))
    book.add("block", prefixes("10.0.0.2"), "", "cli", None)
    assert book.in_force()[0].packets == 0


def test_an_unfinished_change_is_made_up_for(store: Store) -> None:
    tables = FakeTables(8)
    book = made(store, tables)
    book.add("block", prefixes("10.0.0.1"), "", "cli", None)
    with store.transaction():
        store.put_fact("pending", "1")
    tables.there.clear()
    book.add("block", prefixes("10.0.0.2"), "", "cli", None)
    assert len(tables.there) == 2
    assert store.fact("pending") == ""


def test_rules_of_one_origin_are_replaced_and_others_left(store: Store) -> None:
    tables = FakeTables(8)
    book = made(store, tables)
    book.add("block", prefixes("10.0.0.1"), "", "cli", None)
    wanted = [
        NewRule("block", parse_prefix(text)[0], "", "config", 0.0, None)
        for text in ("10.0.0.1", "10.0.0.2", "10.0.0.3")
    ]
    book.replace_source("config", [*wanted, NewRule("port", Port(80, "tcp"), "", "config", 0.0, None)])
    assert {(str(r.target), r.source) for r in store.rules()} == {
        ("10.0.0.1", "cli"), ("10.0.0.2", "config"), ("10.0.0.3", "config"), ("80/tcp", "config"),
    }  # fmt: skip
    book.replace_source("config", wanted[1:2])
    assert {(str(r.target), r.source) for r in store.rules()} == {("10.0.0.1", "cli"), ("10.0.0.2", "config")}
    assert len(tables.there) == 2


X, Y = parse_prefix("10.0.0.1")[0], parse_prefix("10.0.0.2")[0]
NAMED = [NewRule("block", X, "", CONFIG, 0.0, None)]


def parts(store: Store, target: Prefix = X) -> list[tuple[str, str, float | None]]:
    return [(*part,) for part in store.find("block", [target])[target].parts]


def test_a_later_block_neither_shortens_nor_renames_an_earlier_one(store: Store) -> None:
    clock = Clock()
    book = made(store, FakeTables(8), clock)
    book.add("block", [X], "first", "cli", 100)
    for life, end in ((3, 100), (None, None), (100, None)):
        (put,) = book.add("block", [X], "later", "cli", life).puts
        assert put.before is not None
        assert (put.now.reason, put.now.expires) == ("first", None if end is None else clock.now + end)
        assert put.changed == (life is None)
    assert book.add("block", [X], "later", "cli", 3, replace=True).updated == 1
    assert parts(store) == [("cli", "later", clock.now + 3)]


def test_what_has_ended_has_no_say(store: Store) -> None:
    clock = Clock()
    book = made(store, FakeTables(8), clock)
    book.add("block", [X], "first", "cli", 3)
    clock.now += 3
    (put,) = book.add("block", [X], "second", "guard", 1).puts
    assert (put.before, put.now.reason, put.now.others) == (None, "second", ())


def test_each_origin_keeps_its_part(store: Store) -> None:
    """A short block that the configuration finds in its place, and the other way round."""
    tables, clock = FakeTables(8), Clock()
    book = made(store, tables, clock)
    book.add("block", [X], "short", "cli", 3)
    tables.counts[0] = Hits(5, 300)
    book.replace_source(CONFIG, NAMED)
    assert parts(store) == [(CONFIG, "", None), ("cli", "short", clock.now + 3)]
    clock.now += 3
    book.purge()
    assert parts(store) == [(CONFIG, "", None)]
    assert book.in_force()[0].packets == 5, "the same rule all along"
    book.add("block", [X], "long", "cli", 9)
    book.replace_source(CONFIG, [])
    assert parts(store) == [("cli", "long", clock.now + 9)]
    assert tables.ends["block", str(X)] == clock.now + 9
    book.replace_source(CONFIG, NAMED)
    assert tables.ends["block", str(X)] is None
    assert [rule.target for rule in book.remove("block", [X]).kept] == [X]
    assert parts(store) == [(CONFIG, "", None)]
    with pytest.raises(XdpguardError, match="is blocked by the configuration file"):
        book.remove("block", [X])
    book.replace_source(CONFIG, [])
    assert (store.rules(), tables.there) == ([], {})


def test_replacing_leaves_the_configuration_alone(store: Store) -> None:
    clock = Clock()
    book = made(store, FakeTables(8), clock)
    book.add("block", [X], "scan", "guard", 600)
    book.replace_source(CONFIG, NAMED)
    book.add("block", [X], "", "cli", 3, replace=True)
    assert parts(store) == [(CONFIG, "", None), ("cli", "", clock.now + 3)]


def test_a_safety_rule_comes_last_and_takes_nothing_with_it(store: Store) -> None:
    book = made(store, FakeTables(8))
    for reason in ("first", "second"):
        book.add_rules([NewRule("allow", X, reason, SAFETY, 0.0, None)], replace=True)
        book.add("allow", [X], "mine", "cli", None)
        (allowed,) = store.rules("allow")
        assert allowed.origins == ["cli", SAFETY]
        assert allowed.part(SAFETY) == (SAFETY, reason, None)
    book.replace_source(SAFETY, [])
    assert store.rules("allow")[0].origins == ["cli"]


def test_removing_what_ended_by_itself_is_no_error(store: Store) -> None:
    clock = Clock()
    book = made(store, FakeTables(8), clock)
    book.add("block", [X, Y], "", "cli", 3)
    clock.now += 5
    book.purge()
    assert book.remove("block", [X]).ended == {X: clock.now - 2}
    book.add("block", [X], "", "cli", 3)
    book.remove("block", [X, Y])
    with pytest.raises(XdpguardError, match="is not blocked"):
        book.remove("block", [X])


def test_maps_that_another_store_filled(store: Store) -> None:
    """A lost store: the maps still hold its rules and hits, which are not this one's."""
    tables = FakeTables(8)
    tables.there["block", "192.0.2.1"] = 0
    tables.counts[0] = Hits(7, 700)
    book = made(store, tables)
    book.add("block", prefixes("10.0.0.1"), "", "cli", None)
    assert tables.there == {("block", "10.0.0.1"): 0}
    assert book.in_force()[0].packets == 0


def test_hits_are_taken_in_once(store: Store) -> None:
    tables = FakeTables(8)
    book = made(store, tables)
    book.add("block", prefixes("10.0.0.1"), "", "cli", None)
    tables.counts[0] = Hits(5, 300)
    for _ in range(2):
        book.hits.fold_in()
        assert book.in_force()[0].packets == 5
    book.resync()
    assert book.in_force()[0].packets == 5
    tables.counts[0] = Hits(2, 100)
    assert book.in_force()[0].packets == 7


ADDRESSES = st.lists(
    st.sampled_from(prefixes(*(f"10.0.0.{n}" for n in range(12)))), min_size=1, max_size=5, unique=True
)
KINDS: st.SearchStrategy[Kind] = st.sampled_from(["allow", "block"])


SOURCES = st.sampled_from(["cli", "guard"])


class Model(RuleBasedStateMachine):
    """Whatever is added, removed, configured and left to expire: store, maps and a plain dictionary agree."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(Path(":memory:"))
        self.tables = FakeTables(16)
        self.clock = Clock()
        self.book = made(self.store, self.tables, self.clock)
        self.model: dict[tuple[Kind, Prefix], dict[str, float | None]] = {}

    @rule(
        kind=KINDS, prefixes=ADDRESSES, life=st.sampled_from([None, 5.0, 50.0]), source=SOURCES, replace=st.booleans()
    )
    def add(self, kind: Kind, prefixes: list[Prefix], life: float | None, source: str, replace: bool) -> None:
        self.purge()
        end = None if life is None else self.clock.now + life
        fits = len({*self.model, *((kind, prefix) for prefix in prefixes)}) <= 16
        try:
            self.book.add(kind, prefixes, "", source, life, replace)
        except XdpguardError:
            assert not fits
            return
        assert fits
        for prefix in prefixes:
            held = self.model.setdefault((kind, prefix), {})
            if replace:
                self.model[kind, prefix] = {CONFIG: held[CONFIG]} if CONFIG in held else {}
                self.model[kind, prefix][source] = end
            else:
                held[source] = later(held[source], end) if source in held else end

    @rule(kind=KINDS, prefixes=ADDRESSES)
    def remove(self, kind: Kind, prefixes: list[Prefix]) -> None:
        self.purge()
        ended = {prefix for prefix in prefixes if self.store.ended(kind, prefix) is not None}
        there = all(self.model.get((kind, prefix), {}).keys() - {CONFIG} or prefix in ended for prefix in prefixes)
        try:
            self.book.remove(kind, prefixes)
        except XdpguardError:
            assert not there
            return
        assert there
        for prefix in prefixes:
            held = self.model.pop((kind, prefix), {})
            if CONFIG in held:
                self.model[kind, prefix] = {CONFIG: held[CONFIG]}

    @rule(kind=KINDS, prefixes=ADDRESSES)
    def configure(self, kind: Kind, prefixes: list[Prefix]) -> None:
        self.purge()
        left = {key: {it: end for it, end in held.items() if it != CONFIG} for key, held in self.model.items()}
        wanted = {key: held for key, held in left.items() if held}
        for prefix in prefixes:
            wanted.setdefault((kind, prefix), {})[CONFIG] = None
        fits = len(wanted) <= 16
        try:
            self.book.replace_source(CONFIG, [NewRule(kind, prefix, "", CONFIG, 0.0, None) for prefix in prefixes])
        except XdpguardError:
            assert not fits
            return
        assert fits
        self.model = wanted

    @rule(seconds=st.integers(1, 20))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @rule()
    def purge(self) -> None:
        self.book.purge()
        now = self.clock.now
        alive = {
            key: {it: end for it, end in held.items() if end is None or end > now} for key, held in self.model.items()
        }
        self.model = {key: held for key, held in alive.items() if held}

    @invariant()
    def agree(self) -> None:
        now = self.clock.now
        ends = {key: list(held.values()) for key, held in self.model.items()}
        last = {key: functools.reduce(later, its) for key, its in ends.items()}
        live = {(kind, str(target)): end for (kind, target), end in last.items() if end is None or end > now}
        assert {(it.rule.kind, str(it.rule.target)): it.rule.expires for it in self.book.in_force()} == live
        for it in self.store.rules():
            held = {part.source: part.expires for part in it.parts if part.expires is None or part.expires > now}
            assert isinstance(it.target, Prefix)
            its = self.model[it.kind, it.target]
            assert held == {source: end for source, end in its.items() if end is None or end > now}
        stored = {(r.kind, str(r.target)): (r.slot, r.expires) for r in self.store.rules()}
        assert {key: (slot, self.tables.ends[key]) for key, slot in self.tables.there.items()} == stored
        assert len({slot for slot, _ in stored.values()}) == len(stored)
        assert self.store.counts(now)["block"] == sum(1 for kind, _ in live if kind == "block")

    def teardown(self) -> None:
        self.store.close()


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestModel = Model.TestCase
