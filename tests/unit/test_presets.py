# SPDX-License-Identifier: GPL-2.0
"""The ready-made filters: each matches the packets that it is for, and not those that are honest."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

import pytest
from support.matching import ICMP, ICMPV6, TCP, UDP, Sample, matches

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec.rule import Does
from xdpguard.policy.flowspec.text import written as flowspec
from xdpguard.policy.matching.model import Base, Field
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.presets.catalogue import PRESETS, preset

GRE = 47
SYN, RST, ACK, PSH = 2, 4, 0x10, 8


def packet(protocol: int, payload: bytes = b"", version: int = 4, **fields: int) -> Sample:
    """A packet without options; what its fields are besides is given by their names, in capitals."""
    given: Mapping[Field, int] = {Field[name]: value for name, value in fields.items()}
    network = b"\0" * (20 if version == 4 else 40)
    transport = {TCP: b"\0" * 20, UDP: b"\0" * 8}.get(protocol, struct.pack("!8x"))
    frame = b"\0" * 14 + network + transport + payload
    made = {
        Field.VERSION: version,
        Field.PROTOCOL: protocol,
        Field.FRAGMENT: 0,
        Field.TTL: 60,
        Field.LENGTH: len(frame) - 14,
        Field.ESTABLISHED: 0,
        **({Field.FRAG_OFF: 0} if version == 4 else {}),
        **({Field.SPORT: 40000, Field.DPORT: 50000} if protocol in (TCP, UDP) else {}),
        **({Field.ICMP_TYPE: 8, Field.ICMP_CODE: 0} if protocol in (ICMP, ICMPV6) else {}),
        **given,
    }
    begin = 14 + len(network)
    bases = {Base.LINK: 0, Base.NETWORK: 14, Base.TRANSPORT: begin, Base.INNER: begin + len(transport)}
    if made[Field.FRAGMENT] == 2:
        bases = {Base.LINK: 0, Base.NETWORK: 14}
        made = {it: made[it] for it in made if it not in (Field.SPORT, Field.DPORT)}
    return Sample(frame, made, bases, False)


def udp(sport: int, payload: bytes | int = 100, version: int = 4, **fields: int) -> Sample:
    data = bytes(payload) if isinstance(payload, int) else payload
    return packet(UDP, data, version, SPORT=sport, **fields)


CONNECTIONLESS = b"\xff\xff\xff\xffstatusResponse"
# What a preset is for, and what it leaves alone.
CASES: dict[str, tuple[list[Sample], list[Sample]]] = {
    "dns": ([udp(53, 1400), udp(53, 1400, 6)], [udp(53, 1232), udp(53, 1232, 6), udp(54, 1400)]),
    "dns-512": ([udp(53, 513)], [udp(53, 512)]),
    "ntp": (
        [udp(123, b"\xd7\0\3\x2a" + bytes(436)), udp(123, b"\x16\x82" + bytes(20))],
        [udp(123, b"\x24" + bytes(47)), udp(123, b"\x1c" + bytes(47), 6), udp(124, b"\xd7" + bytes(439))],
    ),
    "ntp-length": ([udp(123, 440)], [udp(123, 48), udp(123, 68)]),
    "ssdp": ([udp(1900, 300)], [udp(1901, 300)]),
    "memcached": ([udp(11211, 1400)], [udp(11212, 1400)]),
    "cldap": ([udp(389, 1400)], [udp(389, 200)]),
    "chargen": ([udp(19, 74)], [udp(20, 74)]),
    "qotd": ([udp(17, 74)], [udp(18, 74)]),
    "snmp": ([udp(161, 1400)], [udp(161, 484)]),
    "ws-discovery": ([udp(3702, 600)], [udp(3703, 600)]),
    "mdns": ([udp(5353, 300, TTL=57)], [udp(5353, 300, TTL=255)]),
    "mdns6": ([udp(5353, 300, 6, TTL=57)], [udp(5353, 300, 6, TTL=255)]),
    "ripv1": ([udp(520, 504)], [udp(520, 504, DPORT=520)]),
    "portmap": ([udp(111, 486)], [udp(111, 28), udp(111, 60)]),
    "netbios": ([udp(137, 200)], [udp(137, 200, DPORT=137)]),
    "tftp": ([udp(51234, b"\0\3\0\1" + bytes(512))], [udp(51234, b"\0\3\0\2" + bytes(512)), udp(53, b"\0\3\0\1")]),
    "steam": ([udp(27015, CONNECTIONLESS)], [udp(27015, b"\1\2\3\4" + bytes(50)), udp(26999, CONNECTIONLESS)]),
    "quake": (
        [udp(27960, CONNECTIONLESS), udp(26000, CONNECTIONLESS)],
        [udp(27960, b"\1\2\3\4"), udp(27961, CONNECTIONLESS)],
    ),
    "coap": ([udp(5683, 600)], [udp(5684, 600)]),
    "ard": ([udp(3283, 1006)], [udp(3282, 1006)]),
    "dhcpdiscover": ([udp(37810, 700)], [udp(37811, 700)]),
    "rdp": ([udp(3389, 1232)], [udp(3390, 1232)]),
    "slp": ([udp(427, 1400)], [udp(428, 1400)]),
    "mssql": ([udp(1434, 600)], [udp(1433, 600)]),
    "openvpn": ([udp(1194, b"\x40" + bytes(25))], [udp(1194, b"\x48" + bytes(100)), udp(1194, b"\x30" + bytes(100))]),
    "stun": ([udp(3478, b"\1\1\0\x44" + bytes(80))], [udp(3478, b"\x40\0\0\x44" + bytes(80))]),
    "icmp-echo": ([packet(ICMP)], [packet(ICMP, ICMP_TYPE=0), packet(ICMPV6, b"", 6, ICMP_TYPE=128)]),
    "icmpv6-echo": ([packet(ICMPV6, b"", 6, ICMP_TYPE=128)], [packet(ICMPV6, b"", 6, ICMP_TYPE=135), packet(ICMP)]),
    "icmp-echo-reply": ([packet(ICMP, ICMP_TYPE=0)], [packet(ICMP)]),
    "icmp-unreachable": ([packet(ICMP, ICMP_TYPE=3, ICMP_CODE=3)], [packet(ICMP, ICMP_TYPE=3, ICMP_CODE=4)]),
    "icmp-deprecated": ([packet(ICMP, ICMP_TYPE=17)], [packet(ICMP), packet(ICMP, ICMP_TYPE=11)]),
    "icmp-fragments": ([packet(ICMP, FRAGMENT=1), packet(ICMP, bytes(99), FRAGMENT=2)], [packet(ICMP, bytes(1400))]),
    "tcp-synack": (
        [packet(TCP, TCP_FLAGS=SYN | ACK)],
        [packet(TCP, TCP_FLAGS=SYN | ACK, ESTABLISHED=1), packet(TCP, TCP_FLAGS=SYN), packet(TCP, TCP_FLAGS=ACK)],
    ),
    "tcp-rst": (
        [packet(TCP, TCP_FLAGS=RST | ACK)],
        [packet(TCP, TCP_FLAGS=RST, ESTABLISHED=1), packet(TCP, TCP_FLAGS=SYN)],
    ),
    "tcp-ack": (
        [packet(TCP, TCP_FLAGS=ACK), packet(TCP, b"data", TCP_FLAGS=ACK | PSH)],
        [packet(TCP, TCP_FLAGS=ACK, ESTABLISHED=1), packet(TCP, TCP_FLAGS=SYN), packet(TCP, TCP_FLAGS=SYN | ACK)],
    ),
    "tcp-syn-data": (
        [packet(TCP, bytes(900), TCP_FLAGS=SYN)],
        [packet(TCP, bytes(40), TCP_FLAGS=SYN), packet(TCP, bytes(900), TCP_FLAGS=ACK)],
    ),
    "fragments-udp": ([udp(53, 1400, FRAGMENT=1), udp(0, 1400, FRAGMENT=2)], [udp(53, 1400)]),
    "fragments-tcp": ([packet(TCP, bytes(99), TCP_FLAGS=ACK, FRAGMENT=1)], [packet(TCP, bytes(99), TCP_FLAGS=ACK)]),
    "fragments-tiny": ([udp(53, 16, FRAGMENT=1)], [udp(53, 1472, FRAGMENT=1), udp(53, 16, FRAGMENT=2), udp(53, 16)]),
    "udp-empty": ([udp(9, 0)], [udp(9, 1), udp(9, 0, 6)]),
    "udp-empty6": ([udp(9, 0, 6)], [udp(9, 1, 6), udp(9, 20)]),
    "port-0": ([udp(9, 9, DPORT=0), packet(TCP, TCP_FLAGS=SYN, DPORT=0)], [udp(0, 9), packet(ICMP)]),
    "tcp-port-0": ([packet(TCP, TCP_FLAGS=SYN, SPORT=0)], [udp(0, 9), packet(TCP, TCP_FLAGS=SYN)]),
    "gre": ([packet(GRE)], [packet(UDP), packet(ICMP)]),
}


def test_each_has_a_case() -> None:
    assert set(CASES) == {it.name for it in PRESETS}
    assert len(PRESETS) == len(CASES)


@pytest.mark.parametrize("name", CASES)
def test_it_matches_what_it_is_for_and_nothing_honest(name: str) -> None:
    match = parse(preset(name).text)
    for_it, honest = CASES[name]
    assert [matches(match, it) for it in for_it] == [True] * len(for_it)
    assert [matches(match, it) for it in honest] == [False] * len(honest)


@pytest.mark.parametrize("name", CASES)
def test_it_has_an_action_a_source_and_words(name: str) -> None:
    found = preset(name)
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", found.name)
    assert found.source.startswith("https://")
    assert found.summary
    assert (found.action == "limit") == bool(re.fullmatch(r"[1-9][0-9]*/s", found.rate))
    assert found.per in ("filter", "source")


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(UsageError, match="no preset 'memcache'") as caught:
        preset("memcache")
    assert caught.value.remedy == "did you mean memcached?"


def test_those_that_compare_ports_and_lengths_can_be_announced() -> None:
    """What the network in front is asked to do as well: the filters on volume that FlowSpec has words for."""
    announced = {"dns", "ntp-length", "ssdp", "memcached", "cldap", "chargen", "snmp", "fragments-tcp", "ws-discovery"}
    for name in announced:
        rules = flowspec(parse(preset(name).text), Does("drop"), "gobgp").splitlines()
        assert [it.split(" -a ")[1].split()[0] for it in rules] == ["ipv4-flowspec", "ipv6-flowspec"]
