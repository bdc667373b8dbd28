# SPDX-License-Identifier: GPL-2.0
"""Named lists in store and kernel, with maps that a test can see into and break; loading, refusing, reloading."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from xdpguard.control.audit import Audit, ShadowAudit
from xdpguard.control.change import Changes
from xdpguard.control.lists import Lists, Share
from xdpguard.control.loader import Loaded, Loader
from xdpguard.control.sources import read_stream
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import UsageError
from xdpguard.lists.addresses import AddressSet
from xdpguard.net import sockets
from xdpguard.policy.hits import Hits
from xdpguard.policy.load import load
from xdpguard.policy.model import ListFile, Policy
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
    ("\n[lists.x]\nfile = 'a'\nevery = '9s'\n", r"guard.toml:[24]: lists.x\W+every: out of range"),
    ("\n[lists.x]\nfile = 'a'\nevery = '8d'\n", r"guard.toml:[24]: lists.x\W+every: out of range"),
    ("\n[lists.x]\nfile = 'a'\nevery = 'often'\n", r"guard.toml:[24]: lists.x\W.*not a duration: 'often'"),
    ("\n[lists.x]\nfile = ''\n", r"guard.toml:[23]: lists.x\W+file: empty"),
    ("\n[limits]\n[lists.'a b']\nfile = 'a'\n", r"guard.toml:\d: lists.a b: not a list name: 'a b'"),
    ("\n[lists]\nx = 'a'\n", r"guard.toml:[23]: lists.*expected `object`, got `str`"),
    ("\nlists = 3\n", r"guard.toml:2: lists: expected `object`, got `int`"),
]
MISPLACED = [
    (
        "\n[lists.w]\nfile = 'a'\n[lists.x]\nfil = 'a'\n",
        r"guard.toml:5: lists.x.fil: unknown key; allowed here: file, every",
    ),
    ("\n[lists.w]\nfile = 'a'\n[lists.x]\nfile = 3\n", r"guard.toml:5: lists.x.file: expected `str`, got `int`"),
    ("\n[lists.w]\nfile = 'a'\n[lists.x]\nevery = '1m'\n", r"guard.toml:4: lists.x: .*missing required field `file`"),
    ("\n[lists.x]\nfile = 'a'\nstrict = 1\n", r"guard.toml:4: lists.x.strict: expected `bool`, got `int`"),
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
