# SPDX-License-Identifier: GPL-2.0
"""Named lists in store and kernel, with maps that a test can see into and break; loading, refusing, reloading."""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from xdpguard.control import safety
from xdpguard.control.audit import Audit, ShadowAudit
from xdpguard.control.change import Changes
from xdpguard.control.controller import Controller
from xdpguard.control.lists import Lists
from xdpguard.control.loader import Loader, check_name
from xdpguard.control.plan import Circumstances, Loaded
from xdpguard.control.results import Share
from xdpguard.control.sources import read_stream
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.lists.addresses import AddressSet
from xdpguard.net import sockets
from xdpguard.policy.hits import Hits
from xdpguard.policy.load import load
from xdpguard.policy.model import ListFile, Policy
from xdpguard.policy.rule import CONFIG, NewRule
from xdpguard.policy.target import parse_prefix
from xdpguard.service.upkeep import Upkeep
from xdpguard.store.database import Store

Words = NDArray[np.uint64]
_THERE, _PREFIX = 1 << 33, 1 << 32  # bpf/stages/index.h


class Killed(BaseException):
    """Nothing more is done, as by SIGKILL; SQLite rolls the store back."""


@pytest.fixture(autouse=True)
def kills(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever was killed takes nothing back."""
    real = Changes._take_back

    def take_back(self: Changes, caught_up: bool) -> None:
        if not isinstance(sys.exception(), Killed):
            real(self, caught_up)

    monkeypatch.setattr(Changes, "_take_back", take_back)


class FakeMaps:
    """Maps as arrays. ``fails`` makes the next swap fail; ``dies`` ends the command before or after it."""

    def __init__(self) -> None:
        self.name = "this boot:1"
        self.index: Words | None = None
        self.rest = 0
        self.numbers = np.zeros((abi.LISTS, 2), np.int64)
        self.swaps = 0
        self.fails = False
        self.dies = ""

    def __enter__(self) -> FakeMaps:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def generation(self) -> str:
        return self.name

    def swap(self, lines: Words, nets4: Words | None, nets6: Words | None, wide6: bool) -> None:
        if self.fails:
            self.fails = False
            raise OSError(12, "Cannot allocate memory")
        self._put(lines.copy(), sum(int(nets.sum(dtype=np.uint64)) for nets in (nets4, nets6) if nets is not None))
        del wide6

    def empty(self) -> None:
        self._put(None, 0)

    def _put(self, index: Words | None, rest: int) -> None:
        dies, self.dies = self.dies, ""
        if dies == "before":
            raise Killed
        self.index, self.rest = index, rest
        self.swaps += 1
        if dies == "after":
            raise Killed

    def counts(self) -> Callable[[int], Hits]:
        return self.hits()

    def mark(self) -> int:
        """The generation of the index in force."""
        return 0 if self.index is None else int(abi.INDEX.unpack(self.index[0].tobytes())[10])

    def lines(self) -> Words | None:
        return None if self.index is None else self.index.copy()

    def digest(self) -> int:
        return self.rest

    def reached(self, entries: AddressSet) -> int:
        return len(entries)

    def clear_hits(self, numbers: Iterable[int]) -> None:
        self.numbers[list(numbers)] = 0

    def hits(self) -> Callable[[int], Hits]:
        found = self.numbers.copy()
        return lambda number: Hits(int(found[number, 0]), int(found[number, 1]))

    def addresses(self) -> dict[str, int]:
        """The single IPv4 addresses in the index, and the number of the list that each is counted to."""
        if self.index is None:
            return {}
        found = {}
        for word in self.index[1:].ravel().tolist():
            if word & (_THERE | _PREFIX) == _THERE and word >> 34 & 0x3FFF == 0 and word & 0xFFFFFFFF >= 10 << 24:
                found[".".join(map(str, (word & 0xFFFFFFFF).to_bytes(4, "big")))] = word >> 48
        return found


class FakePins:
    def __init__(self, there: bool) -> None:
        self.there = there

    def exist(self) -> bool:
        return self.there


class World:
    """A store, maps, and what works on them."""

    def __init__(self, store: Store, attached: bool = True) -> None:
        self.store = store
        self.pins = FakePins(attached)
        self.maps = FakeMaps()
        self.book = Lists(Changes(store, self.pins.exist), cast(Pins, self.pins))
        self.loader = Loader(self.book)

    def load(self, name: str, *entries: str, strict: bool = False, force: bool = False) -> Loaded:
        stream = io.BytesIO("".join(f"{entry}\n" for entry in entries).encode())
        given = read_stream("standard input", stream, strict)
        return self.loader.put(self.loader.prepare(name, given, "cli", force))

    def share(self, name: str) -> Share:
        return self.book.shares()[name]

    def packets(self) -> dict[str, int]:
        return {it.its.name: it.packets for it in self.book.in_force()}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as made:
        yield made


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own addresses are no part of it."""
    monkeypatch.setattr(sockets, "protected", lambda: [])


@pytest.fixture
def world(store: Store, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(store)
    monkeypatch.setattr("xdpguard.dataplane.tables.lists.ListMaps", lambda pins: made.maps)
    monkeypatch.setattr("xdpguard.dataplane.tables.listmark.generation", lambda pins, index: made.maps.mark())
    monkeypatch.setattr("xdpguard.dataplane.tables.listmark.asked", lambda pins, mode: made.maps.index is not None)
    return made


def test_a_list_is_in_store_and_kernel(world: World) -> None:
    done = world.load("x", "10.0.0.1", "10.0.0.9", "10.0.0.9", "2001:db8::/32")
    assert (done.its.given, done.its.entries, done.its.duplicates, done.in_force) == (4, 3, 1, True)
    assert done.before is None
    assert world.maps.addresses() == {"10.0.0.1": 0, "10.0.0.9": 0}
    assert world.share("x") == Share(3, 3)
    world.book.drop("x")
    assert world.maps.index is None
    assert world.book.shares() == {}


def test_nothing_attached(world: World) -> None:
    world.pins.there = False
    assert not world.load("x", "10.0.0.1").in_force
    assert world.maps.swaps == 0
    assert world.book.shares() == {}
    world.pins.there = True
    world.book.changes.catch_up()
    assert world.maps.addresses() == {"10.0.0.1": 0}


def test_the_list_with_the_lower_number_is_named(world: World) -> None:
    world.load("a", "10.0.0.1")
    world.load("b", "10.0.0.1", "10.0.0.5")
    assert world.maps.addresses() == {"10.0.0.1": 0, "10.0.0.5": 1}
    assert (world.share("a"), world.share("b")) == (Share(1, 1), Share(2, 2))
    world.book.drop("a")
    assert world.maps.addresses() == {"10.0.0.1": 1, "10.0.0.5": 1}


@pytest.mark.parametrize("error", [OSError(12, "Cannot allocate memory"), MemoryError("no memory")])
def test_when_the_kernel_refuses_everything_is_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world.load("old", "10.0.0.1")
    world.maps.numbers[0] = (7, 700)
    before = world.book.in_force()

    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(world.maps, "swap", refuse)
        for name in ("old", "new"):
            with pytest.raises(XdpguardError, match=f"did not accept the list {name}: .*memory") as refused:
                world.load(name, "10.0.0.8", "10.0.0.10")
            assert "nothing was changed" in refused.value.remedy
            assert world.book.in_force() == before
            assert world.share("old") == Share(1, 1)
            assert str(world.book.stored.entries("old").prefix(4, 0)) == "10.0.0.1"
    assert world.maps.addresses() == {"10.0.0.1": 0}
    swaps = world.maps.swaps
    world.book.changes.catch_up()
    assert world.maps.swaps == swaps, "nothing is left to be put in order"


def test_hits_stay_with_a_list_and_go_with_it(world: World) -> None:
    world.load("x", "10.0.0.1")
    world.maps.numbers[0] = (3, 300)
    world.load("x", "10.0.0.8")
    assert world.packets() == {"x": 3}
    world.book.drop("x")
    world.load("y", "10.0.0.1")
    assert world.packets() == {"y": 0}, "the number is used again, from zero"


def test_hits_are_folded_in_once_and_go_on_in_new_maps(world: World) -> None:
    world.load("x", "10.0.0.1")
    world.load("y", "10.0.0.5")
    world.maps.numbers[0] = (3, 300)
    world.maps.numbers[1] = (4, 400)
    world.book.fold_in()
    world.book.fold_in()
    world.pins.there = False
    assert world.packets() == {"x": 3, "y": 4}
    world.pins.there = True
    world.maps.name, world.maps.index = "this boot:2", None
    world.maps.numbers[:] = 9  # whatever another store left there
    world.book.changes.catch_up()
    assert world.maps.addresses() == {"10.0.0.1": 0, "10.0.0.5": 1}
    world.maps.numbers[0] = (1, 100)
    assert world.packets() == {"x": 4, "y": 4}
    assert [it.bytes for it in world.book.in_force()] == [400, 400]


def test_settling_costs_nothing_when_there_is_nothing_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("xdpguard.dataplane.tables.lists.ListMaps", None)
        world.book.changes.catch_up()
    world.load("x", "10.0.0.1")
    swaps = world.maps.swaps
    world.book.changes.catch_up()
    assert world.maps.swaps == swaps


@pytest.mark.parametrize("how", ["settle", "load", "drop"])
@pytest.mark.parametrize("dies", ["before", "after"])
@pytest.mark.parametrize("change", ["first", "new", "again", "drop"])
def test_killed_before_or_after_the_kernel_was_reached(world: World, change: str, dies: str, how: str) -> None:
    """The store holds what it held, whatever the kernel holds; the next change makes them agree."""
    if change != "first":
        world.load("x", "10.0.0.1", "10.0.0.3")
        world.load("other", "10.0.0.9")
    before, stored = world.maps.addresses(), world.book.in_force()
    world.maps.dies = dies
    with pytest.raises(Killed):
        world.book.drop("x") if change == "drop" else world.load("x" if change == "again" else "y", "10.0.0.5")
    reached = {
        "first": {"10.0.0.5": 0},
        "new": {"10.0.0.1": 0, "10.0.0.3": 0, "10.0.0.9": 1, "10.0.0.5": 2},
        "again": {"10.0.0.5": 0, "10.0.0.9": 1},
        "drop": {"10.0.0.9": 1},
    }[change]
    assert world.maps.addresses() == (before if dies == "before" else reached)
    assert [it.its for it in world.book.in_force()] == [it.its for it in stored]
    assert world.book.changes.pending()
    wanted = dict(before)
    if how == "settle":
        world.book.changes.catch_up()
    elif how == "load":
        world.load("more", "10.9.9.9")
        wanted |= {"10.9.9.9": world.book.stored.all()[-1].number}
    elif change == "first":
        world.load("y", "10.0.0.7")
        world.book.drop("y")
    else:
        world.book.drop("other")
        del wanted["10.0.0.9"]
    assert world.maps.addresses() == wanted
    assert not world.book.changes.pending()
    assert all(share.held == share.stored for share in world.book.shares().values())


def test_killed_while_the_last_list_is_dropped(world: World) -> None:
    world.load("x", "10.0.0.1")
    world.maps.dies = "after"
    with pytest.raises(Killed):
        world.book.drop("x")
    assert world.maps.addresses() == {}
    world.book.changes.catch_up()
    assert world.maps.addresses() == {"10.0.0.1": 0}


def test_killed_before_the_kernel_was_reached_nothing_is_built_anew(world: World) -> None:
    world.load("x", "10.0.0.1")
    world.maps.dies = "before"
    with pytest.raises(Killed):
        world.load("y", "10.0.0.5")
    swaps = world.maps.swaps
    world.book.changes.catch_up()
    assert (world.maps.swaps, world.maps.addresses()) == (swaps, {"10.0.0.1": 0})
    world.maps.dies = "before"
    with pytest.raises(Killed):
        world.load("y", "10.0.0.5")
    world.maps.rest += 1  # a bit that was set in a pre-filter
    world.book.changes.catch_up()
    assert world.share("x") == Share(1, 1)


@pytest.mark.parametrize("change", ["again", "new", "drop"])
def test_a_kernel_that_differs_from_the_store_is_not_called_whole(world: World, change: str) -> None:
    world.load("x", "10.0.0.1")
    world.load("other", "10.0.0.9")
    world.maps.dies = "after"
    with pytest.raises(Killed):
        world.book.drop("x") if change == "drop" else world.load("x" if change == "again" else "y", "10.0.0.5")
    assert any(share.held < share.stored for share in world.book.shares().values())


def test_shares_are_counted_in_the_kernel(world: World) -> None:
    world.load("x", *(f"10.0.{number}.1" for number in range(100)))
    world.load("y", "2001:db8::1")
    assert world.maps.index is not None
    places = np.argwhere(world.maps.index[1:] & np.uint64(_THERE))[:30]
    whole, rest = world.maps.index.copy(), world.maps.rest
    for row, column in places:
        world.maps.index[row + 1, column] = 0
    shares = world.book.shares()
    assert shares["x"].stored == 100
    assert 60 <= shares["x"].held < 100
    world.maps.index = whole
    assert world.share("x") == Share(100, 100)
    world.maps.rest += 1  # a bit of a pre-filter
    assert world.share("x") == Share(100, 99)
    assert world.share("y") == Share(1, 0)
    world.maps.rest, world.maps.index = rest, None
    assert (world.share("x"), world.share("y")) == (Share(100, 0), Share(1, 0))
    world.maps.index, world.maps.name = whole, "this boot:2"  # filled by another store
    assert world.share("x").held < 100
    world.book.fill()
    assert (world.share("x"), world.share("y")) == (Share(100, 100), Share(1, 1))


def test_numbers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest free one is taken, and there are only so many."""
    monkeypatch.setattr(abi, "LISTS", 3)
    for name in "abc":
        world.load(name, "10.0.0.1")
    with pytest.raises(XdpguardError, match="there are 3 lists already"):
        world.load("d", "10.0.0.1")
    world.load("b", "10.0.0.5")
    world.book.drop("b")
    assert world.load("d", "10.0.0.9").its.number == 1
    assert [it.name for it in world.book.stored.all()] == ["a", "d", "c"]


def test_dropping_what_is_not_there(world: World) -> None:
    world.load("x", "10.0.0.1")
    with pytest.raises(XdpguardError, match="there is no list y") as refused:
        world.book.drop("y")
    assert refused.value.remedy.endswith(": x")
    assert world.maps.addresses() == {"10.0.0.1": 0}


@pytest.mark.parametrize("name", ["", "-x", ".x", "_x", "a b", "a/b", "..", "x\n", "ü", "x" * 65])
def test_invalid_names(world: World, name: str) -> None:
    with pytest.raises(UsageError, match="not a list name"):
        world.load(name, "10.0.0.1")


@pytest.mark.parametrize("name", ["x", "9", "firehol_level1", "tor-exits.v4", "x" * 64])
def test_names(name: str) -> None:
    check_name(name)


def test_a_list_that_shrank(world: World) -> None:
    def addresses(count: int) -> list[str]:
        return [f"10.0.0.{2 * number}" for number in range(count)]

    world.load("x", *addresses(9))
    with pytest.raises(XdpguardError, match="had 9 entries, and now has 4: fewer than half"):
        world.load("x", *addresses(4))
    assert len(world.maps.addresses()) == 9
    world.load("y", "10.0.0.1")
    world.load("x", *addresses(5))
    world.load("x", *addresses(2), force=True)
    assert len(world.maps.addresses()) == 3


def test_strict(world: World) -> None:
    lines = ("10.0.0.1", "oops", "10.0.0.3", "10.0.0.4/33")
    with pytest.raises(UsageError, match=r"standard input:2: 'oops': .* \(and 1 more\)"):
        world.load("x", *lines, strict=True)
    assert world.book.stored.all() == []
    done = world.load("x", *lines)
    assert ([fault.line for fault in done.faults], done.its.skipped) == ([2, 4], 2)
    world.load("x", "10.0.0.1", "10.0.0.3", strict=True)


ROLES = {
    "192.0.2.53": "this host's name server",
    "198.18.0.254": "this host's gateway",
    "198.18.0.1": "an address of this host",
    "2001:db8::7": "the other end of an SSH session to this host",
}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, nobody: None) -> None:
    del nobody
    found = [sockets.Protected(parse_prefix(address)[0], role) for address, role in ROLES.items()]
    monkeypatch.setattr(sockets, "protected", lambda: found)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("address", ROLES)
def test_a_list_that_cuts_off_the_host(world: World, store: Store, address: str) -> None:
    around = f"{address}/{64 if ':' in address else 30}"
    for entry, words in ((address, f"holds {address}, which"), (around, f", and {address} in it")):
        with pytest.raises(XdpguardError, match=words) as refused:
            world.load("x", "10.0.0.1", entry)
        assert "the list x holds" in str(refused.value)
        assert str(refused.value).endswith(f"is {ROLES[address]}")
        assert world.book.stored.all() == []
        assert world.maps.swaps == 0
    world.load("x", "10.0.0.1", address, force=True)
    assert world.book.stored.all()[0].forced
    for expires, refuses in ((4e9, True), (None, False)):
        with store.transaction():
            store.put([(NewRule("allow", parse_prefix(address)[0], "", "cli", 0.0, expires), 0)])
        if refuses:
            with pytest.raises(XdpguardError, match=address):
                world.load("y", address)
        else:
            world.load("y", address)


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(("allowed", "refuses"), [(30, True), (3600, False)])
def test_an_entry_that_ends_before_what_allows_it_cuts_nobody_off(
    world: World, store: Store, allowed: int, refuses: bool
) -> None:
    address = next(iter(ROLES))
    rule = NewRule("allow", parse_prefix(address)[0], "", "cli", 0.0, time.time() + allowed)
    with store.transaction():
        store.put([(rule, 0)])
    entries = ("add a 10.0.0.1", f"add a {address} timeout 60")
    if refuses:
        with pytest.raises(XdpguardError, match=address):
            world.load("x", *entries)
        return
    done = world.load("x", *entries)
    assert (done.its.entries, done.its.timing.timed) == (2, 1)
    (note,) = (note for note in done.notes if "an end" in note)
    assert note.startswith("1 entry has an end (")
    assert note.endswith("), at which it stops blocking")
    safety.check_lists(store, [], [rule])


def test_ends_that_the_kernel_does_not_tell_apart_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of all lists together."""
    monkeypatch.setattr("xdpguard.dataplane.tables.endings.MOST", 4)
    entries = [f"add a 10.0.0.{2 * place} timeout {100 + place}" for place in range(4)]
    assert any(note.endswith("; each stops blocking at its own") for note in world.load("x", *entries).notes)
    notes = world.load("y", "add a 10.0.1.1 timeout 900").notes
    late = ", or up to 2 s later, as there are more ends than the kernel tells apart"
    assert any(note.endswith(f"at which it stops blocking{late}") for note in notes), notes


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("lasts", [True, False])
def test_an_entry_that_has_ended_cuts_nobody_off(
    world: World, store: Store, lasts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the kernel lack it."""
    address, now = next(iter(ROLES)), time.time()
    world.load("x", "add a 10.0.0.1", f"add a {address} timeout 60", force=True)
    with store.transaction():
        store.execute("UPDATE lists SET forced = 0")
    monkeypatch.setattr(time, "time", lambda: now + (50 if lasts else 70))
    if lasts:
        with pytest.raises(XdpguardError, match=address):
            safety.check_lists(store, [], [])
    else:
        safety.check_lists(store, [], [])
    for broken in (False, True):
        if broken:
            world.maps.rest += 1
        share = world.share("x")
        assert share.stored == (2 if lasts else 1)
        assert (share.held < share.stored) == broken


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    "entries", [["198.18.0.2-198.18.0.253"], ["192.0.2.52", "192.0.2.54"], ["2001:db8::/126", "2001:db8::8/125"]]
)
def test_a_list_of_the_hosts_neighbours(world: World, entries: list[str]) -> None:
    world.load("x", *entries)


@pytest.mark.parametrize(
    ("version", "entries"),
    [
        (4, ["0.0.0.0/0"]),
        (4, ["128.0.0.0/1", "10.0.0.1", "0.0.0.0/1"]),
        (4, ["0.0.0.0-255.255.255.255"]),
        (6, ["10.0.0.1", "::/0"]),
        (6, ["8000::/1", "::/1"]),
    ],
)
def test_a_list_of_everybody(world: World, version: int, entries: list[str]) -> None:
    with pytest.raises(XdpguardError, match=f"the list x contains every IPv{version} address"):
        world.load("x", *entries)
    world.load("x", *entries, force=True)
    assert world.share("x").stored == world.share("x").held > 0


def test_nearly_everybody_is_not_everybody(world: World) -> None:
    world.load("x", "0.0.0.0-255.255.255.254", "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")


@pytest.mark.usefixtures("host")
def test_other_namespaces_are_asked_too(world: World, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all that is attached, and one that is about to be."""
    asked: list[str] = []

    class Entered:
        def __init__(self, name: str) -> None:
            asked.append(name)

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr("xdpguard.net.netns.entered", Entered)
    world.load("x", "10.0.0.1")
    assert asked == [""]
    safety.check_list(store, "x", world.book.stored.entries("x"), {"web"})
    assert asked[1:] == ["", "web"]


class Files:
    """Lists of a configuration, and what following them said."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder
        self.files: dict[str, ListFile] = {}

    def write(self, name: str, *entries: str, every: str = "1m", strict: bool = False) -> None:
        path = self._folder / name
        path.write_text("".join(f"{entry}\n" for entry in entries))
        self.files[name] = ListFile(str(path), every, strict)

    def follow(self, due: Callable[[str], bool] = lambda name: True) -> list[str]:
        return [done.its.name for done in self._world.loader.follow(self.files, due)]


@pytest.fixture
def files(world: World, tmp_path: Path) -> Files:
    return Files(world, tmp_path)


def test_files_are_loaded_when_new_or_changed(world: World, files: Files) -> None:
    files.write("a", "10.0.0.1")
    files.write("b", "10.0.0.3")
    assert files.follow(lambda name: False) == ["a", "b"], "new ones wait for nothing"
    assert files.follow() == []
    files.write("a", "10.0.0.5", "10.0.0.7")
    assert files.follow(lambda name: name != "a") == []
    assert files.follow(lambda name: name == "a") == ["a"]
    assert world.maps.addresses() == {"10.0.0.5": 0, "10.0.0.7": 0, "10.0.0.3": 1}
    assert [it.source for it in world.book.stored.all()] == [CONFIG, CONFIG]


def test_what_the_host_needs_is_asked_once_for_all_lists(
    world: World, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads every process's sockets: with 1,000 lists that took most of an attach."""
    asked: list[int] = []

    def protected() -> list[sockets.Protected]:
        asked.append(1)
        return []

    monkeypatch.setattr(sockets, "protected", protected)
    for number in range(5):
        files.write(f"list{number}", f"10.0.{number}.1")
    assert len(world.loader.plan(files.files, Circumstances()).puts) == 5
    assert len(asked) == 1
    files.follow()
    asked.clear()
    safety.check_lists(world.store, [], [])
    assert len(asked) == 1


def test_lists_no_longer_in_the_file_are_dropped(world: World, files: Files) -> None:
    world.load("byhand", "10.0.0.9")
    files.write("a", "10.0.0.1")
    files.write("b", "10.0.0.3")
    files.follow()
    del files.files["a"]
    assert files.follow() == []
    assert world.maps.addresses() == {"10.0.0.9": 0, "10.0.0.3": 2}


def test_a_broken_file_keeps_its_entries_and_hinders_no_other(world: World, files: Files) -> None:
    files.write("a", "10.0.0.1", strict=True)
    files.follow()
    files.write("a", "10.0.0.5", "oops", strict=True)
    files.write("b", "10.0.0.3")
    with pytest.raises(UsageError, match="a:2: 'oops'"):
        files.follow()
    assert world.maps.addresses() == {"10.0.0.1": 0, "10.0.0.3": 1}
    Path(files.files["a"].file).unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        files.follow()
    assert world.maps.addresses() == {"10.0.0.1": 0, "10.0.0.3": 1}
    files.write("a", "10.0.0.7")
    assert files.follow() == ["a"]


class Session:
    """The part of a controller that upkeep uses."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.audits: list[bool] = []
        self.lost: Share | None = None
        self.behind = False

    def follow_lists(self, policy: Policy, due: Callable[[str], bool]) -> Iterator[Loaded]:
        return self._world.loader.follow(policy.lists, due)

    def audit(self, repair: bool) -> Audit | None:
        self.audits.append(repair)
        return Audit(Share(2, 2), {"x": self.lost}, self.behind) if self.lost else None


class Service:
    """The service's upkeep with a clock of the test's own."""

    def __init__(self, world: World, files: Files, log: list[str]) -> None:
        self.session = Session(world)
        self.log = log
        self._files = files
        self._upkeep = Upkeep()
        self.now = 1000.0

    def after(self, seconds: float) -> list[str]:
        """What it says when so much time has passed."""
        self.now += seconds
        del self.log[:]
        self._upkeep.run(cast(Controller, self.session), Policy(lists=self._files.files), self.now)
        return list(self.log)


@pytest.fixture
def service(world: World, files: Files, log: list[str]) -> Service:
    return Service(world, files, log)


def test_the_service_looks_as_often_as_told(files: Files, service: Service) -> None:
    files.write("a", "10.0.0.1", every="10s")
    files.write("b", "10.0.0.3")
    assert service.after(0) == ["list a loaded: 1 entry", "list b loaded: 1 entry"]
    # The first look at a file that is loaded is due at once.
    assert service.after(1) == []
    for name, its in files.files.copy().items():
        files.write(name, "10.0.0.5", "10.0.0.7", "oops", every=its.every)
    assert service.after(8) == []
    assert service.after(2) == ["list a loaded: 2 entries, had 1, 1 line skipped"]
    assert service.after(40) == []
    assert service.after(10) == ["list b loaded: 2 entries, had 1, 1 line skipped"]
    assert service.after(60) == []


def test_the_service_tells_of_a_broken_file_once(world: World, files: Files, service: Service) -> None:
    files.write("a", "10.0.0.1", every="10s")
    service.after(0)
    files.write("a", "oops", every="10s")
    (line,) = service.after(11)
    assert line.startswith("a list was not loaded, what was in force stays in force: ")
    assert "a:1: " in line
    for _ in range(5):
        assert service.after(10) == []
    assert world.maps.addresses() == {"10.0.0.1": 0}
    files.write("a", "10.0.0.5", every="10s")
    assert service.after(10) == ["list a loaded: 1 entry, had 1"]
    files.write("a", "oops", every="10s")
    assert len(service.after(10)) == 1, "broken anew, it is told anew"


def test_the_service_tells_of_a_broken_file_once_whatever_its_interval(files: Files, service: Service) -> None:
    files.write("a", "10.0.0.1")
    service.after(0)
    files.write("a", "oops")
    told = [line for _ in range(30) for line in service.after(10)]
    assert len(told) == 1


def test_the_service_tells_of_every_broken_file(files: Files, service: Service) -> None:
    for name in "ab":
        files.write(name, "10.0.0.1", every="10s")
    service.after(0)
    for name in "ab":
        files.write(name, "oops", every="10s")
    told = [line for _ in range(5) for line in service.after(10)]
    assert {name for name in "ab" if any(f"/{name}:1:" in line for line in told)} == {"a", "b"}


def test_the_service_audits_every_minute(service: Service) -> None:
    service.session.lost = Share(10, 4)
    assert service.after(0) == ["the kernel held 4 of 10 entries (list x): restored"]
    assert service.after(59) == []
    service.session.lost = Share(10, 10)
    assert service.after(1) == []
    assert service.session.audits == [True, True]


def test_the_service_tells_of_an_interrupted_change(service: Service) -> None:
    service.session.lost, service.session.behind = Share(10, 10), True
    assert service.after(0) == ["an interrupted change was rolled back; the kernel agrees with the store again"]
    service.session.behind = False
    assert service.after(60) == []


def test_audit_ratio() -> None:
    assert Audit(Share(0, 0), {}).ratio == 1
    assert Audit(Share(10, 10), {"x": Share(90, 90)}).ratio == 1
    assert Audit(Share(10, 5), {"x": Share(90, 0)}).ratio == 0.05


def test_a_change_that_is_pending_takes_no_shadow_entry_away() -> None:
    assert ShadowAudit(Share(1, 1), {"x": Share(2, 2)}, True).whole
    assert not ShadowAudit(Share(1, 0), {}, False).whole
    assert not ShadowAudit(Share(1, 1), {"x": Share(2, 1)}, False).whole


def config(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "guard.toml"
    path.write_text(text)
    return load(path)


def test_lists_in_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    text = '[lists.a]\nfile = "sub/a.txt"\n[lists."b.c"]\nfile = "/etc/b"\nevery = "2h"\nstrict = true\nforce = true\n'
    assert config(tmp_path, text).lists == {
        "a": ListFile(f"{tmp_path}/sub/a.txt", "1m", False, False),
        "b.c": ListFile("/etc/b", "2h", True, True),
    }
    monkeypatch.chdir(tmp_path)
    assert load(Path("guard.toml")).lists["a"].file == f"{tmp_path}/sub/a.txt"


FAULTS = [
    ("\n[lists.x]\nfile = 'a'\nevery = '9s'\n", r"guard.toml:4: lists.x.every: '9s' is out of range"),
    ("\n[lists.x]\nfile = 'a'\nevery = '8d'\n", r"guard.toml:4: lists.x.every: '8d' is out of range"),
    ("\n[lists.x]\nfile = 'a'\nevery = 'often'\n", r"guard.toml:4: lists.x.every: not a duration: 'often'"),
    ("\n[lists.x]\nfile = ''\n", r"guard.toml:3: lists.x.file: the name is empty"),
    ("\n[limits]\n[lists.'a b']\nfile = 'a'\n", r"guard.toml:\d: lists.a b: not a list name: 'a b'"),
    ("\n[lists]\nx = 'a'\n", r"guard.toml:[23]: lists.*\"a\" is not a table"),
    ("\nlists = 3\n", r"guard.toml:2: lists: 3 is not a table"),
]
MISPLACED = [
    (
        "\n[lists.w]\nfile = 'a'\n[lists.x]\nfil = 'a'\n",
        r"guard.toml:5: lists.x.fil: unknown key; allowed here: file, every",
    ),
    ("\n[lists.w]\nfile = 'a'\n[lists.x]\nfile = 3\n", r"guard.toml:5: lists.x.file: 3 is not text"),
    (
        "\n[lists.w]\nfile = 'a'\n[lists.x]\nevery = '1m'\n",
        r"guard.toml:4: lists.x: file is missing; keys: file, every",
    ),
    ("\n[lists.x]\nfile = 'a'\nstrict = 1\n", r"guard.toml:4: lists.x.strict: 1 is neither true nor false"),
]


@pytest.mark.parametrize(("text", "says"), FAULTS)
def test_faults_in_the_configuration(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        config(tmp_path, text)
    assert refused.value.remedy


@pytest.mark.parametrize(("text", "says"), MISPLACED)
def test_faults_in_a_list_of_the_configuration(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        config(tmp_path, text)
    line = f"{refused.value}; {refused.value.remedy}"
    assert re.search(says, line), line
