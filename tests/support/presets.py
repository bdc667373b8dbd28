# SPDX-License-Identifier: GPL-2.0
"""Packets that each ready-made filter is for, and honest ones that it leaves alone."""

from __future__ import annotations

from support.matching import ICMP, ICMPV6, TCP, UDP, Sample, packet

GRE = 47
SYN, RST, ACK, PSH = 2, 4, 0x10, 8


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
