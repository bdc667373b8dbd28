# SPDX-License-Identifier: GPL-2.0
"""The fleet as part of the service, without a server: what comes late, and lists that are too many."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from support.fake_filters import FakeMaps, made
from support.fake_tables import FakeDataplane, FakeTables

from xdpguard.control import needs
from xdpguard.control.controller import Controller
from xdpguard.control.foreign_lists import Given
from xdpguard.control.ruleset import Ruleset
from xdpguard.fleet import settings
from xdpguard.fleet.batch import Batch
from xdpguard.fleet.message import FleetList, Value, encode
from xdpguard.fleet.objects import Fetched
from xdpguard.fleet.state import Message
from xdpguard.metrics.status import Status
from xdpguard.policy.fleet import Fleet as Settings
from xdpguard.policy.rule import MODES
from xdpguard.service import fleet_force, fleet_lists
from xdpguard.service.fleet import Fleet
from xdpguard.service.fleet_force import Force
from xdpguard.service.fleet_lists import FleetLists
from xdpguard.service.needs import Needs
from xdpguard.store.database import Store
from xdpguard.store.watch import StoreWatch

ITS = Settings(("nats://192.0.2.5",), "web1", mode="enforce")


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ruleset]:
    monkeypatch.setattr(needs, "now", lambda store, places=(): [])
    maps = FakeMaps()
    maps._of = {mode: FakeDataplane(FakeTables(1000)) for mode in MODES}
    with Store(tmp_path / "store.db") as store:
        yield made(store, maps)


class Link:
    """A connection that gives what it is told to."""

    connected = True
    addresses: frozenset[Any] = frozenset()

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def taken(self) -> list[Batch]:
        found, self.batches = self.batches, []
        return found

    def close(self) -> None:
        pass


def service(rules: Ruleset, link: Link) -> Fleet:
    session = SimpleNamespace(store=rules.store, ruleset=rules, rules=rules.rules, filters=rules.filters)

    @contextlib.contextmanager
    def opened() -> Iterator[Controller]:
        yield cast(Controller, session)

    found = Fleet(opened, cast(Any, None), cast(Needs, SimpleNamespace(found=[])), Status())
    found._settings, found._link, found._force = ITS, cast(Any, link), Force(ITS)
    found._lists = FleetLists(ITS, lambda its, most: None)
    cast(Any, found)._follow_lists = lambda session: None
    return found


def drained(its: Fleet) -> None:
    its.drain(StoreWatch(Path("/nonexistent")), 0)


def block(number: int) -> Message:
    target = f"203.0.113.{number}"
    return Message(number, f"web9.block.4-cb0071{number:02x}-32", encode(Value(1, "block", target, 1.0)))


def test_what_comes_after_a_host_has_left_is_not_put_in_force(rules: Ruleset) -> None:
    """`run` sees that it has left within a second; nothing could remove what came in between."""
    settings.record(rules.store, ITS)
    link = Link()
    its = service(rules, link)
    link.batches = [Batch([block(1)], "stream")]
    drained(its)
    assert [str(it.target) for it in rules.store.rules("block")] == ["203.0.113.1"], "positive control"
    settings.record(rules.store, None)
    link.batches = [Batch([block(2)])]
    drained(its)
    assert [str(it.target) for it in rules.store.rules("block")] == ["203.0.113.1"]


def test_a_change_of_the_fleet_s_own_needs_no_look_at_the_rest(rules: Ruleset) -> None:
    """Unless somebody else has changed the store meanwhile, which the next look is to find."""
    settings.record(rules.store, ITS)
    watch = StoreWatch(rules.store.path)
    try:
        link = Link()
        its = service(rules, link)
        seen = watch.version()
        link.batches = [Batch([block(1)], "stream")]
        now = its.drain(watch, seen)
        assert now > seen
        assert now == watch.version(), "what it changed is known"
        assert its.changed
        assert its.drain(watch, now) == now, "nothing came"
        with Store(rules.store.path) as other, other.transaction():
            other.put_fact("x", "y")
        link.batches = [Batch([block(2)])]
        assert its.drain(watch, now) == now < watch.version()
    finally:
        watch.close()


def test_one_publisher_does_not_fill_the_share_of_all(
    rules: Ruleset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Half of all is its bound; what comes above it is settled once a minute; the rest is counted as refused."""

    def held() -> list[str]:
        return sorted(str(it.target) for it in rules.store.rules("block"))

    def addresses(*numbers: int) -> list[str]:
        return [f"203.0.113.{number}" for number in numbers]

    now = time.monotonic()
    monkeypatch.setattr(fleet_force, "time", SimpleNamespace(monotonic=lambda: now, time=time.time))
    limited = msgspec.structs.replace(ITS, max_entries=6)
    settings.record(rules.store, limited)
    link = Link()
    its = service(rules, link)
    its._configured = its._settings = limited
    force = its._force = Force(limited)
    link.batches = [Batch([block(number) for number in (9, 8, 7, 5)], "stream")]
    drained(its)
    assert held() == addresses(5, 7, 8), "the first three, by their keys"
    assert (len(force.surplus), len(force.refused)) == (1, 0)
    assert "web9 has more than 3 entries ([fleet] max_per_host): the rest does not count" in caplog.text
    other = Message(20, "web2.block.4-c6336407-32", encode(Value(1, "block", "198.51.100.7", 1.0)))
    link.batches = [Batch([block(1)._replace(sequence=21), other])]
    drained(its)
    assert held() == ["198.51.100.7", *addresses(5, 7, 8)], "of others at once"
    now += 61
    force.pend({})
    drained(its)
    assert held() == ["198.51.100.7", *addresses(1, 5, 7)]
    assert len(force.surplus) == 2
    link.batches = [Batch([block(number)._replace(sequence=30, data=None) for number in (1, 5)])]
    drained(its)
    assert held() == ["198.51.100.7", *addresses(7)], "what it withdraws goes at once"
    now += 61
    force.pend({})
    drained(its)
    assert held() == ["198.51.100.7", *addresses(7, 8, 9)]
    assert force.surplus == set()
    now += 61
    force.pend({})
    assert not force.due, "nothing is left to settle"


def test_clearing_away_what_has_ended_takes_no_ban_back() -> None:
    """The guard may have banned the source again while the server was away."""
    for end, taken_back in ((time.time() - 60, False), (time.time() + 60, True)):
        force = Force(ITS)
        key = "web1.block.4-cb007101-32"
        ban = Message(1, key, encode(Value(1, "block", "203.0.113.1", 1.0, end, origin="guard")))
        force.take([ban], "", ())
        force.take([Message(2, key, None)], "", ())
        assert bool(force._unban) == taken_back


class Here:
    """Lists in force on a host, by name."""

    def __init__(self) -> None:
        self.lists: dict[str, Any] = {}

    def held(self) -> dict[str, Any]:
        return dict(self.lists)

    def misplaced(self) -> list[str]:
        return []

    def taken_by(self, _: str) -> str:
        return ""

    def has(self, name: str, mark: str) -> bool:
        return name in self.lists and self.lists[name].stamp == mark

    def put(self, its: Given) -> Any:
        count = len(its.entries)
        self.lists[its.name] = SimpleNamespace(given=count, entries=count, skipped=0, stamp=its.mark, mode="enforce")
        return self.lists[its.name]

    def drop(self, names: list[str]) -> None:
        for name in names:
            del self.lists[name]

    def drop_misplaced(self, names: list[str]) -> None:
        assert not names


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    found = Here()
    monkeypatch.setattr(fleet_lists, "ForeignLists", lambda *_: found)
    return found


def wants(**counts: int) -> dict[str, FleetList]:
    return {name: FleetList(name, name * 64, "x", 1, count, "") for name, count in counts.items()}


def follow(its: FleetLists, wanted: dict[str, FleetList]) -> None:
    its.follow(cast(Controller, None), wanted, False, ())


def fetching(most: int) -> FleetLists:
    """Lists, each of which comes as soon as it is asked for."""

    def fetch(its: FleetList, _: int) -> None:
        found.took([Fetched(its, cast(Any, range(its.entries)))])

    found = FleetLists(Settings(ITS.server, max_list_entries=most), fetch)
    return found


def test_lists_that_come_at_once_have_no_more_entries_together(here: Here) -> None:
    its = fetching(10)
    wanted = wants(a=6, b=6, c=4)
    follow(its, wanted)
    assert its.due, "all were asked for, none is there"
    follow(its, wanted)
    assert set(here.lists) == {"a", "c"}
    assert its.refused == {"b": "it has 6 entries with 10 of other lists, and the fleet may have 10 in lists"}
    follow(its, wants(b=6, c=4))
    follow(its, wants(b=6, c=4))
    assert set(here.lists) == {"b", "c"}, "there is room now"
    assert not its.refused


def test_a_limit_that_was_lowered_holds_for_what_is_there(here: Here) -> None:
    wanted = wants(a=6, b=3)
    first = fetching(10)
    follow(first, wanted)
    follow(first, wanted)
    assert set(here.lists) == {"a", "b"}
    later = fetching(7)
    follow(later, wanted)
    assert set(here.lists) == {"a"}
    assert set(later.refused) == {"b"}
    later = fetching(5)
    follow(later, wanted)
    follow(later, wanted)
    assert set(here.lists) == {"b"}


def test_a_list_that_was_removed_and_put_again_comes_again(here: Here) -> None:
    its = fetching(10)
    wanted = wants(a=6)
    for _ in range(2):
        follow(its, wanted)
        follow(its, wanted)
        assert set(here.lists) == {"a"}
        follow(its, {})
        assert not here.lists
