# SPDX-License-Identifier: GPL-2.0
"""Random packets whose fields are known, and whether a match matches one."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from topology import CLIENTS4, CLIENTS6, OUTSIDE_MAC, SERVER4, SERVER6, SERVER_MAC

from support import filters
from xdpguard.policy.matching.model import Base, Field, Match

TCP, UDP, ICMP, ICMPV6 = filters.TCP, filters.UDP, filters.ICMP, filters.ICMPV6
ESP = 50
# Values that expressions and packets share, so that they meet.
ADDRESSES4 = ("192.0.2.1", "192.0.2.7", "192.0.2.200", "198.51.100.7", "198.51.101.9", "10.1.2.3")
ADDRESSES6 = ("2001:db8::1", "2001:db8::7", "2001:db8:1::9", "fe80::1", "2001:db8:ffff::ffff")
PORTS = (0, 22, 53, 80, 123, 443, 1023, 1024, 8000, 8005, 8010, 65535)
FLAGS = (0, 1, 2, 4, 0x10, 0x12, 0x11, 0x14, 0x18, 0x29, 0xC2, 0x3F, 0xFF)
TTLS = (0, 1, 5, 63, 64, 255)
DSCPS = (0, 8, 10, 46, 63)
VLANS = (1, 5, 7, 100, 4095)
LENGTHS = (0, 1, 4, 16, 100, 460, 1000)  # bytes of payload


class Sample(NamedTuple):
    """A frame, the fields that it has, and where in it the bases of offsets are."""

    frame: bytes
    fields: Mapping[Field, int]
    bases: Mapping[Base, int]
    extended: bool  # whether IPv6 extension headers are in it


def matches(match: Match, sample: Sample) -> bool:
    """Return whether a match without lists matches a packet, as the linear scan has it."""
    return filters.matches(match, sample.frame, filters.Seen(sample.fields, sample.bases, len(sample.frame)))


def sample(chosen: random.Random, number: int, flags: Sequence[int] = FLAGS) -> Sample:
    """Make a packet, whose destination MAC ends in its number."""
    version = chosen.choice((4, 6))
    protocol = chosen.choice((TCP, TCP, UDP, UDP, ICMP if version == 4 else ICMPV6, ESP))
    fields: dict[Field, int] = {Field.VERSION: version, Field.PROTOCOL: protocol, Field.FRAGMENT: 0}
    fragment = chosen.choice((0, 0, 0, 0, 1, 2))
    fields[Field.FRAGMENT] = fragment
    payload, behind = _transport(chosen, fields, flags)
    ip, network_size = (_ipv4 if version == 4 else _ipv6)(chosen, fields, payload)
    link = b"\x02\0" + number.to_bytes(4, "big") + b"\x02\0\0\0\0\1"
    if chosen.random() < 0.25:
        fields[Field.VLAN_ID] = chosen.choice(VLANS)
        link += struct.pack("!HH", 0x8100, fields[Field.VLAN_ID] | chosen.choice((0, 0x6000)))
    link += struct.pack("!H", 0x0800 if version == 4 else 0x86DD)
    fields[Field.LENGTH] = len(ip)
    bases = {Base.LINK: 0, Base.NETWORK: len(link)}
    if fragment != 2:
        bases[Base.TRANSPORT] = len(link) + network_size
        if behind:
            bases[Base.INNER] = len(link) + network_size + behind
    return Sample(link + ip, fields, bases, version == 6 and network_size > 40)


def _transport(chosen: random.Random, fields: dict[Field, int], flags: Sequence[int]) -> tuple[bytes, int]:
    """Return a transport header with payload, and its size; that of a later fragment is payload alone."""
    payload = chosen.randbytes(chosen.choice(LENGTHS))
    protocol = fields[Field.PROTOCOL]
    if fields[Field.FRAGMENT] == 2:
        return chosen.randbytes(40) + payload, 0
    if protocol in (TCP, UDP):
        fields[Field.SPORT], fields[Field.DPORT] = chosen.choice(PORTS), chosen.choice(PORTS)
        ports = struct.pack("!HH", fields[Field.SPORT], fields[Field.DPORT])
        if protocol == UDP:
            return ports + struct.pack("!HH", 8 + len(payload), 0) + payload, 8
        fields[Field.TCP_FLAGS] = chosen.choice(flags)
        options = chosen.choice((b"", b"\1\1\1\0"))
        size = 20 + len(options)
        rest = struct.pack("!IIBBHHH", 1, 1, size << 2, fields[Field.TCP_FLAGS], 1000, 0, 0)
        return ports + rest + options + payload, size
    if protocol in (ICMP, ICMPV6):
        fields[Field.ICMP_TYPE] = chosen.choice((0, 3, 5, 8, 11, 1, 128, 135))
        fields[Field.ICMP_CODE] = chosen.choice((0, 1, 3, 4, 13))
        return struct.pack("!BBHI", fields[Field.ICMP_TYPE], fields[Field.ICMP_CODE], 0, 7) + payload, 0
    return chosen.randbytes(16) + payload, 0


def _ipv4(chosen: random.Random, fields: dict[Field, int], payload: bytes) -> tuple[bytes, int]:
    source, destination = (socket.inet_aton(chosen.choice(ADDRESSES4)) for _ in range(2))
    fields[Field.IP_SADDR], fields[Field.IP_DADDR] = (int.from_bytes(it, "big") for it in (source, destination))
    fields[Field.DSCP], fields[Field.TTL] = chosen.choice(DSCPS), chosen.choice(TTLS)
    by_fragment = ((0, 0x4000), (0x2000,), (5, 0x2005, 0x1E00))
    fields[Field.FRAG_OFF] = chosen.choice(by_fragment[fields[Field.FRAGMENT]])
    options = chosen.choice((b"", b"", b"\1\1\1\0"))
    size = 20 + len(options)
    ecn = chosen.choice((0, 1))
    start = struct.pack(
        "!BBHHHBBH",
        0x40 | size // 4, fields[Field.DSCP] << 2 | ecn, size + len(payload), 1, fields[Field.FRAG_OFF],
        fields[Field.TTL], fields[Field.PROTOCOL], 0,
    )  # fmt: skip
    return start + source + destination + options + payload, size


def _ipv6(chosen: random.Random, fields: dict[Field, int], payload: bytes) -> tuple[bytes, int]:
    source, destination = (socket.inet_pton(socket.AF_INET6, chosen.choice(ADDRESSES6)) for _ in range(2))
    fields[Field.IP6_SADDR], fields[Field.IP6_DADDR] = (int.from_bytes(it, "big") for it in (source, destination))
    fields[Field.DSCP], fields[Field.TTL] = chosen.choice(DSCPS), chosen.choice(TTLS)
    extensions, following = b"", fields[Field.PROTOCOL]
    if fields[Field.FRAGMENT]:
        offset = 1 if fields[Field.FRAGMENT] == 1 else 5 << 3
        extensions, following = struct.pack("!BBHI", following, 0, offset, 9), 44
    if chosen.random() < 0.2:
        extensions, following = bytes((following, 0, 1, 4, 0, 0, 0, 0)) + extensions, 0  # hop-by-hop options: padding
    first = 6 << 28 | fields[Field.DSCP] << 22 | chosen.choice((0, 0x12345))
    start = struct.pack("!IHBB", first, len(extensions) + len(payload), following, fields[Field.TTL])
    return start + source + destination + extensions + payload, 40 + len(extensions)


def packet(protocol: int, payload: bytes = b"", version: int = 4, **fields: int) -> Sample:
    """Make a packet of the lab's first client for its server; fields by their names in capitals."""
    its: dict[Field, int] = {
        Field.VERSION: version,
        Field.PROTOCOL: protocol,
        Field.FRAGMENT: 0,
        Field.TTL: 60,
        Field.DSCP: 0,
        **({Field.SPORT: 40000, Field.DPORT: 50000} if protocol in (TCP, UDP) else {}),
        **({Field.TCP_FLAGS: 2} if protocol == TCP else {}),
        **({Field.ICMP_TYPE: 8, Field.ICMP_CODE: 0} if protocol in (ICMP, ICMPV6) else {}),
        **{Field[name]: value for name, value in fields.items()},
    }
    transport, behind = _headers(its, len(payload)), 0
    if its[Field.FRAGMENT] == 2:
        transport = b""
        for field in (Field.SPORT, Field.DPORT, Field.TCP_FLAGS, Field.ICMP_TYPE, Field.ICMP_CODE):
            its.pop(field, None)
    elif protocol in (TCP, UDP):
        behind = len(transport)
        its[Field.ESTABLISHED] = its.get(Field.ESTABLISHED, 0)
    network = _network4(its, transport + payload) if version == 4 else _network6(its, transport + payload)
    its[Field.LENGTH] = len(network) + len(transport) + len(payload)
    link = bytes.fromhex((SERVER_MAC + OUTSIDE_MAC).replace(":", "")) + (b"\x08\0" if version == 4 else b"\x86\xdd")
    bases = {Base.LINK: 0, Base.NETWORK: 14}
    if its[Field.FRAGMENT] != 2:
        bases[Base.TRANSPORT] = 14 + len(network)
    if behind:
        bases[Base.INNER] = bases[Base.TRANSPORT] + behind
    return Sample(link + network + transport + payload, its, bases, len(network) > 40)


def _headers(its: Mapping[Field, int], size: int) -> bytes:
    if its[Field.PROTOCOL] == TCP:
        ports = its[Field.SPORT], its[Field.DPORT]
        return struct.pack("!HHIIBBHHH", *ports, 1, 1, 5 << 4, its[Field.TCP_FLAGS], 1000, 0, 0)
    if its[Field.PROTOCOL] == UDP:
        return struct.pack("!HHHH", its[Field.SPORT], its[Field.DPORT], 8 + size, 0)
    return struct.pack("!BBHI", its.get(Field.ICMP_TYPE, 0), its.get(Field.ICMP_CODE, 0), 0, 0)


def _network4(its: dict[Field, int], payload: bytes) -> bytes:
    its[Field.FRAG_OFF] = (0, 0x2000, 5)[its[Field.FRAGMENT]]
    start = struct.pack(
        "!BBHHHBB", 0x45, 0, 20 + len(payload), 1, its[Field.FRAG_OFF], its[Field.TTL], its[Field.PROTOCOL]
    )
    ends = socket.inet_aton(CLIENTS4[0]) + socket.inet_aton(SERVER4)
    words = struct.unpack("!10H", start + b"\0\0" + ends)
    total = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return start + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + ends


def _network6(its: Mapping[Field, int], payload: bytes) -> bytes:
    extension, following = b"", its[Field.PROTOCOL]
    if its[Field.FRAGMENT]:
        extension, following = struct.pack("!BBHI", following, 0, (0, 1, 5 << 3)[its[Field.FRAGMENT]], 9), 44
    ends = socket.inet_pton(socket.AF_INET6, CLIENTS6[0]) + socket.inet_pton(socket.AF_INET6, SERVER6)
    return struct.pack("!IHBB", 6 << 28, len(extension) + len(payload), following, its[Field.TTL]) + ends + extension
