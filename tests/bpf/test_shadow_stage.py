# SPDX-License-Identifier: GPL-2.0
"""Shadow entries on single packets: they change nothing that becomes of one, and count on the entry that would."""

from __future__ import annotations

import functools
import ipaddress
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import Dot1Q, Ether
from support.bench import KEPT, LINK, Answer, Bench, one_cpu
from support.dumps import dump

from xdpguard.dataplane.build.probe import Probe
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.dataplane.tables.index import build
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.dataplane.tables.shadow import CLASSES, ShadowTables
from xdpguard.dataplane.tables.shadowlists import ShadowListMaps
from xdpguard.lists.addresses import AddressSet, aggregate
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import parse_prefix

ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")


class Shadowed:
    """A bench with shadow entries."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.tables = ShadowTables(bench.pins)
        self._rules: list[Rule] = []

    def reset(self) -> None:
        self.bench.reset()
        self.set_clock(0)
        self._rules = []
        self.tables.sync([])
        self.tables.clear_hits(range(abi.SHADOW_RULES + abi.LISTS))
        with ListMaps(self.bench.pins) as real, ShadowListMaps(self.bench.pins) as shadow:
            real.empty()
            shadow.empty()

    def set_clock(self, later: float) -> None:
        self.bench.set_clock(int((time.time() + later + boot_offset()) * 1e9))

    def rule(self, text: str, expires: float | None = None) -> int:
        """A shadow rule; returns its place."""
        slot = len(self._rules)
        rule = Rule(slot + 1, "block", parse_prefix(text)[0], "", "test", 0.0, expires, slot, 0, 0, "shadow")
        self._rules.append(rule)
        self.tables.add([rule])
        return slot

    def lists(self, *lists: list[str]) -> None:
        _load(ShadowListMaps, self.bench, lists)

    def real_lists(self, *lists: list[str]) -> None:
        _load(ListMaps, self.bench, lists)

    def counted(self) -> dict[int, dict[str, int]]:
        """Packets by place and class, those that are not zero."""
        hits = self.tables.hits()
        found = {}
        for place in [*range(len(self._rules)), *range(abi.SHADOW_RULES, abi.SHADOW_RULES + 8)]:
            classes = {name: its.packets for name, its in hits(place)._asdict().items() if its.packets}
            if classes:
                found[place] = classes
        return found


def listed(number: int) -> int:
    return abi.SHADOW_RULES + number


def as_set(texts: list[str]) -> AddressSet:
    nets: list[Any] = [ipaddress.ip_network(text) for text in texts]
    four, six = [net for net in nets if net.version == 4], [net for net in nets if net.version == 6]
    return aggregate(
        np.array([int(net[0]) for net in four], np.uint32),
        np.array([int(net[-1]) for net in four], np.uint32),
        np.array([int(net[0]) >> 64 for net in six], np.uint64),
        np.array([int(net[0]) & (1 << 64) - 1 for net in six], np.uint64),
        np.array([net.prefixlen for net in six], np.uint8),
    )[0]


def _load(kind: type[ListMaps], bench: Bench, lists: tuple[list[str], ...]) -> None:
    with kind(bench.pins) as maps:
        if not lists:
            maps.empty()
            return
        index = build([(number, as_set(texts)) for number, texts in enumerate(lists)], 1)
        maps.swap(index.lines, index.nets4, index.nets6, index.wide6)


@pytest.fixture(scope="module")
def _shadowed() -> Iterator[Shadowed]:
    made = Shadowed(Bench("shadowed", fake_clock=True))
    yield made
    made.tables.close()
    made.bench.close()


@pytest.fixture
def shadowed(_shadowed: Shadowed) -> Iterator[Shadowed]:
    """On one CPU, as what is remembered of a source is each CPU's own."""
    with one_cpu():
        _shadowed.reset()
        yield _shadowed


def frame(source: str, kind: str = "ack", tags: int = 0) -> bytes:
    ip: Any = IPv6(src=source, dst="2001:db8:1::1") if ":" in source else IP(src=source, dst="203.0.113.1")
    behind: Any = {
        "ack": TCP(sport=4000, dport=80, flags="A"),
        "syn": TCP(sport=4000, dport=81, flags="S"),
        "none": TCP(sport=4000, dport=80, flags=0),
        "udp": UDP(sport=4000, dport=53) / b"question",
        "closed": UDP(sport=4000, dport=9) / b"question",
        "icmp": ICMP(),
        "options": (IPv6ExtHdrDestOpt() if ":" in source else b"") / TCP(sport=4000, dport=80, flags="A"),
    }[kind]
    whole: Any = ETHER
    for number in range(tags):
        whole = whole / Dot1Q(vlan=number + 1)
    return bytes(whole / ip / behind).ljust(60, b"\0")


KINDS = ("ack", "syn", "none", "udp", "closed", "icmp", "options")


@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", ["198.51.100.7", "2001:db8::7"])
def test_a_rule_counts_every_kind_of_packet_and_drops_none(
    shadowed: Shadowed, source: str, kind: str, tags: int
) -> None:
    data = frame(source, kind, tags)
    shadowed.bench.rule("port", "9/udp")
    before = shadowed.bench.send(data)
    place = shadowed.rule(source)
    assert shadowed.bench.send(data, 3) == before
    assert shadowed.counted() == {place: {"other": 3}}
    assert shadowed.tables.hits()(place).other == (3, 3 * len(data))
    shadowed.tables.remove(shadowed._rules)
    assert shadowed.bench.send(data) == before
    assert shadowed.counted() == {place: {"other": 3}}


@pytest.mark.parametrize("source", ["198.51.100.7", "2001:db8::7"])
def test_a_list_counts(shadowed: Shadowed, source: str) -> None:
    around = "198.51.100.0/24" if "." in source else "2001:db8::/48"
    shadowed.lists([around], [source])
    assert [shadowed.bench.send(frame(source, kind)).reason for kind in ("ack", "syn", "udp")] == ["pass"] * 3
    assert shadowed.counted() == {listed(1): {"other": 3}}, "the longest prefix is named"
    shadowed.lists([around])
    shadowed.bench.send(frame(source))
    assert shadowed.counted() == {listed(0): {"other": 1}, listed(1): {"other": 3}}
    shadowed.lists()
    shadowed.bench.send(frame(source))
    assert sum(its["other"] for its in shadowed.counted().values()) == 4


def test_a_rule_is_named_before_a_list(shadowed: Shadowed) -> None:
    shadowed.lists(["198.51.100.7/32"])
    place = shadowed.rule("198.51.0.0/16")
    shadowed.bench.send(frame("198.51.100.7"))
    assert shadowed.counted() == {place: {"other": 1}}


@pytest.mark.parametrize("source", ["198.51.100.7", "2001:db8::7"])
def test_what_is_allowed_is_counted_as_that(shadowed: Shadowed, source: str) -> None:
    place = shadowed.rule(source)
    allowance = shadowed.bench.rule("allow", source)
    assert shadowed.bench.send(frame(source)).reason == "allow"
    assert shadowed.counted() == {place: {"allowed": 1}}
    shadowed.bench.remove(allowance)
    assert shadowed.bench.send(frame(source)).reason == "pass"
    assert shadowed.counted() == {place: {"allowed": 1, "other": 1}}


@pytest.mark.parametrize("source", ["198.51.100.7", "2001:db8::7"])
def test_what_drops_is_not_counted(shadowed: Shadowed, source: str) -> None:
    """And a longer shadow prefix makes no hole in a block or a list, by whatever way the packet is known."""
    around, other = ("198.51.100.0/24", "198.51.100.8") if "." in source else ("2001:db8::/32", "2001:db8::8")
    place = shadowed.rule(source)
    shadowed.lists([source])
    for make in (lambda: shadowed.bench.rule("block", around), lambda: shadowed.real_lists([around])):
        rule = make()
        assert [shadowed.bench.send(frame(it)).reason for it in (source, source, other)] == ["deny"] * 3
        assert shadowed.counted() == {}
        if rule:
            shadowed.bench.remove(rule)
    shadowed.real_lists()
    shadowed.bench.send(frame(source))
    assert shadowed.counted() == {place: {"other": 1}}


def test_malformed_packets_and_those_of_the_link_are_not_counted(shadowed: Shadowed) -> None:
    shadowed.rule("0.0.0.0/0")
    shadowed.rule("::/0")
    whole = frame("198.51.100.7")
    for data in (whole[:30], whole[:14] + b"\x44" + whole[15:], bytes(ETHER) + bytes(46)):
        assert shadowed.bench.send(data).reason in ("malformed", "non_ip")
    assert shadowed.counted() == {}
    assert shadowed.bench.send(whole).reason == "pass"
    assert shadowed.counted() == {0: {"other": 1}}


def test_a_source_remembered_as_clean_is_counted(shadowed: Shadowed) -> None:
    shadowed.real_lists(["192.0.2.1"])
    assert [shadowed.bench.send(frame("198.51.100.7")).reason for _ in range(3)] == ["pass"] * 3
    place = shadowed.rule("198.51.100.7")
    assert [shadowed.bench.send(frame("198.51.100.7")).reason for _ in range(3)] == ["pass"] * 3
    assert shadowed.counted() == {place: {"other": 3}}


@pytest.mark.parametrize(("source", "around"), [("198.51.100.7", "198.51.100.0/24"), ("2001:db8::7", "2001:db8::/64")])
def test_a_rule_ends_and_a_shorter_one_goes_on(shadowed: Shadowed, source: str, around: str) -> None:
    now = time.time()
    near, far = shadowed.rule(source, now + 50), shadowed.rule(around, now + 150)
    for later in (0, 100, 200):
        shadowed.set_clock(later)
        assert shadowed.bench.send(frame(source)).reason == "pass"
    assert shadowed.counted() == {near: {"other": 1}, far: {"other": 1}}


def network(chance: random.Random, version: int) -> str:
    base = int(ipaddress.ip_address("198.18.0.0" if version == 4 else "2001:db8::"))
    width = 32 if version == 4 else 128
    number = base ^ chance.getrandbits(12) << chance.choice((0, width // 4))
    length = chance.choice((width, width, width - 4, width - 8, width // 2))
    return str(ipaddress.ip_network((number >> (width - length) << (width - length), length)))


def source(chance: random.Random, version: int) -> str:
    net = ipaddress.ip_network(network(chance, version))
    return str(net[chance.randrange(min(net.num_addresses, 1 << 20))])


@pytest.mark.parametrize("seed", range(6))
def test_no_entry_changes_what_becomes_of_a_packet(shadowed: Shadowed, seed: int) -> None:
    """The same packets without shadow entries and with them, among rules and lists that overlap with them."""
    chance = random.Random(seed)
    bench = shadowed.bench

    def nets(count: int) -> list[str]:
        return [network(chance, chance.choice((4, 6))) for _ in range(count)]

    rules = {(kind, net) for kind in ("allow", "block") for net in nets(8)}
    lists = [nets(10), nets(10)]
    frames = [
        frame(source(chance, chance.choice((4, 6))), chance.choice(KINDS), chance.choice((0, 0, 1, 2)))
        for _ in range(250)
    ]

    def run() -> list[Answer]:
        bench.reset()
        for kind, net in sorted(rules):
            bench.rule(kind, net)  # type: ignore[arg-type]
        bench.rule("port", "9/udp")
        shadowed.real_lists(*lists)
        return [bench.send(data) for data in [*frames, *frames]]

    before = run()
    assert {answer.reason for answer in before} >= {"allow", "deny", "pass"}
    shadow_rules, shadow_lists = sorted(set(nets(40))), [nets(200), nets(200)]
    for net in shadow_rules:
        shadowed.rule(net)
    shadowed.lists(*shadow_lists)
    assert run() == before
    counted = shadowed.counted()
    expected: dict[int, Counter[str]] = {}
    for data, answer in zip([*frames, *frames], before, strict=True):
        place = oracle(data, shadow_rules, shadow_lists)
        if place is not None and answer.reason != "deny":
            expected.setdefault(place, Counter())["allowed" if answer.reason == "allow" else "other"] += 1
    assert counted == {place: dict(its) for place, its in expected.items()}
    assert len(counted) > 2


def oracle(data: bytes, rules: list[str], lists: list[list[str]]) -> int | None:
    """The place of the entry that a plain search finds."""
    packet = Ether(data)
    address = ipaddress.ip_address(packet[IP].src if IP in packet else packet[IPv6].src)

    def longest(nets: list[str]) -> int:
        holding = [_parsed(net) for net in nets if address in _parsed(net)]
        return max((net.prefixlen for net in holding), default=-1)

    best = longest(rules)
    if best >= 0:
        return next(
            place for place, net in enumerate(rules) if _parsed(net).prefixlen == best and address in _parsed(net)
        )
    # Of neighbours that make a whole, a list has the whole.
    joined = [_collapsed(tuple(nets)) for nets in lists]
    lengths = [longest(nets) for nets in joined]
    return None if max(lengths) < 0 else listed(lengths.index(max(lengths)))


@functools.cache
def _collapsed(nets: tuple[str, ...]) -> list[str]:
    found: list[str] = []
    for version in (4, 6):
        same: Any = [net for net in map(_parsed, nets) if net.version == version]
        found += map(str, ipaddress.collapse_addresses(same))
    return found


@functools.cache
def _parsed(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)


@pytest.mark.parametrize("kept", [False, True], ids=["compiled", "kept"])
@pytest.mark.parametrize("probed", ["198.51.100.7", "2001:db8::7"])
def test_the_probe_tells_of_it_and_writes_nothing(shadowed: Shadowed, probed: str, tmp_path: Path, kept: bool) -> None:
    bench = shadowed.bench
    place = shadowed.rule("203.0.113.0/24" if "." in probed else "2001:db8:ffff::/48")
    shadowed.lists([probed])
    folder = KEPT if kept else tmp_path
    if kept:
        Probe(bench.switches, bench.pins, LINK, folder).close()
    with Probe(bench.switches, bench.pins, LINK, folder) as probe:
        assert probe.ask_one(frame("192.0.2.1"), 60)[0]["shadow"] == 0
        before = dump(bench.pins)
        data = frame(probed)
        answer = probe.ask_one(data, len(data))[0]
        assert (answer["shadow"], CLASSES[answer["shadow_class"]]) == (listed(0) + 1, "other")
        assert dump(bench.pins) == before
        bench.rule("allow", probed)
        answer = probe.ask_one(data, len(data))[0]
        assert (answer["shadow"], CLASSES[answer["shadow_class"]]) == (listed(0) + 1, "allowed")
    assert shadowed.counted() == {}
    bench.send(data)
    assert shadowed.counted() == {listed(0): {"allowed": 1}}, "positive control: the program does count"
    assert place == 0


def test_a_slot_in_which_another_rule_has_counted(shadowed: Shadowed) -> None:
    shadowed.rule("198.51.100.7")
    (stray,) = shadowed._rules
    shadowed.bench.send(frame("198.51.100.7"))
    assert shadowed.counted() == {0: {"other": 1}}, "positive control"
    shadowed.tables.sync([stray._replace(target=parse_prefix("192.0.2.1")[0])])
    assert shadowed.counted() == {}
