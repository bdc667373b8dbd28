# SPDX-License-Identifier: GPL-2.0
"""Entries of lists that have an end: in force until then, in the kernel alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from support.bench import Bench, one_cpu
from support.timed import load, timed

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import rebuilt
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.dataplane.tables.index import build
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.dataplane.tables.shadow import ShadowTables
from xdpguard.dataplane.tables.shadowlists import ShadowListMaps

ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
SOURCES = {4: "198.51.100.7", 6: "2001:db8::7"}
AROUND = {4: ("198.51.100.0/24", "198.51.0.0/16"), 6: ("2001:db8::/64", "2001:db8::/32")}
NOW = int(time.time())


@pytest.fixture(scope="module")
def _bench() -> Iterator[Bench]:
    made = Bench("known", fake_clock=True)
    yield made
    made.close()


@pytest.fixture
def bench(_bench: Bench) -> Iterator[Bench]:
    """A bench on one CPU, as what is remembered is each CPU's own."""
    with one_cpu(), ListMaps(_bench.pins) as maps, ShadowListMaps(_bench.pins) as shadow:
        _bench.reset()
        for its in (maps, shadow):
            its.empty()
            its.clear_hits(range(4))
        at(_bench, 0)
        yield _bench


def at(bench: Bench, seconds: int) -> None:
    """Sets the clock so many seconds, and half of one, after NOW."""
    bench.set_clock(int((NOW + 0.5 + seconds + boot_offset()) * 1e9))


def reason(bench: Bench, version: int, flags: str = "A") -> str:
    source = SOURCES[version]
    ip = IPv6(src=source, dst="2001:db8:1::1") if version == 6 else IP(src=source, dst="203.0.113.1")
    return bench.send(bytes(ETHER / ip / TCP(dport=80, flags=flags)).ljust(60, b"\0")).reason


def in_force(bench: Bench, *lists: dict[str, int]) -> None:
    with ListMaps(bench.pins) as maps:
        load(maps, *lists)


def hits(bench: Bench, *numbers: int) -> list[int]:
    with ListMaps(bench.pins) as maps:
        found = maps.hits()
    return [found(number).packets for number in numbers]


@pytest.mark.parametrize("flags", ["S", "A"])
@pytest.mark.parametrize("entry", [lambda version: SOURCES[version], lambda version: AROUND[version][0]])
@pytest.mark.parametrize("version", [4, 6])
def test_an_entry_ends(bench: Bench, version: int, entry: Callable[[int], str], flags: str) -> None:
    """The source is among those remembered as denied; nothing is written to the maps meanwhile."""
    in_force(bench, {entry(version): NOW + 5})
    assert [reason(bench, version, flags) for _ in range(3)] == ["deny"] * 3
    at(bench, 4)
    assert reason(bench, version, flags) == "deny"
    at(bench, 5)
    assert [reason(bench, version, flags) for _ in range(3)] == ["pass"] * 3
    assert hits(bench, 0) == [4]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("version", [4, 6])
def test_a_shorter_prefix_goes_on(bench: Bench, version: int, own: bool) -> None:
    """Of the same list or of another, whose hits count from then on; one that has ended too is passed over."""
    inner, outer = AROUND[version]
    longer = {SOURCES[version]: NOW + 5, inner: NOW + 3}
    in_force(bench, longer | {outer: 0} if own else longer, {} if own else {outer: 0})
    assert reason(bench, version) == "deny"
    at(bench, 4)
    assert reason(bench, version) == "deny"
    at(bench, 6)
    assert [reason(bench, version) for _ in range(2)] == ["deny"] * 2
    assert hits(bench, 0, 1) == [4, 0] if own else [2, 2]


def test_the_same_prefix_in_several_lists_lasts_as_long_as_it_does_in_any(bench: Bench) -> None:
    for version in (4, 6):
        entry, other = AROUND[version]
        in_force(bench, {entry: NOW + 5}, {entry: NOW + 9, other: NOW + 2}, {entry: NOW + 9})
        for seconds, expected in ((0, "deny"), (6, "deny"), (9, "pass")):
            at(bench, seconds)
            assert reason(bench, version) == expected
    assert hits(bench, 0, 1, 2) == [0, 4, 0], "of those that last longest, it is the first one's"


@pytest.mark.parametrize("version", [4, 6])
def test_every_address_until_an_end(bench: Bench, version: int) -> None:
    """A prefix of no bits is written as two halves."""
    in_force(bench, {"0.0.0.0/0": NOW + 5, "::/0": NOW + 5})
    assert reason(bench, version) == "deny"
    at(bench, 5)
    assert reason(bench, version) == "pass"


def test_ipv6_prefixes_that_are_split_keep_their_ends(bench: Bench) -> None:
    """There are more lengths than the index has; the prefix around the source is one of the rarest."""
    others = {f"2001:{length:x}:{at}::/{length}": 0 for length in range(44, 64) for at in ("0", "8000")}
    in_force(bench, {"2001:db8::/43": NOW + 5} | others)
    assert reason(bench, 6) == "deny"
    at(bench, 5)
    assert reason(bench, 6) == "pass"


@pytest.mark.parametrize("version", [4, 6])
def test_a_shadow_entry_ends(bench: Bench, version: int) -> None:
    with ShadowListMaps(bench.pins) as maps, ShadowTables(bench.pins) as tables:
        load(maps, {AROUND[version][0]: NOW + 5}, {AROUND[version][1]: NOW + 9})
        for seconds in (0, 6, 9):
            at(bench, seconds)
            assert reason(bench, version) == "pass"
        counted = tables.hits()
        assert [counted(abi.SHADOW_RULES + number).other.packets for number in (0, 1)] == [1, 1]


def test_ends_come_back_from_the_kernel(bench: Bench) -> None:
    lists = [
        {"198.51.100.0/24": NOW + 5, "198.51.100.7": NOW + 50, "2001:db8::/32": NOW + 7},
        {"192.0.2.1": 0, "2001:db8:1::1": NOW + 9},
        {"203.0.113.9": 0},
    ]
    in_force(bench, *lists)
    with ListMaps(bench.pins) as maps:
        lines = maps.lines()
    assert lines is not None
    found = rebuilt.sets(lines)
    assert len(found) == len(lists)
    for number, entries in enumerate(lists):
        wanted = timed(entries)
        assert [its.tolist() for its in found[number][:5]] == [its.tolist() for its in wanted[:5]]
        assert found[number].ends4.tolist() == wanted.ends4.tolist()
        assert found[number].ends6.tolist() == wanted.ends6.tolist()


def test_more_ends_than_there_are_numbers_are_rounded_up(bench: Bench) -> None:
    """To the next multiple of two seconds here: an entry is never in force for less long than it should."""
    count = 20_000
    ends = {f"10.{place >> 15 & 255}.{place >> 7 & 255}.{place * 2 & 255}": NOW + place for place in range(1, count)}
    in_force(bench, ends | {SOURCES[4]: NOW + 5})
    rounded = NOW + 5 + (NOW + 5) % 2
    at(bench, rounded - NOW - 1)
    assert reason(bench, 4) == "deny"
    at(bench, rounded - NOW)
    assert reason(bench, 4) == "pass"
    lines = build([(0, timed(ends))], 1).lines
    held = rebuilt.sets(lines)[0].ends4.astype(np.int64)
    wanted = np.arange(1, count) + NOW
    assert set((held - wanted).tolist()) == {0, 1}
