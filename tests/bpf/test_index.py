# SPDX-License-Identifier: GPL-2.0
"""The deny index and the rules against a plain oracle: for a million addresses, the entry that decides about each."""

from __future__ import annotations

import ipaddress
import math
import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.asking import ALLOWED, ASK, BLOCKED, LISTED, Asking

from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.dataplane.tables.index import build, held
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.lists.addresses import AddressSet, aggregate
from xdpguard.lists.timed import Given
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix

Net = ipaddress.IPv4Network | ipaddress.IPv6Network
WIDTHS = {4: 32, 6: 128}
# Where most of it happens, so that entries nest and meet.
BASES = {4: int(ipaddress.ip_address("198.18.0.0")), 6: int(ipaddress.ip_address("2001:db8:12::"))}
SPREAD = {4: (20, 24), 6: (100, 40)}  # bits below which networks differ: wide, near
LENGTHS6 = 16  # of IPv6 prefixes in an index: the others are split
ASKED, ROUNDS, EXAMPLES = 12_500, 8, 10  # a million in all


@pytest.fixture(scope="module")
def asking() -> Iterator[Asking]:
    made = Asking()
    yield made
    made.close()


@pytest.fixture
def maps(asking: Asking) -> Iterator[ListMaps]:
    with ListMaps(asking.bench.pins) as made:
        made.empty()
        yield made


class Oracle:
    """Rules and lists, looked up length by length in dictionaries: slots and numbers by the bits of a prefix."""

    def __init__(self) -> None:
        self.rules: dict[tuple[str, Net], Rule] = {}
        self.lists: dict[int, list[tuple[Net, int]]] = {}  # prefixes and their ends
        self.splits6 = False
        self._tables: dict[tuple[int, int], list[tuple[int, dict[int, int]]]] = {}  # bits to drop, and their dictionary

    def prepare(self, now: float) -> None:
        """To be called when something has changed, the time included."""
        found: dict[tuple[int, int], dict[int, dict[int, int]]] = {
            (version, code): {} for version in (4, 6) for code in (ALLOWED, BLOCKED, LISTED)
        }

        def put(net: Net, code: int, number: int) -> None:
            drop = WIDTHS[net.version] - net.prefixlen
            found[net.version, code].setdefault(drop, {})[int(net.network_address) >> drop] = number

        for (kind, net), rule in self.rules.items():
            if rule.expires is None or rule.expires > now:
                put(net, ALLOWED if kind == "allow" else BLOCKED, rule.slot)
        longest: dict[Net, tuple[float, int]] = {}
        for number in sorted(self.lists, reverse=True):
            for net, end in held_by(as_set(self.lists[number])):
                longest[net] = max(longest.get(net, (0.0, 0)), (end or math.inf, -number))
        for net, (until, number) in longest.items():
            if until > now:
                put(net, LISTED, -number)
        self._tables = {key: sorted(tables.items()) for key, tables in found.items()}
        self.splits6 = len({net.prefixlen for net in longest if net.version == 6}) > LENGTHS6

    def decide(self, version: int, address: int) -> tuple[int, int]:
        for code in (ALLOWED, BLOCKED, LISTED):
            for drop, table in self._tables[version, code]:
                number = table.get(address >> drop)
                if number is not None:
                    return code, number
        return 0, 0


def network(chance: random.Random, version: int) -> Net:
    width = WIDTHS[version]
    near = chance.random() < 0.7
    number = BASES[version] ^ chance.getrandbits(SPREAD[version][int(near) ^ int(version == 4)])
    lengths = [width] * 4 + [chance.randint(width - 20, width), chance.randint(width // 4, width), width // 2]
    length = chance.choice([chance.choice((0, 1, 7, 15)), *lengths] if chance.random() < 0.05 else lengths)
    if version == 6:
        length = chance.choice([length, length, 48, 64, 56, 32])
    kind: Any = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    found: Net = kind((number >> (width - length) << (width - length), length))
    return found


def addresses(chance: random.Random, oracle: Oracle, count: int) -> NDArray[np.void]:
    """Ends of entries and their neighbours, addresses inside, and any others."""
    nets = [net for its in oracle.lists.values() for net, _ in its] + [net for _, net in oracle.rules]
    ends = [(net.version, int(net.network_address), int(net.broadcast_address)) for net in nets]
    asks = np.zeros(count, ASK)
    for place in range(count):
        version = chance.choice((4, 6))
        if ends and chance.random() < 0.8:
            version, first, last = chance.choice(ends)
            number = chance.choice((first, last, first - 1, last + 1, chance.randint(first, last)))
            number %= 1 << WIDTHS[version]
        elif chance.random() < 0.5:
            number = BASES[version] ^ chance.getrandbits(SPREAD[version][0])
        else:
            number = chance.getrandbits(WIDTHS[version])
        asks[place] = (number >> 64, number & (1 << 64) - 1, version, 0)
    return asks


def as_set(entries: list[tuple[Net, int]]) -> AddressSet:
    four = [net for net, _ in entries if net.version == 4]
    six = [net for net, _ in entries if net.version == 6]
    ends4, ends6 = (np.array([end for net, end in entries if net.version == it], np.uint32) for it in (4, 6))
    return aggregate(
        np.array([int(net[0]) for net in four], np.uint32),
        np.array([int(net[-1]) for net in four], np.uint32),
        np.array([int(net[0]) >> 64 for net in six], np.uint64),
        np.array([int(net[0]) & (1 << 64) - 1 for net in six], np.uint64),
        np.array([net.prefixlen for net in six], np.uint8),
        ends=Given(ends4, ends6),
    )[0]


def held_by(its: AddressSet) -> Iterator[tuple[Net, int]]:
    """The prefixes of a set as an index holds them, and their ends."""
    for version, ends in ((4, its.ends4), (6, its.ends6)):
        for place, end in enumerate(ends.tolist()):
            found = its.prefix(version, place)
            net = ipaddress.ip_network((found.network, found.length))
            # All addresses are two halves in an index: another list's half may last longer.
            for half in net.subnets() if net.prefixlen == 0 else [net]:
                yield half, end


def change(chance: random.Random, oracle: Oracle, asking: Asking, maps: ListMaps, now: float) -> None:
    """Some rules come, with and without an end, some go; the lists are swapped."""
    bench = asking.bench
    for _ in range(chance.randint(0, 12)):
        kind, net = chance.choice(("allow", "block", "block")), network(chance, chance.choice((4, 6)))
        if (kind, net) in oracle.rules or net.prefixlen < 8:
            continue
        slot = next(slot for slot in range(4096) if slot not in {rule.slot for rule in oracle.rules.values()})
        end = chance.choice((None, now + 50, now + 150, now - 1))
        target = Prefix(net.network_address.packed, net.prefixlen)
        rule = Rule(slot + 1, kind, target, "", "test", 0.0, end, slot, 0, 0)  # type: ignore[arg-type]
        oracle.rules[kind, net] = rule
        bench.tables.add([rule])
    for key in chance.sample(sorted(oracle.rules, key=str), k=min(len(oracle.rules), chance.randint(0, 4))):
        gone = oracle.rules.pop(key)
        blocks = [net for kind, net in oracle.rules if kind == "block"]

        def touched(net: Prefix, blocks: list[Net] = blocks) -> bool:
            own = ipaddress.ip_network((net.network, net.length))
            return any(own.version == its.version and own.overlaps(its) for its in blocks)

        bench.tables.remove(
            [gone], touched, lambda: [its for (kind, _), its in oracle.rules.items() if kind == "block"]
        )
    for _ in range(chance.randint(1, 3)):
        number = chance.randrange(4)
        size = chance.choice((0, 1, 5, 200))
        ends = (0, 0, int(now) + 30, int(now) + 100) if chance.random() < 0.7 else (0,)
        oracle.lists[number] = [(network(chance, chance.choice((4, 6))), chance.choice(ends)) for _ in range(size)]
        if not size:
            del oracle.lists[number]
    oracle.prepare(now)
    if not oracle.lists:
        maps.empty()
        return
    index = build([(number, as_set(oracle.lists[number])) for number in sorted(oracle.lists)], 1)
    maps.swap(index.lines, index.nets4, index.nets6, index.wide6)
    assert held(index.lines) == {number: count for number, count in index.slots.items() if count}


@settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
@pytest.mark.timeout(600)
def test_the_entry_that_decides(asking: Asking, maps: ListMaps, seed: int) -> None:
    chance, oracle = random.Random(seed), Oracle()
    asking.bench.tables.sync([])
    maps.empty()
    start = time.time()
    for turn in range(ROUNDS):
        now = start + 40 * turn
        asking.bench.set_clock(int((now + boot_offset()) * 1e9))
        change(chance, oracle, asking, maps, now)
        asks = addresses(chance, oracle, ASKED)
        answers = asking.ask(asks)
        for ask, answer in zip(asks.tolist(), answers, strict=True):
            high, low, version, _ = ask
            expected = oracle.decide(version, high << 64 | low)
            if version == 6 and answer[0] == expected[0] == LISTED and oracle.splits6:
                continue  # what a prefix is split into may be another list's entry, and lasts longer
            assert answer == expected, (
                turn,
                ipaddress.ip_address((high << 64 | low).to_bytes(WIDTHS[version] // 8, "big")),
            )
