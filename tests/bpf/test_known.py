# SPDX-License-Identifier: GPL-2.0
"""What is remembered of a source is true only until the deny entries change."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from support.bench import Bench, one_cpu

from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.dataplane.tables.index import build
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.lists.addresses import aggregate
from xdpguard.policy.target import parse_prefix

ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
OTHER = {4: "192.0.2.1", 6: "2001:db8:ffff::1"}
SOURCES = {4: "198.51.100.7", 6: "2001:db8::7"}
AROUND = {4: "198.51.100.0/24", 6: "2001:db8::/32"}


@pytest.fixture(scope="module")
def _timed() -> Iterator[Bench]:
    made = Bench("known", fake_clock=True)
    yield made
    made.close()


@pytest.fixture
def timed(_timed: Bench) -> Iterator[Bench]:
    """A bench on one CPU, as what is remembered is each CPU's own."""
    with one_cpu():
        _timed.reset()
        _timed.set_clock(int((time.time() + boot_offset()) * 1e9))
        with ListMaps(_timed.pins) as maps:
            maps.empty()
        yield _timed


def ack(source: str) -> bytes:
    ip = IPv6(src=source, dst="2001:db8:1::1") if ":" in source else IP(src=source, dst="203.0.113.1")
    return bytes(ETHER / ip / TCP(dport=80, flags="A")).ljust(60, b"\0")


def load(bench: Bench, *lists: list[str]) -> None:
    """Puts lists in force, numbered from 0."""
    sets = []
    for number, texts in enumerate(lists):
        prefixes = [parse_prefix(text)[0] for text in texts]
        four = [it for it in prefixes if it.version == 4]
        six = [it for it in prefixes if it.version == 6]
        first = [int.from_bytes(it.network, "big") for it in four]
        sets.append(
            (
                number,
                aggregate(
                    np.array(first, np.uint32),
                    np.array([a + (1 << 32 - it.length) - 1 for a, it in zip(first, four, strict=True)], np.uint32),
                    np.array([int.from_bytes(it.network[:8], "big") for it in six], np.uint64),
                    np.array([int.from_bytes(it.network[8:], "big") for it in six], np.uint64),
                    np.array([it.length for it in six], np.uint8),
                )[0],
            )
        )
    index = build(sets, 1)
    with ListMaps(bench.pins) as maps:
        maps.swap(index.lines, index.nets4, index.nets6, index.wide6)


def list_hits(bench: Bench, number: int) -> tuple[int, int]:
    with ListMaps(bench.pins) as maps:
        return tuple(maps.hits()(number))  # type: ignore[return-value]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("exact", [True, False])
def test_a_source_known_to_be_clean_is_denied_as_soon_as_something_denies_it(
    timed: Bench, version: int, exact: bool
) -> None:
    frame, target = ack(SOURCES[version]), SOURCES[version] if exact else AROUND[version]
    load(timed, [OTHER[version]])
    assert [timed.send(frame).reason for _ in range(3)] == ["pass"] * 3
    rule = timed.rule("block", target)
    assert timed.send(frame).reason == "deny"
    timed.remove(rule)
    assert [timed.send(frame).reason for _ in range(2)] == ["pass"] * 2
    load(timed, [OTHER[version]], [target])
    assert timed.send(frame).reason == "deny"
    load(timed, [OTHER[version]])
    assert timed.send(frame).reason == "pass"


@pytest.mark.parametrize("version", [4, 6])
def test_a_recently_denied_source_counts_on_its_entry_until_that_goes(timed: Bench, version: int) -> None:
    frame = ack(SOURCES[version])
    load(timed, [OTHER[version]], [SOURCES[version]])
    before = list_hits(timed, 1)
    assert [timed.send(frame).reason for _ in range(5)] == ["deny"] * 5
    assert np.subtract(list_hits(timed, 1), before).tolist() == [5, 5 * len(frame)]
    rule = timed.rule("block", SOURCES[version])
    hits = timed.hits(rule)
    assert [timed.send(frame).reason for _ in range(4)] == ["deny"] * 4
    assert np.subtract(timed.hits(rule), hits).tolist() == [4, 4 * len(frame)]
    assert list_hits(timed, 1)[0] - before[0] == 5, "the rule is named now"
    timed.rule("allow", SOURCES[version])
    assert timed.send(frame).reason == "allow"


def test_a_denial_ends_with_its_rule(timed: Bench) -> None:
    frame = ack(SOURCES[4])
    timed.rule("block", SOURCES[4], time.time() + 100)
    assert [timed.send(frame).reason for _ in range(3)] == ["deny"] * 3
    timed.set_clock(int((time.time() + 101 + boot_offset()) * 1e9))
    assert timed.send(frame).reason == "pass"


def test_many_sources_in_turn_are_not_taken_for_each_other(timed: Bench) -> None:
    denied = [f"198.51.{a}.{b}" for a in range(3) for b in range(100)] + [f"2001:db8::{n:x}:1" for n in range(300)]
    clean = [f"198.51.{a}.{b}" for a in range(3) for b in range(100, 200)] + [f"2001:db8::{n:x}:2" for n in range(300)]
    load(timed, denied)
    turns = [(bad, ack(bad), good, ack(good)) for bad, good in zip(denied, clean, strict=True)]
    for _ in range(3):
        for bad, its, good, others in turns:
            assert timed.send(its).reason == "deny", bad
            assert timed.send(others).reason == "pass", good


def test_an_ipv6_source_is_not_taken_for_an_ipv4_one(timed: Bench) -> None:
    """Its halves may be the same as those that an IPv4 address is remembered by."""
    load(timed, ["8000::/1", "192.0.2.1"])
    for n in range(128):
        for high in ("ffff:ffff:ffff:ffff", "8000::"):
            middle = f"{high}:c633:64{n:02x}:0:0" if high[0] == "f" else f"8000::c633:64{n:02x}"
            assert timed.send(ack(middle)).reason == "deny"
        assert timed.send(ack(f"198.51.100.{n}")).reason == "pass"
