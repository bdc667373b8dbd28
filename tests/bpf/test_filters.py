# SPDX-License-Identifier: GPL-2.0
"""Filters on single packets: each field and its bounds, order and actions, and many of them against a linear scan."""

from __future__ import annotations

import ipaddress
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NS, IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw
from support.bench import KEPT, LINK, Bench
from support.filters import Pools, scan, seen

from xdpguard.dataplane.build.probe import Probe
from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.layouts.base import places
from xdpguard.dataplane.sys.layouts.counts import Counters
from xdpguard.dataplane.tables.classifier import ClassifierFilter, FilterSetFull, compiled
from xdpguard.dataplane.tables.filters import FilterTables
from xdpguard.policy.limit import parse_limit
from xdpguard.policy.matching.model import Base, Bytes, Field, Match, Range
from xdpguard.policy.matching.model import Test as FieldTest

ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
V4: dict[str, Any] = {"src": "198.51.100.7", "dst": "203.0.113.1"}
V6: dict[str, Any] = {"src": "2001:db8::7", "dst": "2001:db8:1::1"}
FILTER = 3  # XG_PROBE_FILTER
NOW = 1_000_000


class Filtering:
    """A bench with filters."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.tables = FilterTables(bench.pins)
        self._generation = 0

    def reset(self) -> None:
        self.bench.reset()
        self.bench.set_clock(NOW)
        self.tables.empty()
        self.tables.clear_hits(range(abi.FILTER_SLOTS))

    def put(self, *filters: ClassifierFilter) -> None:
        self._generation += 1
        self.tables.replace(*compiled(filters, self._generation))

    def send(self, packet: Packet | bytes) -> str:
        return self.bench.send(framed(packet)).reason

    def hits(self, slot: int) -> tuple[int, int]:
        return self.tables.hits()(slot)[:2]


@pytest.fixture(scope="module")
def _filtering() -> Iterator[Filtering]:
    made = Filtering(Bench("filtering", fake_clock=True, check_flags=False, check_source=False))
    yield made
    made.tables.close()
    made.bench.close()


@pytest.fixture
def filtering(_filtering: Filtering) -> Filtering:
    _filtering.reset()
    return _filtering


def framed(packet: Packet | bytes) -> bytes:
    return packet if isinstance(packet, bytes) else bytes(packet if packet.haslayer(Ether) else ETHER / packet)


def one(match: Match, action: Any = "drop", mode: Any = "enforce", expires: int = 0, slot: int = 0) -> ClassifierFilter:
    return ClassifierFilter(match, action, mode, expires, slot)


def field_in(field: Field, *ranges: Range) -> Match:
    return Match((FieldTest(field, ranges),))


def number(address: str) -> int:
    return int(ipaddress.ip_address(address))


def udp4(**of: Any) -> Packet:
    return IP(**V4 | of) / UDP(sport=53, dport=4000) / Raw(b"answer")


def tcp6(**of: Any) -> Packet:
    return IPv6(**V6 | of) / TCP(sport=4000, dport=443, flags="PA") / Raw(b"request")


# A field, what is admitted, packets that match, packets that do not: bounds, and those that lack the field.
CASES: dict[str, tuple[Field, tuple[Range, ...], list[Packet | bytes], list[Packet | bytes]]] = {
    "ip saddr": (
        Field.IP_SADDR,
        ((number("198.51.100.4"), number("198.51.100.7")), (number("255.255.255.255"),) * 2),
        [udp4(), udp4(src="198.51.100.4"), udp4(src="255.255.255.255")],
        [udp4(src="198.51.100.3"), udp4(src="198.51.100.8"), udp4(src="0.0.0.0"), udp4(src="255.255.255.254"), tcp6()],
    ),
    "ip saddr 0/1": (Field.IP_SADDR, ((0, (1 << 31) - 1),), [udp4(src="127.255.255.255")], [udp4(), tcp6()]),
    "ip daddr": (
        Field.IP_DADDR,
        ((number("203.0.112.0"), number("203.0.113.255")),),
        [udp4(), udp4(dst="203.0.112.0"), udp4(dst="203.0.113.255")],
        [udp4(dst="203.0.111.255"), udp4(dst="203.0.114.0"), tcp6()],
    ),
    "ip6 saddr": (
        Field.IP6_SADDR,
        ((number("2001:db8::7"), number("2001:db8::ff")), (number("2001:db9::"), number("2001:db9:ffff::") - 1)),
        [tcp6(), tcp6(src="2001:db8::ff"), tcp6(src="2001:db9::"), tcp6(src="2001:db9:8000::1")],
        [tcp6(src="2001:db8::6"), tcp6(src="2001:db8::100"), tcp6(src="2001:db9:ffff::"), tcp6(src="::"), udp4()],
    ),
    "ip6 daddr": (
        Field.IP6_DADDR,
        ((0, number("2001:db8:1::1")),),
        [tcp6(), tcp6(dst="::")],
        [tcp6(dst="2001:db8:1::2"), tcp6(dst="ffff::"), udp4()],
    ),
    "nfproto": (Field.VERSION, ((6, 6),), [tcp6()], [udp4()]),
    "l4proto": (
        Field.PROTOCOL,
        ((17, 17), (47, 47)),
        [udp4(), IP(**V4, proto=47) / Raw(b"gre!"), IPv6(**V6) / IPv6ExtHdrDestOpt() / UDP()],
        [tcp6(), IP(**V4) / TCP(), IP(**V4, proto=46) / Raw(b"rsvp")],
    ),
    "l4proto of a fragment": (Field.PROTOCOL, ((17, 17),), [IP(**V4, proto=17, frag=9) / Raw(b"rest")], []),
    "sport": (
        Field.SPORT,
        ((0, 53), (65_535, 65_535)),
        [udp4(), IP(**V4) / TCP(sport=0), IP(**V4) / TCP(sport=65_535)],
        [IP(**V4) / UDP(sport=54), IP(**V4) / ICMP(), IP(**V4, frag=9, proto=17) / Raw(b"\0\65\0\65....")],
    ),
    "dport": (
        Field.DPORT,
        ((440, 443), (512, 767)),
        [tcp6(), IP(**V4) / UDP(dport=440), IP(**V4) / UDP(dport=512), IP(**V4) / UDP(dport=767)],
        [IP(**V4) / UDP(dport=439), IP(**V4) / UDP(dport=444), IP(**V4) / UDP(dport=768), IPv6(**V6, nh=59)],
    ),
    "tcp flags": (
        Field.TCP_FLAGS,
        ((0x18, 0x18), (0xFF, 0xFF)),
        [tcp6(), IP(**V4) / TCP(flags=0xFF)],
        [IP(**V4) / TCP(flags="A"), IP(**V4) / TCP(flags=0), udp4()],
    ),
    "length": (
        Field.LENGTH,
        ((34, 40),),
        [udp4(), IP(**V4) / TCP(), framed(udp4()) + bytes(40)],
        [IP(**V4) / UDP() / Raw(b"12345"), IP(**V4) / TCP() / Raw(b"1"), tcp6()],
    ),
    "length of IPv6": (Field.LENGTH, ((67, 67),), [tcp6()], [tcp6() / Raw(b"1"), udp4()]),
    "dscp": (Field.DSCP, ((8, 8), (63, 63)), [udp4(tos=0x23), tcp6(tc=0x20), tcp6(tc=0xFF)], [udp4(), tcp6(tc=0x24)]),
    "ttl": (Field.TTL, ((0, 1), (255, 255)), [udp4(ttl=1), tcp6(hlim=255), udp4(ttl=0)], [udp4(ttl=2), tcp6()]),
    "frag-off": (
        Field.FRAG_OFF,
        ((1, 0x3FFF),),
        [IP(**V4, flags="MF") / UDP() / Raw(bytes(8)), IP(**V4, frag=9, proto=17) / Raw(b"rest")],
        [udp4(), udp4(flags="DF"), IPv6(**V6) / IPv6ExtHdrFragment(m=1) / UDP()],
    ),
    "first fragment": (
        Field.FRAGMENT,
        ((1, 1),),
        [IP(**V4, flags="MF") / UDP() / Raw(bytes(8)), IPv6(**V6) / IPv6ExtHdrFragment(m=1) / UDP() / Raw(bytes(8))],
        [udp4(), IP(**V4, frag=9, proto=17) / Raw(b"rest"), IPv6(**V6) / IPv6ExtHdrFragment() / UDP()],
    ),
    "later fragment": (
        Field.FRAGMENT,
        ((2, 2),),
        [IP(**V4, frag=9, proto=17) / Raw(b"rest"), IPv6(**V6) / IPv6ExtHdrFragment(offset=9, nh=17) / Raw(b"rest")],
        [udp4(), tcp6(), IP(**V4, flags="MF") / UDP() / Raw(bytes(8))],
    ),
    "icmp type": (
        Field.ICMP_TYPE,
        ((8, 8), (128, 128)),
        [IP(**V4) / ICMP(), IPv6(**V6) / ICMPv6EchoRequest()],
        [IP(**V4) / ICMP(type=0), udp4(), IPv6(**V6, nh=1) / Raw(b"\x08" + bytes(7)), IP(**V4, frag=9) / ICMP()],
    ),
    "icmp code": (Field.ICMP_CODE, ((3, 3),), [IP(**V4) / ICMP(type=3, code=3)], [IP(**V4) / ICMP(), udp4()]),
    "vlan id": (
        Field.VLAN_ID,
        ((5, 7), (4095, 4095)),
        [ETHER / Dot1Q(vlan=7, prio=5) / udp4(), ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=9) / tcp6()],
        [udp4(), ETHER / Dot1Q(vlan=8) / udp4(), ETHER / Dot1Q(vlan=9) / Dot1Q(vlan=7) / udp4()],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_field_and_its_bounds(filtering: Filtering, name: str) -> None:
    field, ranges, matching, others = CASES[name]
    filtering.put(one(field_in(field, *ranges)))
    for packet in matching:
        assert filtering.send(packet) == "filter", framed(packet).hex()
    for packet in others:
        assert filtering.send(packet) in ("pass", "fragment"), framed(packet).hex()
    packets = sum(len(framed(packet)) for packet in matching)
    assert filtering.hits(0) == (len(matching), packets)
    filtering.tables.empty()
    for packet in matching:
        assert filtering.send(packet) in ("pass", "fragment"), "positive control"


ANY = Match()
FROM_53 = field_in(Field.SPORT, (53, 53))


def test_the_first_that_decides_ends_it(filtering: Filtering) -> None:
    filtering.put(one(FROM_53, "pass", slot=3), one(ANY, slot=1), one(FROM_53, slot=2))
    assert filtering.send(udp4()) == "pass"
    assert filtering.send(tcp6()) == "filter"
    filtering.put(one(ANY, slot=1), one(FROM_53, "pass", slot=3))
    assert filtering.send(udp4()) == "filter"
    assert [filtering.hits(slot)[0] for slot in (1, 2, 3)] == [2, 0, 1]


def test_counting_shadow_and_ended_filters_go_on(filtering: Filtering) -> None:
    filtering.put(
        one(ANY, "count", slot=0),
        one(ANY, "drop", "shadow", slot=1),
        one(ANY, "pass", "shadow", slot=2),
        one(ANY, "drop", expires=NOW, slot=3),
        one(ANY, "drop", expires=NOW + 1, slot=4),
        one(ANY, "count", slot=5),
    )
    assert filtering.send(udp4()) == "filter"
    assert [filtering.hits(slot)[0] for slot in range(6)] == [1, 1, 1, 0, 1, 0]
    filtering.bench.set_clock(NOW + 1)
    assert filtering.send(udp4()) == "pass"
    assert [filtering.hits(slot)[0] for slot in range(6)] == [2, 2, 2, 0, 1, 1]


def test_a_whole_set_that_only_counts(filtering: Filtering) -> None:
    """More than one run of the program can ask: it enters itself again."""
    filtering.put(*(one(ANY, "count", slot=slot) for slot in range(1023)), one(ANY, slot=1023))
    assert filtering.send(udp4()) == "filter"
    assert filtering.send(tcp6()) == "filter"
    hits = filtering.tables.hits()
    assert {hits(slot)[:2] for slot in range(1024)} == {(2, len(framed(udp4())) + len(framed(tcp6())))}


def test_a_set_that_is_replaced_in_the_middle_of_a_packet_counts_nothing_twice() -> None:
    """The program finds another set when it is entered again for what is left, once in each packet."""
    entered = "packet->resumed = 1;"

    def edit(text: str) -> str:
        assert text.count(entered) == 1
        return text.replace(entered, f"if (!packet->resumed) packet->generation--; {entered}")

    its = Filtering(Bench("replaced", edit, fake_clock=True))
    try:
        its.reset()
        limit = parse_limit("1/h", "5")
        counting = [one(ANY, "count", slot=slot) for slot in range(200)]
        its.put(ClassifierFilter(ANY, "limit", "enforce", 0, 200, limit), *counting, one(ANY, "drop", slot=201))
        assert [its.send(udp4()) for _ in range(6)] == ["filter"] * 5 + ["filter_limit"]
        hits = its.tables.hits()
        assert [hits(slot)[0] for slot in range(202)] == [5] * 200 + [6, 5]
        assert hits(200)[2] == 1
    finally:
        its.tables.close()
        its.bench.close()


def test_what_is_decided_before_and_what_is_left_alone(filtering: Filtering) -> None:
    filtering.put(one(ANY))
    filtering.bench.rule("allow", "198.51.100.7")
    filtering.bench.rule("block", "198.51.100.8")
    filtering.bench.rule("allow", "198.51.100.9", source="safety")  # the host needs it
    assert filtering.send(udp4()) == "allow"
    assert filtering.send(udp4(src="198.51.100.8")) == "deny"
    assert filtering.send(udp4(src="198.51.100.9")) == "pass"
    assert filtering.send(ETHER / ARP()) == "non_ip"
    assert filtering.send(IPv6(**V6, hlim=255) / ICMPv6ND_NS()) == "non_ip"
    assert filtering.send(udp4(src="198.51.100.10")) == "filter"
    assert filtering.hits(0)[0] == 1
    filtering.put(one(ANY, "count"))
    assert filtering.send(udp4(src="198.51.100.9")) == "pass"
    assert filtering.hits(0)[0] == 2


def test_impossible_matches(filtering: Filtering) -> None:
    both = Match((FieldTest(Field.IP_SADDR, ((0, 1 << 31),)), FieldTest(Field.IP6_SADDR, ((0, 1 << 127),))))
    apart = Match((FieldTest(Field.SPORT, ((0, 52),)), FieldTest(Field.SPORT, ((54, 65_535),))))
    filtering.put(one(both), one(apart), one(field_in(Field.DPORT)))
    assert filtering.send(udp4()) == "pass"
    assert filtering.send(tcp6()) == "pass"


LONG = IP(**V4) / UDP(sport=1, dport=2) / Raw(bytes(range(32)))
BYTES = {
    "payload": (Bytes(Base.INNER, 2, 4, 0xFFFFFFFF, 0x02030405), True),
    "payload, other": (Bytes(Base.INNER, 2, 4, 0xFFFFFFFF, 0x02030404), False),
    "negated": (Bytes(Base.INNER, 2, 4, 0xFFFFFFFF, 0x02030404, True), True),
    "negated, equal": (Bytes(Base.INNER, 2, 4, 0xFFFFFFFF, 0x02030405, True), False),
    "masked": (Bytes(Base.INNER, 3, 2, 0x0F0F, 0x0304), True),
    "beyond the mask": (Bytes(Base.INNER, 3, 2, 0x0F0F, 0x1304), False),
    "sixteen": (Bytes(Base.INNER, 16, 16, (1 << 128) - 1, int.from_bytes(bytes(range(16, 32)), "big")), True),
    "one too far": (Bytes(Base.INNER, 17, 16, 0, 0), False),
    "negated, too far": (Bytes(Base.INNER, 32, 1, 0xFF, 0, True), False),
    "the last": (Bytes(Base.INNER, 31, 1, 0xFF, 31), True),
    "transport": (Bytes(Base.TRANSPORT, 2, 2, 0xFFFF, 2), True),
    "network": (Bytes(Base.NETWORK, 8, 2, 0x00FF, 17), True),
    "link": (Bytes(Base.LINK, 0, 6, (1 << 48) - 1, 0x020000000001), True),
}


@pytest.mark.parametrize("name", BYTES)
@pytest.mark.parametrize("load_bytes", [True, False])
def test_bytes(filtering: Filtering, plain_reads: Filtering, name: str, load_bytes: bool) -> None:
    its = filtering if load_bytes else plain_reads
    test, holds = BYTES[name]
    its.put(one(Match(bytes=(test,))))
    assert its.send(LONG) == ("filter" if holds else "pass")
    padded = framed(LONG) + bytes(64)
    assert its.send(padded) == ("filter" if holds else "pass"), "padding is not part of a packet"


@pytest.fixture(scope="module")
def _plain_reads() -> Iterator[Filtering]:
    """As a kernel without bpf_xdp_load_bytes() has it."""
    switches: dict[str, Any] = {"fake_clock": True, "check_flags": False, "check_source": False, "load_bytes": False}
    made = Filtering(Bench("plainreads", **switches))
    yield made
    made.tables.close()
    made.bench.close()


@pytest.fixture
def plain_reads(_plain_reads: Filtering) -> Filtering:
    _plain_reads.reset()
    return _plain_reads


def test_bytes_behind_headers_of_other_lengths(filtering: Filtering) -> None:
    first = Bytes(Base.INNER, 0, 3, 0xFFFFFF, int.from_bytes(b"GET", "big"))
    filtering.put(one(Match(bytes=(first,))))
    options = [("MSS", 1460), ("NOP", None), ("WScale", 7)]
    for packet in (
        IP(**V4) / TCP(flags="PA", options=options) / Raw(b"GET /"),
        IP(**V4, options=[b"\x94\x04\x00\x00"]) / TCP(flags="PA") / Raw(b"GET /"),
        IPv6(**V6) / IPv6ExtHdrDestOpt() / UDP() / Raw(b"GET /"),
        ETHER / Dot1Q(vlan=3) / IP(**V4) / UDP() / Raw(b"GET /"),
    ):
        assert filtering.send(packet) == "filter"
    for packet in (
        IP(**V4) / TCP(flags="PA", options=options) / Raw(b"PUT /"),
        IP(**V4) / ICMP() / Raw(b"GET /"),
        IP(**V4, frag=9, proto=17) / Raw(b"GETGETGETGETGETGET"),
        IP(**V4, proto=47) / Raw(b"GETGETGETGETGETGET"),
    ):
        assert filtering.send(packet) in ("pass", "fragment")
    filtering.put(one(Match(bytes=(Bytes(Base.TRANSPORT, 0, 3, 0xFFFFFF, int.from_bytes(b"GET", "big")),))))
    assert filtering.send(IP(**V4, proto=47) / Raw(b"GETGET")) == "filter"
    assert filtering.send(IP(**V4, frag=9, proto=17) / Raw(b"GETGET")) == "fragment"


def test_many_different_bytes(filtering: Filtering) -> None:
    tests = [Bytes(Base.INNER, offset % 32, 1, 0xFF, offset % 32, offset >= 32) for offset in range(64)]
    filtering.put(*(one(Match(bytes=(test,)), "count", slot=slot) for slot, test in enumerate(tests)))
    assert filtering.send(LONG) == "pass"
    hits = filtering.tables.hits()
    assert [hits(slot)[0] for slot in range(64)] == [1] * 32 + [0] * 32
    filtering.put(one(Match(bytes=tuple(tests[:32]))))
    assert filtering.send(LONG) == "filter"
    with pytest.raises(FilterSetFull, match="64 different tests of bytes"):
        compiled([one(Match(bytes=(*tests, Bytes(Base.LINK, 0, 1, 0, 0))))])


def test_established_sockets(filtering: Filtering) -> None:
    is_, is_not = field_in(Field.ESTABLISHED, (1, 1)), field_in(Field.ESTABLISHED, (0, 0))
    filtering.put(
        one(is_, "count", slot=0),
        one(is_not, "count", slot=1),
        one(field_in(Field.ESTABLISHED, (0, 1)), "count", slot=2),
    )
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            accepted = server.accept()[0]
            ends = {"sport": client.getsockname()[1], "dport": port}
            filtering.send(IP(src="127.0.0.1", dst="127.0.0.1") / TCP(**ends, flags="A"))
            accepted.close()
        filtering.send(IP(src="198.51.100.7", dst="127.0.0.1") / TCP(sport=1, dport=port, flags="S"))
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as connected:
        connected.bind(("127.0.0.1", 0))
        port = connected.getsockname()[1]
        answer = IP(src="127.0.0.2", dst="127.0.0.1") / UDP(sport=53, dport=port)
        filtering.send(answer)
        connected.connect(("127.0.0.2", 53))
        filtering.send(answer)
    with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("::1", port))) as client:
            ends = {"sport": client.getsockname()[1], "dport": port}
            filtering.send(IPv6(src="::1", dst="::1") / TCP(**ends, flags="A"))
    filtering.send(IP(**V4) / ICMP())
    filtering.send(IP(**V4, frag=9, proto=6) / Raw(b"rest"))
    assert [filtering.hits(slot)[0] for slot in range(3)] == [3, 2, 5]


@pytest.mark.parametrize("seed", range(10))
def test_random_filters_equal_a_linear_scan(filtering: Filtering, seed: int) -> None:
    pools = Pools(seed, (3, 10, 40, 300, 1000)[seed % 5])
    filters = pools.filters((1, 5, 64, 200, 1024)[seed % 5 if seed < 5 else 4])
    filtering.put(*filters)
    matched: Counter[int] = Counter()
    decided = 0
    for _ in range(250):
        frame = pools.frame()
        expected = scan(filters, frame, NOW)
        matched.update(expected.matched)
        answer = filtering.bench.send(frame)
        if answer.reason in ("malformed", "non_ip"):
            matched.subtract(expected.matched)
            continue
        action = "pass" if expected.decides is None else filters[expected.decides].action
        assert answer.verdict == action.upper(), (seed, expected, frame.hex())
        decided += expected.decides is not None
    hits = filtering.tables.hits()
    assert {slot: hits(slot)[0] for slot in range(1024) if hits(slot)[0]} == {k: v for k, v in matched.items() if v}
    assert decided or seed % 5 == 0


def test_many_addresses_of_a_list(filtering: Filtering) -> None:
    """Thousands of bounds, in every /16 and in a single one, as a list brings them."""
    pools = Pools(7, 10)
    wide = sorted(pools.random.sample(range(1 << 32), 10_000))
    narrow = sorted(pools.random.sample(range(1 << 16), 10_000))
    wide6 = sorted((0x20010DB8 << 96) + value for value in {pools.random.getrandbits(96) for _ in range(5_000)})
    sets = {
        Field.IP_SADDR: wide,
        Field.IP_DADDR: [number("203.0.0.0") + value for value in narrow],
        Field.IP6_SADDR: wide6,
    }
    filtering.put(
        *(
            one(field_in(field, *((it, it) for it in values)), slot=slot)
            for slot, (field, values) in enumerate(sets.items())
        )
    )
    makes: dict[Field, Callable[[str], Packet]] = {
        Field.IP_SADDR: lambda address: udp4(src=address),
        Field.IP_DADDR: lambda address: udp4(dst=address),
        Field.IP6_SADDR: lambda address: tcp6(src=address),
    }
    for field, values in sets.items():
        held = set(values)
        for value in pools.random.sample(values, 60):
            for near in (value - 1, value, value + 1):
                address = str(ipaddress.IPv4Address(near) if field.bits == 32 else ipaddress.IPv6Address(near))
                packet = makes[field](address)
                assert filtering.send(packet) == ("filter" if near in held else "pass"), address
    with pytest.raises(FilterSetFull, match="ranges"):
        compiled([one(field_in(Field.IP_SADDR, *((it, it) for it in range(0, 1 << 20, 8))))])


def test_addresses_fill_a_half_and_no_more(filtering: Filtering) -> None:
    """Offsets wrap at the end of a half: what would stand behind it is refused, and the last that fits is found."""

    def networks(count: int) -> Match:
        begins = (0x20010DB8 << 96 | it << 65 for it in range(count))
        return field_in(Field.IP6_SADDR, *((it, it | (1 << 64) - 1) for it in begins))

    def sends(place: int) -> str:
        return filtering.send(tcp6(src=str(ipaddress.IPv6Address(0x20010DB8 << 96 | place << 64 | 7))))

    with pytest.raises(FilterSetFull, match=r"tables of 2,097,[0-9]{3} bytes, of at most 2,097,152"):
        compiled([one(networks(52_430))])
    filtering.put(one(networks(52_400)))
    for place in (0, 2 * 26_000, 2 * 52_399):
        assert sends(place) == "filter"
        assert sends(place + 1) == "pass"


def test_a_set_is_replaced_as_a_whole(filtering: Filtering) -> None:
    assert filtering.tables.in_force() == 0
    lower, upper = compiled([one(FROM_53)], 7)
    filtering.tables.replace(lower, upper)
    assert filtering.tables.in_force() == 7
    whole = bytearray(abi.FILTER_SET_SIZE)
    whole[: len(lower)] = lower
    whole[abi.FILTER_HIGH : abi.FILTER_HIGH + len(upper)] = upper
    assert filtering.tables.digest() == zlib.crc32(whole)
    filtering.tables.replace(*compiled([one(ANY)], 7))
    assert filtering.tables.digest() not in (0, zlib.crc32(whole))
    filtering.tables.empty()
    assert (filtering.tables.in_force(), filtering.tables.digest()) == (0, 0)
    assert filtering.send(udp4()) == "pass"


def test_the_probe_names_the_filter_and_goes_on_without_it(filtering: Filtering) -> None:
    filtering.put(one(FROM_53, slot=5), one(field_in(Field.PROTOCOL, (17, 17)), slot=9))
    frame = framed(udp4())
    with Probe(filtering.bench.switches, filtering.bench.pins, LINK, KEPT) as probe:
        answer = probe.ask_one(frame, len(frame))[0]
        assert (answer["verdict"], answer["entry"], answer["number"]) == (1, FILTER, 5)
        answer = probe.ask_one(frame, len(frame), (FILTER, 5))[0]
        assert (answer["verdict"], answer["entry"], answer["number"]) == (1, FILTER, 9)
        other = framed(tcp6())
        assert probe.ask_one(other, len(other))[0]["verdict"] == 2
    assert filtering.hits(5) == (0, 0)


def test_a_sample_names_the_filter(filtering: Filtering) -> None:
    filtering.put(one(FROM_53, slot=77))
    assert filtering.send(udp4()) == "filter"
    place = places(Counters)["denied_entry"]
    assert (FILTER, 77) in {(row[place], row[place + 1]) for row in filtering.bench._raw()}


def test_the_oracle_sees_what_scapy_wrote() -> None:
    """Positive control of the oracle's own dissection."""
    frame = framed(ETHER / Dot1Q(vlan=7) / udp4(ttl=9, tos=0x20))
    its = seen(frame)
    assert struct.unpack_from("!H", frame, its.bases[Base.INNER] - 8)[0] == its.fields[Field.SPORT] == 53
    assert (its.fields[Field.VLAN_ID], its.fields[Field.TTL], its.fields[Field.DSCP]) == (7, 9, 8)
