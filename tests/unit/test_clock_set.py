# SPDX-License-Identifier: GPL-2.0
"""Ends of rules when the clock is set: nothing is lost for good, and what was made in this boot keeps its length."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_tables import FakeTables, made, prefixes

from xdpguard.control.entries import Entries
from xdpguard.dataplane.sys import kernel
from xdpguard.policy.rule import CONFIG, GUARD, NewRule
from xdpguard.store import clock
from xdpguard.store.database import Store
from xdpguard.tui.reading import KnownRules

(A,) = prefixes("192.0.2.1")
HOUR, YEAR = 3600.0, 365 * 86_400.0


class World:
    """A machine: seconds since boot, how wrong its clock is, and which boot it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.up = 1000.0  # CLOCK_BOOTTIME
        self.wrong = 0.0
        self.boot = "first"
        self.booted = 1e9

    def now(self) -> float:
        """Unix time, as this machine has it."""
        return self.booted + self.up + self.wrong

    def offset(self) -> float:
        """CLOCK_BOOTTIME minus Unix time."""
        return self.up - self.now()

    def reboot(self, seconds: float = 60.0) -> None:
        self.booted += self.up + seconds
        self.up, self.boot = 1.0, self.boot + "+"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    its = World(tmp_path / "store.db")
    monkeypatch.setattr(kernel, "boot_id", lambda: its.boot)
    monkeypatch.setattr(clock, "boot_offset", its.offset)
    monkeypatch.setattr(time, "clock_gettime", lambda which: its.up)
    return its


@pytest.fixture
def store(world: World) -> Iterator[Store]:
    with Store(world.path) as found:
        yield found


def opened(store: Store, world: World, tables: FakeTables | None = None) -> Entries:
    """The rules as a command that changes something finds them."""
    book = made(store, tables, world.now)
    follow(book, store, world)
    return book


def follow(book: Entries, store: Store, world: World) -> None:
    """What Ruleset.follow_clock() does, for one mode."""
    ahead = clock.stepped(store)
    if ahead:
        with book.changes.begin():
            clock.follow(store, ahead)
            book.refill()
    elif clock.reference(store) is None:
        with store.transaction():
            clock.begin(store)
    if clock.has_lapsed(store, world.now()):
        book.revive()


def left(book: Entries, world: World) -> list[float | None]:
    """How long the rules in force will last, by the clock."""
    return [it.rule.expires and round(it.rule.expires - world.now()) for it in book.in_force()]


@pytest.mark.parametrize("step", [YEAR, HOUR, -HOUR, -YEAR])
def test_a_rule_of_this_boot_keeps_its_length(store: Store, world: World, step: float) -> None:
    tables = FakeTables(8)
    book = opened(store, world, tables)
    book.add("block", [A], "", GUARD, HOUR)
    for wrong in (step, 0.0):
        world.up += 60
        world.wrong = wrong
        book = opened(store, world, tables)
        book.purge()
        end = tables.ends["block", str(A)]
        assert end is not None
        assert left(book, world) == [round(end - world.now())]
    assert left(book, world) == [HOUR - 120]
    world.up += HOUR
    book.purge()
    assert left(book, world) == []


@pytest.mark.parametrize("part", [False, True])
def test_what_ended_in_this_boot_stays_ended_when_the_clock_is_set_back(store: Store, world: World, part: bool) -> None:
    tables = FakeTables(8)
    book = opened(store, world, tables)
    book.add("block", [A], "", "cli", 60.0)
    if part:
        book.add("block", [A], "", GUARD, YEAR)
    for wrong in (0.0, -HOUR, -YEAR):
        world.up += 100
        world.wrong = wrong
        book = opened(store, world, tables)
        book.purge()
        assert [it.rule.origins for it in book.in_force()] == ([[GUARD]] if part else [])


def test_the_screen_follows_a_step_that_nobody_has_written_down(store: Store, world: World) -> None:
    book = opened(store, world)
    book.add("block", [A], "", GUARD, HOUR)
    known = KnownRules(world.path)

    def left_on_screen() -> float:
        with Store(world.path, read_only=True) as shown:
            clock.show_as_in_kernel(shown, attached=True)
            return float(known.read(shown).ends[0] - world.now())

    assert left_on_screen() == pytest.approx(HOUR, abs=1)
    with Store(world.path, read_only=True) as shown:
        assert known.read(shown) is known.read(shown), "read once"
    for step in (YEAR, -HOUR, 0.0):
        world.wrong = step
        assert left_on_screen() == pytest.approx(HOUR, abs=1), "as the kernel has it"


def test_a_small_difference_is_not_a_step(store: Store, world: World) -> None:
    opened(store, world)
    for wrong, found in ((0.3, 0.0), (-0.4, 0.0), (0.6, 0.6)):
        world.wrong = wrong
        assert clock.stepped(store) == pytest.approx(found, abs=0.01)


def test_a_rule_of_an_earlier_boot_keeps_its_time_of_day(store: Store, world: World) -> None:
    tables = FakeTables(8)
    opened(store, world).add("block", [A], "", "cli", 3 * HOUR)
    world.reboot()
    world.wrong = -HOUR
    book = opened(store, world, tables)
    assert left(book, world) == [4 * HOUR - 61 + 0], "as long as the clock says"
    world.wrong = 0.0
    book = opened(store, world, tables)
    assert left(book, world) == [3 * HOUR - 61]
    assert tables.ends["block", str(A)] == pytest.approx(world.now() + 3 * HOUR - 61, abs=1)
    book.add("block", [A], "", "cli", 5 * HOUR)
    world.wrong = -HOUR
    assert left(opened(store, world, tables), world) == [5 * HOUR], "made anew in this boot"


def test_what_ended_by_a_wrong_clock_comes_back(store: Store, world: World) -> None:
    book = opened(store, world)
    book.add("block", [A], "why", "cli", HOUR)
    book.add("block", [A], "scan", GUARD, 2 * HOUR)
    world.reboot()
    world.wrong = YEAR
    tables = FakeTables(8)
    book = opened(store, world, tables)
    book.purge()
    assert book.in_force() == []
    assert store.rules() == []
    world.wrong = 0.0
    book = opened(store, world, tables)
    (found,) = book.in_force()
    assert [(it.source, it.reason) for it in found.rule.parts] == [(GUARD, "scan"), ("cli", "why")]
    assert left(book, world) == [2 * HOUR - 61]
    assert tables.there.keys() == {("block", str(A))}
    assert store.execute("SELECT * FROM lapsed") == []


def test_a_part_that_ended_by_a_wrong_clock_comes_back(store: Store, world: World) -> None:
    book = opened(store, world)
    book.replace_source(CONFIG, [NewRule("block", A, "", CONFIG, world.now(), None)])
    book.add("block", [A], "why", "cli", HOUR)
    world.reboot()
    world.wrong = YEAR
    opened(store, world).purge()
    assert [it.source for it in store.rules()[0].parts] == [CONFIG]
    world.wrong = 0.0
    opened(store, world)
    assert [(it.source, it.reason) for it in store.rules()[0].parts] == [(CONFIG, ""), ("cli", "why")]


def test_what_was_removed_meanwhile_stays_removed(store: Store, world: World) -> None:
    opened(store, world).add("block", [A], "", "cli", HOUR)
    world.reboot()
    world.wrong = YEAR
    book = opened(store, world)
    book.purge()
    assert A in book.remove("block", [A]).ended
    world.wrong = 0.0
    assert opened(store, world).in_force() == []


def test_what_does_not_fit_waits(store: Store, world: World) -> None:
    opened(store, world).add("block", prefixes("192.0.2.1", "192.0.2.2"), "", "cli", HOUR)
    world.reboot()
    world.wrong = YEAR
    opened(store, world).purge()
    world.wrong = 0.0
    assert opened(store, world, FakeTables(1)).in_force() == []
    assert len(opened(store, world, FakeTables(2)).in_force()) == 2


def test_what_ended_is_forgotten_once_the_clock_can_be_believed(store: Store, world: World) -> None:
    for days, kept in ((0.0, 1), (9.0, 0)):
        book = opened(store, world)
        book.add("block", [A], "", "cli", 5)
        world.reboot()
        book = opened(store, world)
        book.purge()
        world.up += days * 86_400
        book.add("block", prefixes("192.0.2.9"), "", "cli", 5)
        world.up += 10
        book.purge()
        assert len(store.execute("SELECT * FROM lapsed WHERE target = ?", (str(A),))) == kept
        assert len(store.execute("SELECT * FROM lapsed")) == kept
        assert (store.ended("block", A) is not None) == bool(kept)


def test_a_reader_is_shown_what_the_kernel_has(store: Store, world: World) -> None:
    opened(store, world).add("block", [A], "", "cli", 3 * HOUR)
    world.reboot()
    book = opened(store, world)
    book.add("block", prefixes("192.0.2.2"), "", "cli", 3 * HOUR)
    world.wrong = HOUR
    for attached, of_earlier in ((True, 3 * HOUR - 61), (False, 2 * HOUR - 61)):
        with Store(world.path, read_only=True) as reader:
            clock.show_as_in_kernel(reader, attached)
            ends = {str(it.target): round((it.expires or 0) - world.now()) for it in reader.rules()}
            assert ends == {"192.0.2.1": of_earlier, "192.0.2.2": 3 * HOUR}
            assert clock.misplaced(reader, world.now()) == 1
    assert left(book, world) == [2 * HOUR - 61, 2 * HOUR], "positive control: nothing was written"
