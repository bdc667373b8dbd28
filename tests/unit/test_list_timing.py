# SPDX-License-Identifier: GPL-2.0
"""Ends of the entries of lists in the store and as numbers in the index: what is in force, and what the clock does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.timed import timed

from xdpguard.control.outlook import Outlook
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.tables import endings
from xdpguard.dataplane.tables.index import build, held
from xdpguard.dataplane.tables.rebuilt import sets
from xdpguard.lists.addresses import AddressSet
from xdpguard.policy.target import parse_prefix
from xdpguard.store import clock
from xdpguard.store.database import Store
from xdpguard.store.lists import ListStore, NamedList
from xdpguard.store.timing import UNTIMED, Timing, timing

HOUR, YEAR = 3600, 365 * 86_400
A, B, NET = "192.0.2.1", "192.0.2.9", "2001:db8::/32"


class Machine:
    """A machine: seconds since boot, its clock, which boot it is."""

    def __init__(self) -> None:
        self.up = 1000.0  # CLOCK_BOOTTIME
        self.wrong = 0.0
        self.boot = "first"
        self.booted = 1_000_000_000.0

    def now(self) -> float:
        return self.booted + self.up + self.wrong

    def offset(self) -> float:
        return self.up - self.now()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    its = Machine()
    monkeypatch.setattr(kernel, "boot_id", lambda: its.boot)
    monkeypatch.setattr(clock, "boot_offset", its.offset)
    monkeypatch.setattr(time, "clock_gettime", lambda which: its.up)
    monkeypatch.setattr(time, "time", its.now)
    return its


@pytest.fixture
def store(tmp_path: Path, machine: Machine) -> Iterator[Store]:
    del machine
    with Store(tmp_path / "store.db") as made:
        follow(made)
        yield made


def follow(store: Store) -> int:
    """What Ruleset.follow_clock() does with the store; returns how many lists are to be put in force anew."""
    ahead = clock.stepped(store)
    with store.transaction():
        if clock.reference(store) is None:
            clock.begin(store)
        elif ahead:
            clock.follow(store, ahead)
            return clock.misplaced_lists(store)
    return 0


def put(store: Store, entries: AddressSet, name: str = "x", number: int = 0) -> ListStore:
    lists = ListStore(store)
    its = NamedList(name, number, "cli", "", "", "plain", 1.0, len(entries), len(entries), 0, 0, False)
    with store.transaction():
        lists.put(its, entries)
    return lists


def left(store: Store, machine: Machine) -> list[int]:
    """In how many seconds the entries end, those in force; 0: never."""
    its = ListStore(store).in_force("x")
    return [int(end) and round(end - machine.now()) for end in (*its.ends4, *its.ends6)]


def test_what_is_in_force_is_counted_by_the_clock(store: Store, machine: Machine) -> None:
    now = int(machine.now())
    lists = put(store, timed({A: now + HOUR, B: now + 9, NET: 0}))
    (its,) = lists.all()
    assert (its.entries, its.timing) == (3, Timing(2, 0, now + 9, now + HOUR))
    machine.up += 10
    (its,) = lists.all()
    assert (its.entries, its.timing, its) == (2, Timing(1, 1, now + HOUR, now + HOUR), lists.find("x"))
    assert [len(lists.in_force("x")), len(lists.entries("x"))] == [2, 3]
    machine.up += HOUR
    (its,) = lists.all()
    assert (its.entries, its.timing) == (1, Timing(ended=2))
    machine.up -= HOUR + 10
    assert lists.all()[0].entries == 3, "nothing is lost to a clock that was wrong"


@pytest.mark.parametrize("step", [YEAR, HOUR, -HOUR, 1.5, -1.5])
def test_a_list_of_this_boot_keeps_its_lengths(store: Store, machine: Machine, step: float) -> None:
    now = int(machine.now())
    put(store, timed({A: now + HOUR, B: 0}))
    for wrong in (step, 0.0, step, 0.0):
        machine.wrong = wrong
        machine.up += 60
        with Store(store.path, read_only=True) as shown:
            clock.show_as_in_kernel(shown, attached=True)
            told = left(shown, machine)
        assert follow(store) == 0
        assert left(store, machine) == told
    assert left(store, machine) == [pytest.approx(HOUR - 240, abs=1), 0]
    assert ListStore(store).entries("x").ends4[0] >= now + HOUR, "however often it is set, never earlier"


def test_a_list_of_an_earlier_boot_keeps_its_ends(store: Store, machine: Machine) -> None:
    now = int(machine.now())
    put(store, timed({A: now + HOUR}))
    put(store, timed({A: 0}), "endless", 1)
    machine.booted, machine.boot, machine.wrong = machine.booted + 60, "second", YEAR
    assert follow(store) == 0, "a new boot: nothing is in the kernel yet"
    assert left(store, machine) == [], "by this clock it has ended"
    machine.wrong = 0.0
    for attached, expected in ((True, []), (False, [HOUR - 60])):
        with Store(store.path, read_only=True) as shown:
            clock.show_as_in_kernel(shown, attached)
            assert left(shown, machine) == expected
    assert follow(store) == 1, "only what has ends is put in force anew"
    assert left(store, machine) == [HOUR - 60]
    put(store, timed({A: now + 2 * HOUR}))
    machine.wrong = YEAR
    assert follow(store) == 0, "loaded again, it is of this boot"
    assert left(store, machine) == [2 * HOUR - 60]


def test_what_is_needed_is_cut_off_only_until_the_end(store: Store, machine: Machine) -> None:
    now = int(machine.now())
    put(store, timed({A: now + HOUR, B: now + 9}))
    a, b = (parse_prefix(text)[0] for text in (A, B))
    assert [entry.ends for entry in Outlook(store).blocking(a)] == [now + HOUR]
    machine.up += 10
    assert list(Outlook(store).blocking(b)) == []
    coming = {"y": timed({A: now + 5, B: now + HOUR})}
    assert [entry.words for entry in Outlook(store, lists=coming).blocking(a)] == ["the list x"]
    assert [entry.words for entry in Outlook(store, lists=coming).blocking(b)] == ["the list y"]


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(-5, 5), st.integers(0, 60))
def test_counts_without_numpy(ends: list[int], shift: int, now: int) -> None:
    blob = np.array(ends, "<u4").tobytes()
    alive = [end + shift for end in ends if end and end + shift > now]
    wanted = Timing(len(alive), sum(map(bool, ends)) - len(alive), min(alive, default=None), max(alive, default=None))
    assert timing(blob, shift, now) == wanted
    assert timing(b"", shift, now) == UNTIMED


@given(st.lists(st.integers(0, 2**32 - 1), max_size=300), st.integers(4, 40))
def test_ends_have_numbers(ends: list[int], most: int) -> None:
    given_ends = np.array(ends, np.uint32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(endings, "MOST", most)
        numbers, table = endings.numbered(given_ends)
        step = endings.step(given_ends)
    distinct = sorted({end for end in ends if end})
    assert len(table) <= most + 1
    assert not len(table) or table[0] == 0
    made = [int(table[number]) if number else 0 for number in numbers.astype(int)]
    assert [bool(end) for end in made] == [bool(end) for end in ends], "never for good, never at once"
    assert all(end <= at < end + step for end, at in zip(ends, made, strict=True))
    assert step == 1 if len(distinct) <= most else step <= 2 * (distinct[-1] - distinct[0]) / (most - 1)


def test_as_many_ends_as_there_are_numbers_are_exact() -> None:
    first = 1_900_000_000
    for count, exact in ((endings.MOST, True), (endings.MOST + 1, False)):
        ends = {f"10.{place >> 7}.{place * 2 & 255}.0": first + place for place in range(count)}
        lines = build([(0, timed(ends))], 1).lines
        assert held(lines) == {0: count}
        assert (sets(lines)[0].ends4.tolist() == list(ends.values())) == exact


def test_an_end_before_this_boot_is_one() -> None:
    """None would be none: an entry for good."""
    words = endings.lines(np.array([0, 1, 100], np.uint64), -50.0).reshape(-1)
    assert words[0] == 0
    assert 0 < words[1] < 10**9
    assert words[2] == 50 * 10**9


def test_gathered_lists_count_for_the_one_that_lasts() -> None:
    one, two, three = {A: 50, NET: 0}, {A: 70, NET: 90}, {A: 70, B: 5}
    index = build([(number, timed(entries)) for number, entries in enumerate((one, two, three))], 1)
    assert index.slots == {0: 1, 1: 1, 2: 1}
    assert held(index.lines) == index.slots
