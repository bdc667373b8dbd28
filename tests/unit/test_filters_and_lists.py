# SPDX-License-Identifier: GPL-2.0
"""Filters that ask lists of the same configuration, lists that are missing, and ended filters: no kernel, no root."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.fake_filters import FakeMaps, made, new
from support.timed import timed

from xdpguard.cli import filters_shown
from xdpguard.control import filter_order as order
from xdpguard.control import needs, safety
from xdpguard.control.controller import Controller
from xdpguard.control.loader import Loader
from xdpguard.control.plan import ListsFailed
from xdpguard.control.planning import Planning, Request
from xdpguard.control.results import Share
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.sys import abi
from xdpguard.errors import XdpguardError
from xdpguard.net.sockets import Protected
from xdpguard.policy.filter import FilterHits
from xdpguard.policy.filters import FilterEntry
from xdpguard.policy.model import Default, ListFile, Policy
from xdpguard.policy.rule import SAFETY
from xdpguard.policy.target import Port, parse_prefix
from xdpguard.service.upkeep import Upkeep
from xdpguard.store.database import Store
from xdpguard.store.lists import NamedList

OPERATOR = "198.51.100.7"
HELD, FREE = "198.51.100.0/24\n", "203.0.113.0/24\n"
ASKS = FilterEntry("x", "ip saddr @bad tcp dport 22", "drop")


@pytest.fixture
def maps() -> FakeMaps:
    return FakeMaps()


@pytest.fixture
def its(tmp_path: Path, maps: FakeMaps, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ruleset]:
    """A host with an operator who is logged in."""
    ssh = Protected(parse_prefix(OPERATOR)[0], "the other end of an SSH session", (Port(22, "tcp"),), "sshd process 7")
    monkeypatch.setattr(needs, "refusing", lambda *_: [ssh])
    monkeypatch.setattr(needs, "now", lambda *_: [ssh])
    with Store(tmp_path / "store.db") as store:
        yield made(store, maps)


def controller(its: Ruleset, maps: FakeMaps) -> Controller:
    """One with these rules and filters."""
    found = Controller(its.store, cast(Any, maps), cast(Any, None))
    found.ruleset, found.changes, found.rules = its, its.changes, its.rules
    found.lists, found.shadow_lists, found.filters = its.lists, its.shadow_lists, its.filters
    return found


def policy(tmp_path: Path, text: str | None, *filters: FilterEntry, **more: Any) -> Policy:
    """A configuration whose list ``bad`` holds a text; None: there is no such list."""
    file = tmp_path / "bad.txt"
    if not file.exists() or file.read_text() != text:
        file.write_text(text or "")
    lists = {} if text is None else {"bad": ListFile(str(file), shadow=True)}
    return Policy(filters=filters, lists=lists, **more)


def planned(its: Ruleset, wanted: Policy, force: bool = False) -> None:
    """Plan the first attach with a configuration."""
    attachments = SimpleNamespace(ruleset=its, store=its.store, dataplane=SimpleNamespace(exists=lambda: False))
    planning = Planning(cast(Any, attachments), Loader(its.lists), Loader(its.shadow_lists))
    link: Any = SimpleNamespace(name="eth0", netns="", loopback=False)
    planning.plan(Request("eth0", force=force), link, wanted)


def ranges(maps: FakeMaps) -> list[Any]:
    return [test.ranges for it in maps.filters.matches() for test in it.tests if "saddr" in test.field.words]


def put_list(its: Ruleset, name: str, *entries: str) -> None:
    named = NamedList(name, its.shadow_lists.stored.free_number(), "cli", "", "", "plain", 0.0, 1, 1, 0, 0, False)
    its.shadow_lists.apply([(named._replace(mode="shadow"), timed(dict.fromkeys(entries, 0)))], [])


def add(its: Ruleset, name: str, match: str = "udp sport 53", **more: Any) -> None:
    its.filters.apply(order.with_new(its.filters.stored.all(), new(name, match, **more), "", replace=False))


def test_an_attach_judges_filters_with_the_lists_of_its_file(its: Ruleset, tmp_path: Path) -> None:
    planned(its, policy(tmp_path, FREE, ASKS))
    with pytest.raises(XdpguardError, match=rf"{OPERATOR} is .* the filter x would drop its packets"):
        planned(its, policy(tmp_path, HELD, ASKS))
    planned(its, policy(tmp_path, HELD, FilterEntry("ssh", "tcp dport 22", "pass"), ASKS))
    planned(its, policy(tmp_path, HELD, ASKS), force=True)
    planned(its, policy(tmp_path, HELD))  # a list in shadow that nobody asks


def test_what_an_attach_brings_is_judged_together(its: Ruleset) -> None:
    held = order.with_new([], new("x", "ip saddr @bad tcp dport 22"), "", replace=False)
    safety.check_attach(its.store, {""}, [], filters=held, asked={"bad": timed({"203.0.113.0/24": 0})})
    with pytest.raises(XdpguardError, match="the filter x would drop its packets"):
        safety.check_attach(its.store, {""}, [], filters=held, asked={"bad": timed({"198.51.100.0/24": 0})})


def test_an_attach_judges_the_list_that_the_filters_will_find(its: Ruleset, tmp_path: Path) -> None:
    """A list in force hides one in shadow of its name, until the file takes its place."""
    named = NamedList("bad", 0, "cli", "", "", "plain", 0.0, 1, 1, 0, 0, False)
    its.lists.apply([(named, timed({"203.0.113.0/24": 0}))], [])
    planned(its, policy(tmp_path, HELD, ASKS))
    its.lists.apply([(named._replace(source="config"), timed({"203.0.113.0/24": 0}))], [])
    with pytest.raises(XdpguardError, match="the filter x would drop its packets"):
        planned(its, policy(tmp_path, HELD, ASKS))


def test_an_attach_judges_the_default_with_its_filters(its: Ruleset, tmp_path: Path) -> None:
    default = Default(policy="drop", mode="enforce")
    with pytest.raises(XdpguardError, match="belongs to nothing that the default admits"):
        planned(its, policy(tmp_path, None, default=default))
    planned(its, policy(tmp_path, None, FilterEntry("ssh", "tcp dport 22", "pass"), default=default))


def test_a_reload_brings_a_list_and_the_filter_that_asks_it(its: Ruleset, maps: FakeMaps, tmp_path: Path) -> None:
    session = controller(its, maps)
    done = session.configure(policy(tmp_path, FREE, ASKS))
    assert [it.its.name for it in done.lists] == ["bad"]
    assert done.errors == {}
    assert ranges(maps) == [((0xCB007100, 0xCB0071FF),)]
    assert session.configure(policy(tmp_path, FREE, ASKS)).lists == [], "the file is as it was"
    session.configure(policy(tmp_path, HELD, ASKS))
    assert [str(it.target) for it in its.store.rules("allow") if it.part(SAFETY)] == [OPERATOR]
    session.configure(policy(tmp_path, None))
    assert (its.filters.alive(), its.shadow_lists.stored.all(), maps.filters.there) == ([], [], [])


def test_a_reload_with_a_list_that_cannot_be_read(its: Ruleset, maps: FakeMaps, tmp_path: Path) -> None:
    """The filter waits for it. One that asks a list that nobody has named is refused, as by a command."""
    session = controller(its, maps)
    wanted = policy(tmp_path, FREE, ASKS)
    (tmp_path / "bad.txt").unlink()
    assert set(session.configure(wanted).errors) == {"bad"}
    assert ranges(maps) == [()]
    add(its, "other")
    assert [it.name for it in its.filters.alive()] == ["x", "other"], "it hinders no other change"
    with pytest.raises(ListsFailed, match="cannot be read"):
        list(session.follow_lists(wanted))
    (tmp_path / "bad.txt").write_text(FREE)
    assert [it.its.name for it in session.follow_lists(wanted)] == ["bad"]
    assert ranges(maps) == [((0xCB007100, 0xCB0071FF),)]
    with pytest.raises(XdpguardError, match="there is no list nosuch, which the filter y asks"):
        session.configure(policy(tmp_path, FREE, ASKS, FilterEntry("y", "ip saddr @nosuch", "drop")))


def test_lists_in_shadow_block_nobody_but_by_filters(its: Ruleset, maps: FakeMaps, tmp_path: Path) -> None:
    session = controller(its, maps)

    def kept() -> list[str]:
        return [part.reason for it in its.store.rules("allow") if (part := it.part(SAFETY))]

    list(session.follow_lists(policy(tmp_path, HELD)))
    assert kept() == []
    list(session.follow_lists(policy(tmp_path, FREE)))
    add(its, "x", "ip saddr @bad tcp dport 22")
    list(session.follow_lists(policy(tmp_path, HELD)))
    assert kept() == ["the other end of an SSH session (sshd process 7); the filter x"]


def test_one_list_that_is_refused_hinders_no_other(its: Ruleset, maps: FakeMaps, tmp_path: Path) -> None:
    """A filter asks one that the file names no more, and the kernel has no room for another."""
    session = controller(its, maps)
    list(session.follow_lists(policy(tmp_path, FREE)))
    add(its, "x", "ip saddr @bad")
    (tmp_path / "other.txt").write_text(FREE)
    lists = {"other": ListFile(str(tmp_path / "other.txt"), shadow=True)}
    loaded: list[object] = []
    with pytest.raises(ListsFailed, match="the filter x asks the list bad") as failed:
        loaded.extend(session.follow_lists(Policy(lists=lists)))
    assert (len(loaded), set(failed.value.errors)) == (1, {"bad"})
    assert [it.name for it in its.shadow_lists.stored.all()] == ["bad", "other"]
    add(its, "y", "ip saddr @other")
    (tmp_path / "other.txt").write_text(
        "".join(f"10.{n >> 8}.{n & 255}.1\n10.{n >> 8}.{n & 255}.3\n" for n in range(40_000))
    )
    maps.there = False  # the set is compiled all the same
    with pytest.raises(ListsFailed) as failed:
        list(session.follow_lists(Policy(lists=lists)))
    assert "the filters do not fit" in str(failed.value.errors["other"])
    assert set(failed.value.errors) == {"bad", "other"}


def test_the_service_tells_of_it_once(
    its: Ruleset, maps: FakeMaps, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session, upkeep = controller(its, maps), Upkeep()
    wanted = policy(tmp_path, FREE)
    list(session.follow_lists(wanted))
    add(its, "x", "ip saddr @bad")
    with caplog.at_level(logging.INFO):
        for now in (0.0, 1.0):
            upkeep._lists(session, Policy(), now)
    assert [it.message for it in caplog.records] == [
        "a list was not loaded, what was in force stays in force: the filter x asks the list bad; nothing was changed;"
        " remove that first: xdpguard filter remove x"
    ]
    its.store.execute("UPDATE filters SET expires = ?", (time.time() - 1,))
    upkeep._lists(session, Policy(), 2.0)
    assert its.shadow_lists.stored.all() == []


def test_a_filter_whose_list_was_lost_stops_nobody(its: Ruleset, maps: FakeMaps) -> None:
    """It ended by a wrong clock, its list was removed meanwhile, and now it is back."""
    put_list(its, "bad", "10.0.0.1")
    add(its, "x", "ip saddr @bad", life=0.0)
    its.drop_lists([], ["bad"])
    its.store.execute("UPDATE filters SET expires = NULL")
    with its.changes.begin():
        its.filters.refill()
    assert ranges(maps) == [()]
    its.filters.apply(order.without(its.filters.stored.all(), ["x"]))
    assert maps.filters.there == []


def test_a_set_that_has_come_to_be_too_large(its: Ruleset, maps: FakeMaps, monkeypatch: pytest.MonkeyPatch) -> None:
    """No command fails of it but the one that asks for more; the audit says that the kernel lacks filters."""
    from xdpguard.dataplane.tables.filterentries import FilterSetFull

    add(its, "x")
    maps.filters.put([], 99)

    def full(*_: object) -> None:
        raise FilterSetFull("too many")

    with monkeypatch.context() as patched:
        patched.setattr(maps.filters, "put", full)
        assert not its.changes.catch_up()
        assert its.filters.audit() == Share(1, 0)
        with pytest.raises(XdpguardError, match="do not fit"):
            add(its, "y")
    assert its.changes.catch_up()
    assert its.filters.audit() == Share(1, 1)


def test_the_audit_reads_the_whole_set(its: Ruleset, maps: FakeMaps) -> None:
    add(its, "x")
    assert its.filters.audit() == Share(1, 1)
    maps.filters.there[0] = maps.filters.there[0]._replace(action="pass")
    assert not its.filters.stale(), "the generation is as it was"
    assert its.filters.audit() == Share(1, 0)
    its.changes.resync(its.filters)
    assert its.filters.audit() == Share(1, 1)
    held = its.store.fact("filters_held").rsplit(",", 1)[0]
    its.store.put_fact("filters_held", f"{held}]")
    assert its.filters.audit() == Share(1, 1), "an earlier version recorded no checksum"


def test_what_has_ended_leaves_its_counters_and_stays(its: Ruleset, maps: FakeMaps) -> None:
    """The clock may have been ahead: the filter is back with it, and counts in a slot of its own."""
    life = 600.0
    its.filters.stored.put(new(f"old{n}", life=-life).stored(n, n) for n in range(abi.FILTER_SLOTS))
    its.store.execute("UPDATE filters SET packets = 7 WHERE name = 'old3'")
    add(its, "a")
    add(its, "b")
    assert [it.name for it in its.filters.alive()] == ["a", "b"]
    assert len(its.filters.stored.all()) == abi.FILTER_SLOTS + 2
    maps.filters.counts = {it.slot: FilterHits(1, 100) for it in its.filters.alive()}
    its.store.execute("UPDATE filters SET expires = expires + 9999 WHERE name = 'old3'")
    assert its.filters.in_force()[0].hits.packets == 7, "before it has its counters again"
    its.filters.resync()
    found = {it.its.name: it.its.slot for it in its.filters.in_force()}
    assert list(found) == ["old3", "a", "b"]
    assert len(set(found.values())) == 3
    assert min(found.values()) >= 0
    assert [it.slot for it in maps.filters.there] == list(found.values())
    its.filters.fold_in()
    assert [it.its.hits.packets for it in its.filters.in_force()] == [7, 1, 1]


def test_parts_of_a_change_are_settled_when_told(its: Ruleset, maps: FakeMaps) -> None:
    """What cannot be taken back comes after them; the kernel part is taken back from its end."""
    swaps = maps.filters.swaps
    with its.changes.begin():
        add(its, "a")
        assert maps.filters.swaps == swaps
        its.changes.settle()
        assert maps.filters.swaps == swaps + 1
    assert maps.filters.swaps == swaps + 1, "once"
    taken: list[str] = []

    def image(name: str) -> Any:
        return SimpleNamespace(stale=lambda: False, resync=lambda: taken.append(name))

    with pytest.raises(XdpguardError), its.changes.begin():
        for name in ("one", "two"):
            its.changes.touch(image(name), name)
        raise XdpguardError("refused", "")
    assert taken == ["two", "one"]


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_the_default_never_lacks_the_filters_that_pass(its: Ruleset, maps: FakeMaps, mode: Any) -> None:
    """An enforced one comes after them; one that passes, before they go."""
    order_of: list[tuple[str, int]] = []
    its.default = cast(Any, SimpleNamespace(put=lambda wanted, _: order_of.append((wanted.policy, maps.filters.swaps))))
    with its.changes.begin():
        add(its, "ssh", "tcp dport 22", action="pass")
        its.put_default(Default(policy="drop", mode=mode), [])
    with its.changes.begin():
        its.filters.apply([])
        its.put_default(Default(), [])
    assert order_of == [("drop", int(mode == "enforce")), ("pass", 1)]
    assert maps.filters.swaps == 2


def test_a_filter_that_ends_while_a_command_waits(its: Ruleset) -> None:
    add(its, "a")
    it = new("late", life=-1.0)
    its.filters.apply(order.with_new(its.filters.stored.all(), it, "", replace=False))
    assert filters_shown.added(its, it) == [
        "filter late has ended already: its time began with the command, which had to wait"
    ]
    assert filters_shown.placed(its, "late") == "late has ended"
    assert filters_shown.placed(its, "a") == "a is the only filter"
