# SPDX-License-Identifier: GPL-2.0
"""What lists of the fleet hold, packed and unpacked; the sums over hosts."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import zlib
from types import SimpleNamespace
from typing import cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.cli.answers.fleet import FleetStatus
from xdpguard.fleet import objects
from xdpguard.fleet.client import Connection
from xdpguard.fleet.hosts import SILENT, HostState, Standing, totals
from xdpguard.fleet.message import FleetList
from xdpguard.fleet.objects import packed, unpacked
from xdpguard.fleet.state import Message
from xdpguard.lists.addresses import AddressSet, aggregate
from xdpguard.lists.addresses import unpacked as entries_of
from xdpguard.lists.timed import Given
from xdpguard.policy.fleet import Fleet

NOW = time.time()
V4 = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 32), st.sampled_from([0, 0, 2**31, 2**32 - 1]))
V6 = st.tuples(st.integers(0, 2**128 - 1), st.integers(1, 128), st.sampled_from([0, 0, 2**31]))


def made(four: list[tuple[int, int, int]], six: list[tuple[int, int, int]]) -> AddressSet:
    first = [number >> 32 - length << 32 - length for number, length, _ in four]
    last = [number | (1 << 32 - length) - 1 for number, (_, length, _) in zip(first, four, strict=True)]
    whole = [number >> 128 - length << 128 - length for number, length, _ in six]
    ends = Given(np.array([it[2] for it in four], np.uint32), np.array([it[2] for it in six], np.uint32))
    halves = [[number >> 64 for number in whole], [number & 2**64 - 1 for number in whole]]
    high, low = (np.array(its, np.uint64) for its in halves)
    lengths = np.array([it[1] for it in six], np.uint8)
    return aggregate(np.array(first, np.uint32), np.array(last, np.uint32), high, low, lengths, None, ends)[0]


@given(st.lists(V4, max_size=30), st.lists(V6, max_size=30))
def test_a_list_comes_back_as_it_went(four: list[tuple[int, int, int]], six: list[tuple[int, int, int]]) -> None:
    entries = made(four, six)
    assert entries.valid()
    assert unpacked(packed(entries), len(entries)).packed() == entries.packed()
    if len(entries):
        with pytest.raises(ValueError, match="more than"):
            unpacked(packed(entries), len(entries) - 1)


@given(st.lists(V4, min_size=2, max_size=10, unique_by=lambda it: it[0] >> 31), st.data())
def test_entries_in_another_order_are_none(four: list[tuple[int, int, int]], data: st.DataObject) -> None:
    entries = made(four, [])
    order = data.draw(st.permutations(range(len(entries))))
    network, length = entries.network4[order], entries.length4[order]
    shuffled = AddressSet(network, length, entries.high6, entries.low6, entries.length6)
    assert shuffled.valid() == (order == sorted(order))


@given(st.binary(max_size=300))
def test_whatever_comes_raises_nothing_else(data: bytes) -> None:
    for its in (data, zlib.compress(data), zlib.compress(msgspec.msgpack.encode({"v": 1, "four": data, "six": data}))):
        with contextlib.suppress(ValueError):
            assert unpacked(its, 1000).valid()


def test_what_is_too_short_is_left_out() -> None:
    entries = made([(10 << 24, 8, 0), (192 << 24, 24, 2**31)], [(0x2001 << 112, 16, 0), (0x2002 << 112, 48, 0)])
    left = entries.no_shorter(16, 32)
    assert (left.length4.tolist(), left.length6.tolist(), left.ends4.tolist()) == ([24], [48], [2**31])
    assert entries_of(*left.packed()).packed() == left.packed()
    assert entries.no_shorter(8, 16).packed() == entries.packed()


def test_sums_over_hosts() -> None:
    hosts = [
        HostState(at=NOW, floods=("eth0", "eth1"), bans=2, sources=7, drops={"deny": 10.5, "syn_rate": 1.0}),
        HostState(
            at=NOW - SILENT + 1, bans=1, sources=9, drops={"deny": 2.0, "of another version": 5.0, "bad_flags": -3.0}
        ),
        HostState(at=NOW - SILENT - 1, floods=("eth0",), bans=50, sources=99, drops={"deny": 1000.0}),
    ]
    found = totals(hosts, NOW)
    assert (found.hosts, found.silent, found.flooded, found.floods, found.bans, found.sources) == (3, 1, 1, 2, 3, 9)
    assert found.drops == {"deny": 12.5, "other": 5.0, "syn_rate": 1.0, "bad_flags": 0.0}
    assert totals([], NOW).hosts == 0
    forged = msgspec.json.decode(b'{"at": %d, "drops": {"deny": 1e308}}' % NOW, type=HostState)
    assert totals([forged, forged], NOW).drops["deny"] <= 2e10


def test_ages_are_by_the_server_s_clock() -> None:
    """A host whose clock is wrong is neither silent for it nor, if it is gone, heard of late."""
    now = time.time()
    rows = {"web1": (HostState(at=now - 3600, clock=-3600), now - 5), "web2": (HostState(at=now), now - 3600)}
    stored = [Message(1, name, msgspec.json.encode(its), at) for name, (its, at) in rows.items()]
    found = FleetStatus.of(Fleet(("nats://192.0.2.5",), "web1"), Standing(), 0, stored, [], "", 0.0)
    assert {name: it.silent for name, it in found.hosts.items()} == {"web1": False, "web2": True}
    assert found.totals.silent == 1
    assert "wrong clocks, by which entries end too soon or too late: web1: 1h behind the server's" in found.lines()
    ahead = FleetStatus.of(Fleet(("nats://192.0.2.5",), "web1"), Standing(), 0, stored, [], "", 3600.0)
    assert round(ahead.hosts["web2"].age) == 0, "as the clock of this host is an hour ahead"


class Server:
    """Gives an object; ``lost``: the connection is lost meanwhile."""

    def __init__(self, data: bytes, lost: bool = False) -> None:
        self.data = data
        self.lost = lost
        self.asked = 0

    async def stored(self, stream: str, subject: str, most: int, batch: int) -> list[SimpleNamespace]:
        assert (stream, subject, most, batch) == ("OBJ_xdpguard-lists", "$O.xdpguard-lists.C.x", 2, 32)
        self.asked += 1
        return [] if self.lost else [SimpleNamespace(data=self.data)]


def test_a_list_is_fetched_later_and_again_after_a_lost_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    within: list[float] = []

    def at_once(_: float, most: float) -> float:
        within.append(most)
        return 0.0

    monkeypatch.setattr(random, "uniform", at_once)
    data = packed(made([(10 << 24, 24, 0)], []))
    its = FleetList("bad", objects.digest_of(data), "x", len(data), 1, "")
    done: list[objects.Fetched] = []

    async def work() -> None:
        fetching, lost, good = objects.Fetching(done.append), Server(data, lost=True), Server(data)
        fetching.add(its, 10)
        await fetching.run(cast("Connection", lost), lambda: lost.asked > 0)
        assert not done
        await fetching.run(cast("Connection", good), lambda: bool(done))
        assert (lost.asked, good.asked) == (1, 1)

    asyncio.run(work())
    assert [(it.why, it.entries is not None and len(it.entries)) for it in done] == [("", 1)]
    assert within == [1.0, 1.0]
    many = its._replace(size=1 << 30), its._replace(size=10_000_000)
    assert [objects.spread(it) for it in many] == [120.0, 20.0]
