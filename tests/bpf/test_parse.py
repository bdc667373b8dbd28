# SPDX-License-Identifier: GPL-2.0
"""Every parse case, compared with scapy's dissection of the same frame."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    Jumbo,
    PadN,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, LLC, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw
from support.bench import Bench
from support.oracle import classify

ETHER = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
IP4 = IP(src="198.51.100.7", dst="203.0.113.1")
IP6 = IPv6(src="2001:db8::7", dst="2001:db8:1::1")
OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]

TRANSPORTS = {
    "tcp": TCP(sport=4000, dport=80, flags="S", options=OPTIONS),
    "udp": UDP(sport=4000, dport=53) / Raw(b"question"),
}
NETWORKS: dict[str, Packet] = {
    "ipv4": IP4,
    "ipv4-options": IP(src="198.51.100.7", dst="203.0.113.1", options=[b"\x94\x04\x00\x00"] * 3),
    "ipv6": IP6,
    "ipv6-hop": IP6 / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),
    "ipv6-dest-routing": IP6 / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["2001:db8::9"]),
    "ipv6-fragment-first": IP6 / IPv6ExtHdrFragment(offset=0, m=1, id=7),
    "ipv6-fragment-later": IP6 / IPv6ExtHdrFragment(offset=20, m=0, id=7),
    "ipv4-fragment-first": IP(src="198.51.100.7", dst="203.0.113.1", flags="MF", id=7),
    "ipv4-fragment-later": IP(src="198.51.100.7", dst="203.0.113.1", frag=20, id=7),
}
TAGS: dict[str, Packet] = {
    "plain": ETHER,
    "vlan": ETHER / Dot1Q(vlan=5),
    "qinq": ETHER / Dot1AD(vlan=7) / Dot1Q(vlan=5),
}


def check(bench: Bench, frame: bytes) -> None:
    """The program and scapy agree on reason, protocol and flags of a frame, and on nothing else being counted."""
    expected = classify(frame)
    answer = bench.send(frame)
    assert (answer.reason, answer.protocol, answer.flags) == tuple(expected), frame.hex()
    assert answer.octets == len(frame)
    dropping = ("malformed", "bad_flags", "bad_source")
    assert answer.verdict == ("DROP" if answer.reason in dropping else "PASS")


def _all() -> Iterator[tuple[str, bytes]]:
    for tag, ethernet in TAGS.items():
        for network, ip in NETWORKS.items():
            for transport, payload in TRANSPORTS.items():
                yield f"{tag}/{network}/{transport}", bytes(ethernet / ip.copy() / payload)
            if network.startswith("ipv4"):
                yield f"{tag}/{network}/icmp", bytes(ethernet / ip.copy() / ICMP() / Raw(b"ping"))
            else:
                yield f"{tag}/{network}/icmpv6", bytes(ethernet / ip.copy() / ICMPv6EchoRequest(data=b"ping"))


FRAMES = dict(_all())


@pytest.mark.parametrize("name", FRAMES)
def test_whole_and_truncated_at_every_byte(bench: Bench, name: str) -> None:
    frame = FRAMES[name]
    for length in range(14, len(frame) + 1):
        check(bench, frame[:length])


@pytest.mark.parametrize("name", ["plain/ipv4/tcp", "vlan/ipv4/udp", "plain/ipv6/tcp", "qinq/ipv6/udp"])
def test_whole_frames_pass_and_padding_is_not_part_of_them(bench: Bench, name: str) -> None:
    answer = bench.send(FRAMES[name])
    assert (answer.verdict, answer.reason) == ("PASS", "pass")
    check(bench, FRAMES[name] + bytes(40))


@pytest.mark.parametrize("ihl", range(16))
def test_ihl(bench: Bench, ihl: int) -> None:
    frame = bytearray(bytes(ETHER / IP4 / Raw(bytes(60))))
    frame[14] = 0x40 | ihl
    frame[23] = 17
    header = ihl * 4
    if ihl >= 5:
        frame[14 + header + 4 : 14 + header + 6] = struct.pack("!H", 8)
    answer = bench.send(bytes(frame))
    assert answer.reason == ("malformed" if ihl < 5 else "pass")
    check(bench, bytes(frame))


@pytest.mark.parametrize("ihl", range(16))
def test_ihl_of_a_protocol_nobody_parses(bench: Bench, ihl: int) -> None:
    frame = bytearray(bytes(ETHER / IP4 / Raw(bytes(60))))
    frame[14] = 0x40 | ihl
    frame[23] = 47
    assert bench.send(bytes(frame)).reason == ("malformed" if ihl < 5 else "pass")


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("doff", range(16))
def test_doff(bench: Bench, version: int, doff: int) -> None:
    network = IP4 if version == 4 else IP6
    frame = bytearray(bytes(ETHER / network / TCP(flags="A") / Raw(bytes(24))))
    at = 14 + (20 if version == 4 else 40) + 12
    frame[at] = doff << 4
    # 20 octets of header and 24 behind them: room for a header of 11 words.
    answer = bench.send(bytes(frame))
    assert answer.reason == ("pass" if 5 <= doff <= 11 else "malformed")
    check(bench, bytes(frame))


@pytest.mark.parametrize("version", [0, 3, 5, 6, 15])
def test_version_that_contradicts_the_ethertype(bench: Bench, version: int) -> None:
    frame = bytearray(FRAMES["plain/ipv4/tcp"])
    frame[14] = version << 4 | 5
    assert bench.send(bytes(frame)).reason == "malformed"
    frame = bytearray(FRAMES["plain/ipv6/tcp"])
    frame[14] = (version ^ 2) << 4 if version != 4 else 0x40
    check(bench, bytes(frame))


@pytest.mark.parametrize("total", [0, 19, 20, 39, 40, 64, 65, 1500, 65535])
def test_ipv4_total_length(bench: Bench, total: int) -> None:
    frame = bytearray(bytes(ETHER / IP4 / TCP(flags="A") / Raw(bytes(24))))
    frame[16:18] = struct.pack("!H", total)
    check(bench, bytes(frame))


@pytest.mark.parametrize("payload", [0, 7, 8, 19, 20, 44, 45, 1500, 65535])
def test_ipv6_payload_length(bench: Bench, payload: int) -> None:
    frame = bytearray(bytes(ETHER / IP6 / TCP(flags="A") / Raw(bytes(24))))
    frame[18:20] = struct.pack("!H", payload)
    check(bench, bytes(frame))


@pytest.mark.parametrize("length", [0, 7, 8, 16, 17, 65535])
def test_udp_length(bench: Bench, length: int) -> None:
    for network in (IP4, IP6, IP(src="198.51.100.7", dst="203.0.113.1", flags="MF")):
        frame = bytes(ETHER / network / UDP(sport=1, dport=2, len=length) / Raw(bytes(8)))
        check(bench, frame)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (IP6, "pass"),
        (IP6 / IPv6ExtHdrHopByHop(options=[Jumbo(jumboplen=1)]), "pass"),
        (IP6 / IPv6ExtHdrFragment(m=1), "pass"),
        (IP4, "malformed"),
        (IP(src="198.51.100.7", dst="203.0.113.1", flags="MF"), "malformed"),
    ],
    ids=["ipv6", "ipv6-jumbo", "ipv6-first-fragment", "ipv4", "ipv4-first-fragment"],
)
def test_udp_length_0_stands_for_all_there_is_over_ipv6_alone(bench: Bench, network: Packet, reason: str) -> None:
    frame = bytes(ETHER / network / UDP(sport=1, dport=2, len=0) / Raw(bytes(8)))
    assert bench.send(frame).reason == reason
    check(bench, frame)
    assert bench.send(bytes(ETHER / network / UDP(sport=1, dport=2, len=16) / Raw(bytes(8)))).reason == "pass"
    assert bench.send(bytes(ETHER / network / UDP(sport=1, dport=2, len=7) / Raw(bytes(8)))).reason == "malformed"


@pytest.mark.parametrize("count", range(11))
def test_ipv6_chain_up_to_its_bound(bench: Bench, count: int) -> None:
    packet = ETHER / IP6.copy()
    for _ in range(count):
        packet = packet / IPv6ExtHdrDestOpt()
    frame = bytes(packet / TCP(flags="A"))
    assert bench.send(frame).reason == ("pass" if count <= 8 else "malformed")
    check(bench, frame)


@pytest.mark.parametrize("following", range(256))
def test_every_next_header_and_protocol(bench: Bench, following: int) -> None:
    frame = bytearray(bytes(ETHER / IP6 / Raw(bytes(64))))
    frame[20] = following
    check(bench, bytes(frame))
    frame = bytearray(bytes(ETHER / IP4 / Raw(bytes(64))))
    frame[23] = following
    check(bench, bytes(frame))


def test_hop_by_hop_options_stand_first_or_nowhere(bench: Bench) -> None:
    first = ETHER / IP6.copy() / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / TCP(flags="A")
    assert bench.send(bytes(first)).reason == "pass"
    second = ETHER / IP6.copy() / IPv6ExtHdrDestOpt() / IPv6ExtHdrHopByHop() / TCP(flags="A")
    assert bench.send(bytes(second)).reason == "malformed"


@pytest.mark.parametrize("words", [1, 2, 4, 6])
def test_authentication_headers_count_their_length_in_words_of_four(bench: Bench, words: int) -> None:
    authentication = AH(nh=6, payloadlen=words, spi=1, seq=1, icv=bytes(words * 4 - 4))
    frame = bytes(ETHER / IP6.copy() / authentication / TCP(flags="PA", dport=80))
    frame = frame[:20] + b"\x33" + frame[21:]  # next header 51
    answer = bench.send(frame)
    assert (answer.reason, answer.protocol, answer.flags) == ("pass", "tcp", 0x18)
    for length in range(54, len(frame)):
        check(bench, frame[:length])


@pytest.mark.parametrize(
    ("name", "frame", "reason"),
    [
        ("first", ETHER / IP(frag=0, flags="MF", src="198.51.100.7") / TCP(flags="A") / Raw(bytes(8)), "pass"),
        ("later", ETHER / IP(frag=3, src="198.51.100.7", proto=6) / Raw(bytes(8)), "fragment"),
        ("over the TCP flags", ETHER / IP(frag=1, src="198.51.100.7", proto=6) / Raw(bytes(32)), "malformed"),
        ("udp at offset 8", ETHER / IP(frag=1, src="198.51.100.7", proto=17) / Raw(bytes(32)), "fragment"),
        ("tiny first", ETHER / IP(flags="MF", src="198.51.100.7", proto=6) / Raw(bytes(16)), "malformed"),
        ("beyond 65535", ETHER / IP(frag=8191, src="198.51.100.7", proto=17) / Raw(bytes(16)), "malformed"),
        ("v6 first", ETHER / IP6 / IPv6ExtHdrFragment(m=1) / TCP(flags="A"), "pass"),
        ("v6 atomic", ETHER / IP6 / IPv6ExtHdrFragment() / TCP(flags="A"), "pass"),
        ("v6 later", ETHER / IP6 / IPv6ExtHdrFragment(offset=9) / Raw(bytes(8)), "fragment"),
        ("v6 over the flags", ETHER / IP6 / IPv6ExtHdrFragment(offset=1, nh=6) / Raw(bytes(32)), "malformed"),
        ("v6 two headers", ETHER / IP6 / IPv6ExtHdrFragment() / IPv6ExtHdrFragment() / TCP(), "malformed"),
        ("v6 tiny first", ETHER / IP6 / IPv6ExtHdrFragment(m=1, nh=6) / Raw(bytes(16)), "malformed"),
        ("v6 beyond 65535", ETHER / IP6 / IPv6ExtHdrFragment(offset=8191, nh=17) / Raw(bytes(16)), "malformed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_fragments(bench: Bench, name: str, frame: Packet, reason: str) -> None:
    del name
    assert bench.send(bytes(frame)).reason == reason
    check(bench, bytes(frame))


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("arp", ETHER / ARP()),
        ("llc", Dot3(src="02:00:00:00:00:02", dst="01:80:c2:00:00:00") / LLC() / Raw(bytes(40))),
        ("lldp", Ether(type=0x88CC) / Raw(bytes(40))),
        ("neighbour solicitation", ETHER / IPv6(src="::", dst="ff02::1:ff00:1", hlim=255) / ICMPv6ND_NS()),
        ("router advertisement", ETHER / IPv6(src="fe80::1", dst="ff02::1", hlim=255) / ICMPv6ND_RA()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_ip_passes_even_with_everything_blocked(bench: Bench, name: str, frame: Packet) -> None:
    del name
    bench.rule("block", "0.0.0.0/0")
    bench.rule("block", "::/0")
    assert bench.send(FRAMES["plain/ipv4/tcp"]).reason == "deny"
    assert bench.send(FRAMES["plain/ipv6/tcp"]).reason == "deny"
    answer = bench.send(bytes(frame))
    assert (answer.verdict, answer.reason, answer.protocol, answer.flags) == ("PASS", "non_ip", None, None)


@pytest.mark.parametrize("tags", [3, 4, 5])
def test_more_tags_than_are_parsed_bypass_nothing(bench: Bench, tags: int) -> None:
    packet = ETHER.copy()
    for _ in range(tags):
        packet = packet / Dot1Q(vlan=0)
    answer = bench.send(bytes(packet / IP4.copy() / TCP(flags="A")))
    assert (answer.verdict, answer.reason) == ("DROP", "malformed")


def test_neighbour_discovery_from_beyond_the_link_bypasses_nothing(bench: Bench) -> None:
    bench.rule("block", "::/0")
    near = ETHER / IPv6(src="fe80::1", dst="ff02::1", hlim=255) / ICMPv6ND_NS()
    far = ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=254) / ICMPv6ND_NS()
    assert bench.send(bytes(near)).verdict == "PASS"
    assert bench.send(bytes(far)).reason == "deny"


@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FRAMES)), st.data())
def test_mutated_frames(bench: Bench, name: str, data: st.DataObject) -> None:
    frame = bytearray(FRAMES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(12, len(frame) - 1))
        frame[place] = data.draw(st.integers(0, 255))
    check(bench, bytes(frame[: data.draw(st.integers(14, len(frame)))]))


def test_random_bytes_after_every_ethertype(bench: Bench) -> None:
    source = random.Random(20)
    for _ in range(1500):
        kind = source.choice([b"\x08\x00", b"\x86\xdd", b"\x81\x00\x00\x01\x08\x00", b"\x88\xa8\x00\x01\x86\xdd"])
        body = bytearray(source.randbytes(source.randrange(100)))
        if body:
            body[0] = source.choice([0x45, 0x46, 0x60, body[0]])
        check(bench, bytes(12) + kind + bytes(body))
