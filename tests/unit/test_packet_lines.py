# SPDX-License-Identifier: GPL-2.0
"""Packets as lines: what is written reads the same, the frame is scapy's, and errors name the place."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from xdpguard.capture.line import parse, write
from xdpguard.capture.packet import OPTIONS, Packet, decode, encode
from xdpguard.errors import UsageError

TCP_NUMBER, UDP_NUMBER, ECHO = 6, 17, {1: 8, 58: 128}
U32 = st.integers(0, (1 << 32) - 1)


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    size = draw(st.sampled_from([4, 16]))
    protocol = draw(st.one_of(st.sampled_from([6, 17, 1, 58]), st.integers(0, 255)))
    fragment = draw(st.one_of(st.just(0), st.integers(0, 8191).map(lambda units: units * 8)))
    values: dict[str, Any] = {}
    if not fragment and protocol in (6, 17):
        values = {"source_port": draw(st.integers(0, 65_535)), "destination_port": draw(st.integers(0, 65_535))}
    if not fragment and protocol == 6:
        names = draw(st.sets(st.sampled_from(sorted(OPTIONS))))
        values |= {"flags": draw(st.integers(0, 255)), "sequence": draw(U32), "acknowledged": draw(U32)}
        values["options"] = tuple(name for name in OPTIONS if name in names)
    if not fragment and protocol in ECHO:
        values["kind"] = draw(st.integers(0, 255))
    return Packet(
        protocol,
        draw(st.binary(min_size=size, max_size=size)),
        draw(st.binary(min_size=size, max_size=size)),
        length=draw(st.integers(0, 1400)),
        ttl=draw(st.integers(0, 255)),
        fragment=fragment,
        more=draw(st.booleans()),
        vlans=tuple(draw(st.lists(st.integers(0, 4095), max_size=2))),
        **values,
    )


@given(packets())
def test_what_is_written_reads_the_same(packet: Packet) -> None:
    assert parse(write(packet)) == packet


@given(packets())
def test_the_frame_is_that_packet(packet: Packet) -> None:
    frame = encode(packet)
    if packet.version == 6 and packet.protocol == 44 and not (packet.fragment or packet.more):
        return  # a fragment header is what follows then, and there is none
    assert decode(frame) == packet
    seen = Ether(frame)
    tags = seen.getlayer(Dot1AD), seen.getlayer(Dot1Q)
    assert len(packet.vlans) == sum(tag is not None for tag in tags)
    ip = seen.getlayer(IP if packet.version == 4 else IPv6)
    assert ip is not None
    assert ipaddress.ip_address(ip.src).packed == packet.source
    assert ipaddress.ip_address(ip.dst).packed == packet.destination


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("tcp 198.51.100.7:4000 > 203.0.113.1:80 S len=5", TCP(sport=4000, dport=80, flags="S", window=64240)),
        ("udp 198.51.100.7:4000 > 203.0.113.1:53 len=5", UDP(sport=4000, dport=53)),
        ("icmp 198.51.100.7 > 203.0.113.1 len=5", ICMP()),
        ("tcp [2001:db8::7]:4000 > [2001:db8::1]:80 SA len=5 seq=9 ack=8", TCP(sport=4000, dport=80, flags="SA", seq=9,
                                                                               ack=8, window=64240)),
        ("udp [2001:db8::7]:4000 > [2001:db8::1]:53 len=5", UDP(sport=4000, dport=53)),
        ("icmpv6 2001:db8::7 > [2001:db8::1] len=5", ICMPv6EchoRequest()),
    ],
)  # fmt: skip
def test_frames_are_those_of_scapy(line: str, wanted: Any) -> None:
    ip = IPv6(src="2001:db8::7", dst="2001:db8::1") if "2001" in line else IP(
        src="198.51.100.7", dst="203.0.113.1", flags="DF"
    )  # fmt: skip
    theirs = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01") / ip / wanted / bytes(5)
    assert encode(parse(line)) == bytes(theirs)


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("S", 2), ("s", 2), ("SA", 18), ("S.", 18), (".", 16), ("syn-ack", 18), ("SYN+ACK", 18), ("syn,ack", 18),
        ("none", 0), ("FSRPAUEW", 255), ("rst", 4), ("ece", 64), ("CE", 192), ("psh", 8), ("push-ack", 24),
    ],
)  # fmt: skip
def test_flags_in_letters_and_words(line: str, flags: int) -> None:
    assert parse(f"tcp 1.2.3.4 > 5.6.7.8:9 {line}").flags == flags


def test_spaces_and_defaults() -> None:
    assert parse("TCP 1.2.3.4:5>5.6.7.8:9 S") == parse("tcp 1.2.3.4:5 > 5.6.7.8:9   S ttl=64")
    assert parse("udp 1.2.3.4 > 5.6.7.8:9").source_port
    assert parse("icmp 1.2.3.4 > 5.6.7.8").kind == 8
    assert parse("icmpv6 ::1 > ::2").kind == 128
    assert parse("tcp 1.2.3.4 > 5.6.7.8 frag=16").fragment == 16


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("", "empty"),
        ("tpc 1.2.3.4:5 > 1.2.3.4:6 S", "'tpc'"),
        ("256 1.2.3.4 > 1.2.3.4", "'256'"),
        ("tcp", "at the end"),
        ("tcp 1.2.3.4:5 1.2.3.4:6 S", "'1.2.3.4:6'"),
        ("tcp 1.2.3.4:5 >", "expected SOURCE > DESTINATION"),
        ("tcp 1.2.3:5 > 1.2.3.4:6 S", "'1.2.3:5'"),
        ("tcp 1.2.3.4:x > 1.2.3.4:6 S", "'1.2.3.4:x'"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:65536 S", "'1.2.3.4:65536'"),
        ("tcp 1.2.3.4:5 > 1.2.3.4 S", "a destination with a port"),
        ("tcp [::1]:5 > 1.2.3.4:6 S", "the same IP version"),
        ("tcp [1.2.3.4]:5 > 1.2.3.4:6 S", "'[1.2.3.4]:5'"),
        ("tcp ::1:5 > [::2] S", "a destination with a port"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 Q", "'Q'"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S A", "'A'"),
        ("udp 1.2.3.4:5 > 1.2.3.4:6 S", "no flags"),
        ("icmp 1.2.3.4:5 > 1.2.3.4", "no ports"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 frag=8", "no ports"),
        ("tcp 1.2.3.4 > 1.2.3.4 frag=8 S", "no flags"),
        ("tcp 1.2.3.4 > 1.2.3.4 frag=8 seq=1", "no transport header fields"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S frag=7", "multiple of 8"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S frag=65536", "'frag=65536'"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S ttl=256", "'ttl=256'"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S len=-1", "'len=-1'"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S len=1 len=2", "only once"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S vlan=1,2,3", "'vlan=1,2,3'"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S vlan=4096", "'vlan=4096'"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S options=foo", "'options=foo'"),
        ("udp 1.2.3.4:5 > 1.2.3.4:6 options=mss", "'options=mss'"),
        ("udp 1.2.3.4:5 > 1.2.3.4:6 type=3", "'type=3'"),
        ("tcp 1.2.3.4:5 > 1.2.3.4:6 S colour=red", "'colour=red'"),
    ],
)
def test_what_is_wrong_is_said_where(line: str, where: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(line)
    assert where in str(error.value)
    assert error.value.remedy


@given(st.text(max_size=80))
def test_nothing_else_is_ever_raised(line: str) -> None:
    for text in (line, "tcp 1.2.3.4:5 > 1.2.3.4:6 " + line):
        try:
            packet = parse(text)
        except UsageError:
            continue
        encode(packet)


@given(st.binary(max_size=120))
def test_any_frame_can_be_looked_at(frame: bytes) -> None:
    found = decode(bytes(12) + frame)
    assert found is None or found.version in (4, 6)
