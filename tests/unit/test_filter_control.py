# SPDX-License-Identifier: GPL-2.0
"""Filters are changed all or nothing, in order, and the kernel holds what the store holds: with maps in memory."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from support.fake_filters import FakeMaps, made, new
from support.timed import timed

from xdpguard.control import filter_order as order
from xdpguard.control import restoring
from xdpguard.control.results import Share
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.tables.filterentries import entries
from xdpguard.errors import XdpguardError
from xdpguard.lists.addresses import AddressSet
from xdpguard.policy.filter import FILTERS, FilterHits
from xdpguard.policy.matching import parsing
from xdpguard.policy.matching.model import Field
from xdpguard.store import clock, journal
from xdpguard.store.database import Store
from xdpguard.store.lists import NamedList


@pytest.fixture
def maps() -> FakeMaps:
    return FakeMaps()


@pytest.fixture
def its(tmp_path: Path, maps: FakeMaps) -> Iterator[Ruleset]:
    with Store(tmp_path / "store.db") as store:
        yield made(store, maps)


def add(
    its: Ruleset, name: str, match: str = "udp sport 53", *, before: str = "", replace: bool = False, **more: object
) -> None:
    wanted = order.with_new(its.filters.stored.all(), new(name, match, **more), before, replace)  # type: ignore[arg-type]
    its.filters.apply(wanted)


def names(its: Ruleset) -> list[str]:
    return [it.name for it in its.filters.alive()]


def agrees(its: Ruleset, maps: FakeMaps) -> bool:
    """Whether the kernel has the filters of the store, in order."""
    return [(it.match, it.action, it.mode, it.slot) for it in maps.filters.there] == [
        (it.match, it.action, it.mode, it.slot) for it in its.filters.alive()
    ]


def test_a_filter_comes_back_from_the_store_as_it_was_added(its: Ruleset, maps: FakeMaps) -> None:
    match = "ip6 saddr 2001:db8::/32 tcp dport { 80, 8000-8010 } tcp flags & (syn | ack) == syn @th,0,16 0x1234"
    wanted = new("x", match, limit="10mbit/s", per="source/24,56", reason="why", shadow=True, life=60)
    its.filters.apply(order.with_new([], wanted, "", replace=False))
    (found,) = its.filters.alive()
    assert found.as_new() == wanted
    assert agrees(its, maps)
    (loaded,) = maps.filters.there
    assert loaded.limit == wanted.limit
    left = loaded.expires_ns / 1e9 - time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 55 < left <= 60


def test_the_order(its: Ruleset, maps: FakeMaps) -> None:
    for name in "abc":
        add(its, name)
    add(its, "d", before="a")
    add(its, "e", before="c")
    assert names(its) == ["d", "a", "b", "e", "c"]
    its.filters.apply(order.moved(its.filters.stored.all(), "d", "c"))
    assert names(its) == ["a", "b", "e", "d", "c"]
    its.filters.apply(order.moved(its.filters.stored.all(), "a", ""))
    assert names(its) == ["b", "e", "d", "c", "a"]
    its.filters.apply(order.without(its.filters.stored.all(), ["e", "a"]))
    assert names(its) == ["b", "d", "c"]
    assert agrees(its, maps)


def test_many_in_one_gap(its: Ruleset, maps: FakeMaps) -> None:
    add(its, "first")
    add(its, "last")
    for number in range(40):  # more than the gap can be halved
        add(its, f"n{number}", before="last")
    assert names(its) == ["first", *(f"n{number}" for number in range(40)), "last"]
    assert agrees(its, maps)
    for number in range(40):
        add(its, f"m{number}", before="first")
    assert names(its)[:40] == [f"m{number}" for number in range(40)]


def test_names_are_unique_unless_replaced(its: Ruleset, maps: FakeMaps) -> None:
    add(its, "a", reason="first")
    add(its, "b")
    with pytest.raises(XdpguardError, match="there is a filter a already"):
        add(its, "a")
    (slot,) = (it.slot for it in its.filters.alive() if it.name == "a")
    maps.filters.counts[slot] = FilterHits(7, 700)
    add(its, "a", replace=True, reason="second")
    assert names(its) == ["a", "b"]
    (found,) = (it for it in its.filters.in_force() if it.its.name == "a")
    assert (found.its.reason, found.hits) == ("second", FilterHits(7, 700)), "it matches the same, and goes on counting"
    add(its, "a", "udp sport 123", replace=True)
    assert names(its) == ["a", "b"], "in its place"
    assert its.filters.in_force()[0].hits == FilterHits(), "what matches something else counts from zero"
    assert agrees(its, maps)


def test_what_does_not_exist(its: Ruleset) -> None:
    add(its, "a")
    held = its.filters.stored.all()
    changes: list[Callable[[], object]] = [
        lambda: order.without(held, ["a", "x"]),
        lambda: order.moved(held, "x", "a"),
        lambda: order.moved(held, "a", "x"),
        lambda: order.with_new(held, new("y"), "x", replace=False),
        lambda: order.promoted(held, ["x"]),
    ]
    for change in changes:
        with pytest.raises(XdpguardError, match="there is no filter x"):
            change()
    with pytest.raises(XdpguardError, match="enforced already"):
        order.promoted(held, ["a"])


def test_no_more_than_fit(its: Ruleset, maps: FakeMaps) -> None:
    wanted = its.filters.stored.all()
    for number in range(FILTERS):
        wanted = order.with_new(wanted, new(f"n{number}"), "", replace=False)
    its.filters.apply(wanted)
    assert len(maps.filters.there) == FILTERS
    with pytest.raises(XdpguardError, match="1 more does not fit"):
        add(its, "one-more")
    assert len(names(its)) == FILTERS
    add(its, "n5", "udp sport 1", replace=True)
    add(its, "n6", life=0.0, replace=True)
    add(its, "one-more")
    assert len(names(its)) == FILTERS, "one that has ended makes room"
    assert agrees(its, maps)


def test_what_the_kernel_refuses_changes_nothing(its: Ruleset, maps: FakeMaps) -> None:
    add(its, "a")
    maps.filters.broken = True
    with pytest.raises(XdpguardError, match="did not accept the filters"):
        add(its, "b")
    assert names(its) == ["a"]
    assert agrees(its, maps)
    assert not its.changes.pending()


def test_what_is_refused_keeps_what_was_counted(its: Ruleset, maps: FakeMaps) -> None:
    """A filter in the place of another counts elsewhere: the old one gets its counters back if that fails."""
    add(its, "a")
    (slot,) = (it.slot for it in its.filters.alive())
    maps.filters.counts[slot] = FilterHits(7, 700)
    maps.filters.broken = True
    with pytest.raises(XdpguardError, match="did not accept the filters"):
        add(its, "a", "udp sport 99", replace=True)
    assert its.filters.in_force()[0].hits == FilterHits(7, 700)
    assert agrees(its, maps)


def test_one_swap_for_a_change_of_several_parts(its: Ruleset, maps: FakeMaps) -> None:
    before = maps.filters.swaps
    with its.changes.begin():
        add(its, "a")
        add(its, "b")
    assert maps.filters.swaps == before + 1
    assert agrees(its, maps)
    its.filters.apply(its.filters.stored.all())
    assert maps.filters.swaps == before + 1, "no change, no swap"


def test_ended_filters(its: Ruleset, maps: FakeMaps, monkeypatch: pytest.MonkeyPatch) -> None:
    add(its, "a", life=0.0)
    add(its, "b")
    assert names(its) == ["b"]
    with pytest.raises(XdpguardError, match="the filter a ended by itself at"):
        order.without(its.filters.stored.all(), ["a"])
    add(its, "a", "udp sport 99")
    assert names(its) == ["b", "a"], "a new one of that name is a new one"
    its.store.execute("UPDATE filters SET expires = ? WHERE name = 'a'", (time.time() - 8 * 86_400,))
    its.purge()
    assert [it.name for it in its.filters.stored.all()] == ["b", "a"], "the clock may be ahead"
    monkeypatch.setattr(clock, "steady", lambda store: True)
    its.purge()
    assert [it.name for it in its.filters.stored.all()] == ["b"]
    assert agrees(its, maps)


def test_what_is_purged_between_plan_and_change_stays_gone(
    its: Ruleset, maps: FakeMaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at an attach: the slot of what was purged is that of a new filter by then."""
    monkeypatch.setattr(clock, "steady", lambda store: True)
    add(its, "old", life=-8 * 86_400.0)
    planned = order.with_source(its.filters.stored.all(), "config", [new("new", source="config")])
    with its.changes.begin():
        its.purge()
        its.filters.apply(planned)
    assert [it.name for it in its.filters.stored.all()] == ["new"]
    assert agrees(its, maps)


def test_a_clock_that_is_set_moves_ends_of_this_boot(its: Ruleset) -> None:
    with its.store.transaction():
        clock.begin(its.store)
    add(its, "a", life=600)
    add(its, "b", life=600)
    its.store.execute("INSERT INTO earlier VALUES ('', 'filter', 'b')")
    (before, of_earlier) = (it.expires for it in its.filters.alive())
    assert before is not None
    with its.store.transaction():
        clock.follow(its.store, 100.0)
    assert [it.expires for it in its.filters.alive()] == [before + 100.0, of_earlier]
    with its.store.transaction():
        clock.begin(its.store)
        clock.follow(its.store, 100.0)
    assert [it.expires for it in its.filters.alive()] == [before + 100.0, of_earlier], "all are of an earlier boot now"


def test_hits_survive_the_maps(its: Ruleset, maps: FakeMaps) -> None:
    add(its, "a", limit="10/s")
    (slot,) = (it.slot for it in its.filters.alive())
    maps.filters.counts[slot] = FilterHits(5, 500, 2, 200)
    assert its.filters.in_force()[0].hits == FilterHits(5, 500, 2, 200)
    its.filters.fold_in()
    maps.filters = type(maps.filters)()
    maps.filters.name = "maps 2"
    assert its.filters.in_force()[0].hits == FilterHits(5, 500, 2, 200)
    its.filters.resync()
    assert agrees(its, maps)
    maps.filters.counts[slot] = FilterHits(1, 100, 1, 100)
    assert its.filters.in_force()[0].hits == FilterHits(6, 600, 3, 300)


def test_another_set_in_the_kernel_is_noticed_and_replaced(its: Ruleset, maps: FakeMaps) -> None:
    add(its, "a")
    assert not its.filters.stale()
    maps.filters.put([], 99)
    assert its.filters.stale()
    assert its.filters.audit() == Share(1, 0)
    add(its, "b")
    assert agrees(its, maps)
    assert its.filters.audit() == Share(2, 2)


def test_nothing_attached(its: Ruleset, maps: FakeMaps) -> None:
    maps.there = False
    assert not its.filters.apply(order.with_new([], new("a"), "", replace=False))
    assert maps.filters.there == []
    maps.there = True
    its.filters.resync()
    assert agrees(its, maps)


def test_what_no_set_can_hold_is_refused_with_nothing_attached(its: Ruleset, maps: FakeMaps) -> None:
    maps.there = False
    wanted = its.filters.stored.all()
    for number in range(65):
        wanted = order.with_new(wanted, new(f"n{number}", f"@th,0,16 {number}"), "", replace=False)
    its.filters.apply(wanted[:64])
    with pytest.raises(XdpguardError, match="more than 64 different tests of bytes"):
        its.filters.apply(wanted)
    assert len(names(its)) == 64


def test_an_end_beyond_what_the_kernel_can_tell(its: Ruleset, maps: FakeMaps) -> None:
    add(its, "a", life=253_402_300_799 - time.time())  # 9999-12-31T23:59:59Z
    packed, _ = entries(maps.filters.there)
    assert int.from_bytes(packed[:8], sys.byteorder) == (1 << 64) - 1


def test_promoting(its: Ruleset, maps: FakeMaps) -> None:
    add(its, "a", shadow=True)
    add(its, "b")
    (slot,) = (it.slot for it in its.filters.alive() if it.name == "a")
    maps.filters.counts[slot] = FilterHits(5, 500)
    its.filters.fold_in()
    assert its.filters.in_force()[0].hits == FilterHits(5, 500)
    its.filters.apply(order.promoted(its.filters.stored.all(), ["a"]))
    assert [(it.name, it.mode) for it in its.filters.alive()] == [("a", "enforce"), ("b", "enforce")]
    assert its.filters.in_force()[0].hits == FilterHits()
    assert agrees(its, maps)


def test_filters_of_the_configuration(its: Ruleset, maps: FakeMaps) -> None:
    add(its, "mine")
    wanted = [new(name, source="config") for name in ("x", "y")]
    its.filters.replace_source("config", wanted)
    assert names(its) == ["x", "y", "mine"]
    add(its, "urgent", before="y")
    its.filters.replace_source("config", [new(name, source="config") for name in ("y", "z", "x")])
    assert names(its) == ["y", "z", "x", "urgent", "mine"]
    add(its, "first", before="y")
    swaps = maps.filters.swaps
    its.filters.replace_source("config", [new(name, source="config") for name in ("y", "z", "x")])
    assert names(its) == ["first", "y", "z", "x", "urgent", "mine"]
    assert maps.filters.swaps == swaps, "nothing is new"
    with pytest.raises(XdpguardError, match="one of that name made by hand"):
        its.filters.replace_source("config", [new("mine", "udp dport 9", source="config")])
    for change in (order.without, order.promoted):
        with pytest.raises(XdpguardError, match=r"enforced already|of the configuration file"):
            change(its.filters.stored.all(), ["x"])
    its.filters.replace_source("config", [])
    assert names(its) == ["first", "urgent", "mine"]
    assert agrees(its, maps)


def put_list(its: Ruleset, name: str, entries: AddressSet) -> None:
    number = its.shadow_lists.stored.free_number()
    before = its.shadow_lists.stored.find(name)
    named = NamedList(name, before.number if before else number, "cli", "", "", "plain", time.time(), 1, 1, 0, 0, False)
    its.shadow_lists.apply([(named._replace(mode="shadow"), entries)], [])


def test_named_lists(its: Ruleset, maps: FakeMaps) -> None:
    with pytest.raises(XdpguardError, match="there is no list bad, which the filter a asks"):
        add(its, "a", "ip saddr @bad")
    assert (names(its), maps.filters.there) == ([], [])
    put_list(its, "bad", timed({"0.0.0.10": 0, "0.0.0.11": 0, "0.0.0.13": 0}))
    add(its, "a", "ip saddr @bad")
    add(its, "b", "ip saddr != @bad")
    add(its, "c", "ip6 saddr @bad")

    def ranges() -> list[object]:
        return [next(test.ranges for test in it.tests if "saddr" in test.field.words) for it in maps.filters.matches()]

    assert ranges() == [((10, 11), (13, 13)), ((0, 9), (12, 12), (14, (1 << 32) - 1)), ()]
    put_list(its, "bad", timed({"0.0.0.10": 0}))
    assert ranges() == [((10, 10),), ((0, 9), (11, (1 << 32) - 1)), ()], "it follows the list"
    swaps = maps.filters.swaps
    put_list(its, "other", timed({"0.0.0.7": 0}))
    assert maps.filters.swaps == swaps, "a list that no filter asks is no business of theirs"
    with pytest.raises(XdpguardError, match="the filter a asks the list bad"):
        its.drop_lists([], ["bad"])
    assert its.shadow_lists.stored.find("bad")
    its.drop_lists([], ["other"])
    with its.changes.begin():
        its.drop_lists([], ["bad"])
        its.filters.apply([])
    assert maps.filters.there == []


def test_entries_of_a_list_end(its: Ruleset, maps: FakeMaps) -> None:
    put_list(its, "bad", timed({"10.0.0.10": int(time.time()) + 1000}))
    add(its, "a", "ip saddr @bad")
    swaps = maps.filters.swaps
    its.purge()
    assert maps.filters.swaps == swaps
    its.store.execute("UPDATE lists SET shift = -2000")
    maps_name, generation, _, digest = json.loads(its.store.fact("filters_held"))
    its.store.put_fact("filters_held", json.dumps([maps_name, generation, time.time() - 1, digest]))
    its.purge()
    assert maps.filters.swaps == swaps + 1
    assert [test.ranges for it in maps.filters.matches() for test in it.tests if test.field is Field.IP_SADDR] == [()]
    its.purge()
    assert maps.filters.swaps == swaps + 1, "and then there is nothing to wait for"


def undo(its: Ruleset, words: str) -> list[str]:
    change = next(it for it in journal.changes(its.store) if it.command == words)
    steps = restoring.steps(its.store, journal.touched(its.store, change), strict=True)
    told = [text for it in steps if (text := it.words())]
    with its.changes.begin():
        restoring.restore(its, steps)
        journal.settle(its.store, change, "undone")
    return told


def test_undo(tmp_path: Path, maps: FakeMaps) -> None:
    def command(words: str) -> Ruleset:
        found = made(Store(tmp_path / "store.db"), maps)
        found.changes.record(words)
        return found

    add(command("1"), "a")
    add(command("2"), "b", before="a", limit="10/s")
    third = command("3")
    third.filters.apply(order.moved(third.filters.stored.all(), "a", "b"))
    fourth = command("4")
    was = fourth.filters.alive()
    fourth.filters.apply(order.without(fourth.filters.stored.all(), ["b"]))
    its = made(Store(tmp_path / "store.db"), maps)
    assert undo(its, "4") == ["filter b: as before"]
    assert [it._replace(slot=0) for it in its.filters.alive()] == [it._replace(slot=0) for it in was]
    assert agrees(its, maps)
    assert names(its) == ["a", "b"]
    assert undo(its, "3") == ["filter a: in its place of before"]
    assert names(its) == ["b", "a"]
    assert undo(its, "2") == ["filter b: removed"]
    assert undo(its, "1") == ["filter a: removed"]
    assert (names(its), maps.filters.there) == ([], [])


@pytest.mark.parametrize(
    ("match", "more", "hits"),
    [
        ("udp sport 53", {"reason": "another"}, FilterHits(12, 1200)),
        ("udp sport 123", {}, FilterHits()),
        ("udp sport 53", {"action": "count"}, FilterHits()),
        ("udp sport 53", {"limit": "10/s"}, FilterHits()),
        ("udp sport 53", {"shadow": True}, FilterHits()),
    ],
)
def test_an_undo_keeps_hits_only_of_the_same(
    tmp_path: Path, maps: FakeMaps, match: str, more: dict[str, Any], hits: FilterHits
) -> None:
    with Store(tmp_path / "store.db") as store:
        add(made(store, maps), "a")
        its = made(store, maps)
        its.changes.record("replace")
        add(its, "a", match, replace=True, **more)
    with Store(tmp_path / "store.db") as store:
        its = made(store, maps)
        with store.transaction():
            its.filters.stored.add_hits([(FilterHits(5, 500), "a")])
        (slot,) = (it.slot for it in its.filters.alive())
        maps.filters.counts[slot] = FilterHits(7, 700)
        undo(its, "replace")
        (found,) = its.filters.in_force()
        assert (found.its.text, found.its.action, found.its.mode) == ("udp sport 53", "drop", "enforce")
        assert found.hits == hits
        assert agrees(its, maps)


@pytest.mark.parametrize("step", ["mark", "begin", "filters", "commit", "done"])
def test_interrupted_at_any_step(tmp_path: Path, maps: FakeMaps, step: str) -> None:
    """An interruption is taken back at once, or by the next command."""

    class Interrupted(BaseException):
        pass

    def on_step(name: str) -> None:
        if name == step:
            raise Interrupted

    with Store(tmp_path / "store.db") as store:
        add(made(store, maps), "a")
        with pytest.raises(Interrupted):
            add(made(store, maps, on_step), "b")
        its = made(store, maps)
        add(its, "c")
        assert names(its) == (["a", "b", "c"] if step == "done" else ["a", "c"])
        assert agrees(its, maps)


def test_of_a_thousand_only_the_new_one_is_parsed(
    tmp_path: Path, maps: FakeMaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store(tmp_path / "store.db") as store:
        its = made(store, maps)
        wanted = its.filters.stored.all()
        for number in range(1000):
            wanted = order.with_new(
                wanted, new(f"n{number}", f"udp sport {number} meta length > 512"), "", replace=False
            )
        its.filters.apply(wanted)
    with Store(tmp_path / "store.db") as store:
        its = made(store, maps)
        parse = Mock(wraps=parsing.parse)
        monkeypatch.setattr(parsing, "parse", parse)
        add(its, "one-more")
        parse.assert_called_once_with("udp sport 53")
        assert len(maps.filters.there) == 1001
