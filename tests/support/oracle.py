# SPDX-License-Identifier: GPL-2.0
"""What a frame is, according to scapy: the independent opinion that the program's parser is held against.

Fields come from scapy's dissection of each header; the rules applied to them are those the RFCs and README state.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether

from support.filters import Seen
from xdpguard.policy.matching.model import Base, Field

_MAX_EXTENSIONS = 8
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _DESTINATION = 0, 43, 44, 51, 60
_EXTENSIONS = {_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _DESTINATION}
_OTHER_EXTENSIONS = {135, 139, 140}  # mobility, HIP, shim6: laid out like destination options


class Expected(NamedTuple):
    """Reason with no rules in force, and what is to be counted."""

    reason: str
    protocol: str | None = None
    flags: int | None = None


class Sound(NamedTuple):
    """A packet whose headers are sound. ``seen``: what filters may ask of it; ``shape``: how it is built."""

    version: int
    source: int
    destination: int
    protocol: str  # as it is counted
    flags: int | None  # of a TCP segment that has them
    ports: tuple[int, int] | None  # of TCP and UDP
    later: bool  # a fragment that is not the first
    seen: Seen
    shape: str


class Refused(NamedTuple):
    """A frame that is decided about before any rule is asked: its reason, and what it is for."""

    reason: str
    shape: str


class _Headers(NamedTuple):
    """What stands before the transport header: at ``behind``, the datagram ends at ``end``."""

    behind: int
    end: int
    protocol: int
    fragment: int  # 0: none, 1: the first, 2: a later one
    shape: str


def classify(frame: bytes) -> Expected:
    """What the program should make of a frame of at least 14 bytes, without rules."""
    found = dissect(frame)
    if isinstance(found, Refused):
        return Expected(found.reason)
    return Expected(sanity(found) or unasked(found), found.protocol, found.flags)


def sanity(packet: Sound) -> str:
    """The reason for which a packet that no rule decides about is dropped, or nothing."""
    if packet.flags is not None and bad_flags(packet.flags):
        return "bad_flags"
    return "bad_source" if bad_source(packet.version, packet.source) else ""


def unasked(packet: Sound) -> str:
    """The reason of a packet to which nobody objects."""
    return "fragment" if packet.later else "pass"


def dissect(frame: bytes) -> Sound | Refused:
    """What a frame of at least 14 bytes is."""
    kind = Ether(frame[:14]).type if int.from_bytes(frame[12:14], "big") > 1535 else 0
    at, vlan = 14, None
    for _ in range(2):
        if kind not in (0x8100, 0x88A8):
            break
        if len(frame) < at + 4:
            return Refused("malformed", "tag cut off")
        tag = (Dot1Q if kind == 0x8100 else Dot1AD)(frame[at : at + 4])
        kind, at = tag.type, at + 4
        vlan = int(tag.vlan) if vlan is None else vlan
    if kind in (0x8100, 0x88A8):
        return Refused("malformed", "third tag")  # the kernel would take it off and see what is inside
    if kind not in (0x0800, 0x86DD):
        return Refused("non_ip", f"type {kind:04x}" if kind in (0, 0x0806) else "type")
    fields: dict[Field, int] = {} if vlan is None else {Field.VLAN_ID: vlan}
    found = (_ipv4 if kind == 0x0800 else _ipv6)(frame, at, fields)
    if isinstance(found, str):
        return Refused("malformed", found)
    return _upper(frame, at, found, fields)


def _ipv4(frame: bytes, at: int, fields: dict[Field, int]) -> _Headers | str:
    left = len(frame) - at
    if left < 20:
        return "ipv4 cut off"
    ip = IP(frame[at : at + 20])
    header = ip.ihl * 4
    if ip.version != 4:
        return "ipv4 version"
    if ip.ihl < 5 or ip.len < header or ip.len > left:
        return "ipv4 ihl" if ip.ihl < 5 else "ipv4 short" if ip.len < header else "ipv4 long"
    more, offset, size = bool(ip.flags.MF), ip.frag * 8, ip.len - header
    if offset + size > 65_535 and (offset or more):
        return "ipv4 beyond 65535"
    if offset == 8 and ip.proto == 6:
        return "ipv4 over the flags"
    fragment = 2 if offset else int(more)
    fields |= {Field.VERSION: 4, Field.LENGTH: ip.len, Field.DSCP: ip.tos >> 2, Field.TTL: ip.ttl}
    fields |= {Field.FRAG_OFF: int(ip.flags) << 13 | ip.frag, Field.FRAGMENT: fragment}
    fields |= {Field.IP_SADDR: int(IPv4Address(ip.src)), Field.IP_DADDR: int(IPv4Address(ip.dst))}
    shape = f"ipv4 options {ip.ihl > 5} fragment {fragment}"
    return _Headers(at + header, at + ip.len, ip.proto, fragment, shape)


def _ipv6(frame: bytes, at: int, fields: dict[Field, int]) -> _Headers | str:
    if len(frame) - at < 40:
        return "ipv6 cut off"
    ip = IPv6(frame[at : at + 40])
    if ip.version != 6:
        return "ipv6 version"
    end = at + 40 + ip.plen
    if end > len(frame):
        return "ipv6 long"
    fields |= {Field.VERSION: 6, Field.LENGTH: ip.plen + 40, Field.DSCP: ip.tc >> 2, Field.TTL: ip.hlim}
    fields |= {Field.IP6_SADDR: int(IPv6Address(ip.src)), Field.IP6_DADDR: int(IPv6Address(ip.dst))}
    found = _extensions(frame, at + 40, end, ip.nh)
    if not isinstance(found, str):
        fields[Field.FRAGMENT] = found.fragment
    return found


def _extensions(frame: bytes, at: int, end: int, following: int) -> _Headers | str:
    chain, fragment, seen_fragment = "", 0, False
    for place in range(_MAX_EXTENSIONS + 1):
        if following not in _EXTENSIONS and following not in _OTHER_EXTENSIONS:
            break
        if place == _MAX_EXTENSIONS or (following == _HOP_BY_HOP and place):
            return "ipv6 chain too long" if place == _MAX_EXTENSIONS else "ipv6 hop-by-hop later"
        if end - at < 8:
            return f"ipv6 extension {following} cut off"
        chain += f" {following}"
        if following == _FRAGMENT:
            part = IPv6ExtHdrFragment(frame[at : at + 8])
            at, offset = at + 8, part.offset * 8
            if seen_fragment or offset + end - at > 65_535 or (offset == 8 and part.nh == 6):
                return "ipv6 two fragment headers" if seen_fragment else "ipv6 beyond 65535 or over the flags"
            seen_fragment, fragment, following = True, 2 if offset else int(part.m), part.nh
            if offset:
                break
            continue
        length = (frame[at + 1] + 2) * 4 if following == _AH else (frame[at + 1] + 1) * 8
        if length > end - at:
            return f"ipv6 extension {following} long"
        following, at = frame[at], at + length
    return _Headers(at, end, following, fragment, f"ipv6{chain} fragment {fragment}")


def _upper(frame: bytes, network: int, ip: _Headers, fields: dict[Field, int]) -> Sound | Refused:
    version, at = fields[Field.VERSION], ip.behind
    name = {(6, 4): "tcp", (6, 6): "tcp", (17, 4): "udp", (17, 6): "udp", (1, 4): "icmp", (58, 6): "icmpv6"}.get(
        (ip.protocol, version), "other"
    )
    fields[Field.PROTOCOL] = ip.protocol
    bases = {Base.LINK: 0, Base.NETWORK: network}
    if ip.fragment != 2:
        bases[Base.TRANSPORT] = at
        refused = _transport(frame, name, ip, fields, bases)
        if refused is not None:
            return refused
    ports = (fields[Field.SPORT], fields[Field.DPORT]) if Field.SPORT in fields else None
    source, destination = (Field.IP_SADDR, Field.IP_DADDR) if version == 4 else (Field.IP6_SADDR, Field.IP6_DADDR)
    return Sound(
        version,
        fields[source],
        fields[destination],
        name,
        fields.get(Field.TCP_FLAGS),
        ports,
        ip.fragment == 2,
        Seen(fields, bases, ip.end),
        f"{network} {ip.shape} {name}",
    )


def _transport(
    frame: bytes, name: str, ip: _Headers, fields: dict[Field, int], bases: dict[Base, int]
) -> Refused | None:
    at, size = ip.behind, ip.end - ip.behind
    if name == "other":
        return None
    if size < (20 if name == "tcp" else 8):
        return Refused("malformed", f"{name} cut off")
    if name == "tcp":
        tcp = TCP(frame[at : at + 20])
        if tcp.dataofs < 5 or tcp.dataofs * 4 > size:
            return Refused("malformed", f"tcp offset {tcp.dataofs < 5}")
        fields |= {Field.TCP_FLAGS: int(tcp.flags) & 0xFF, Field.SPORT: tcp.sport, Field.DPORT: tcp.dport}
        bases[Base.INNER] = at + tcp.dataofs * 4
    elif name == "udp":
        udp = UDP(frame[at : at + 8])
        length = udp.len or (size if fields[Field.VERSION] == 6 else 0)  # RFC 2675: a jumbogram's does not fit
        if length < 8 or (length > size and ip.fragment != 1):
            return Refused("malformed", f"udp length {length < 8}")
        fields |= {Field.SPORT: udp.sport, Field.DPORT: udp.dport}
        bases[Base.INNER] = at + 8
    else:
        icmp = ICMP(frame[at : at + 8] + bytes(12))  # scapy wants the whole of a timestamp request
        fields |= {Field.ICMP_TYPE: icmp.type, Field.ICMP_CODE: icmp.code}
        if name == "icmpv6" and 133 <= icmp.type <= 137 and fields[Field.TTL] == 255 and ip.fragment != 1:
            return Refused("non_ip", "neighbour discovery")
        return None
    fields[Field.ESTABLISHED] = 0  # of no socket of this host
    return None


def bad_flags(flags: int) -> bool:
    """Every segment opens (SYN), resets (RST) or acknowledges (ACK); FIN only ever comes with an ACK alone."""
    core = flags & 0x17  # FIN SYN RST ACK
    return core not in {0x02, 0x12, 0x04, 0x14, 0x10, 0x11}


def bad_source(version: int, source: int) -> bool:
    """Whether no host has that address: multicast, loopback, broadcast, IPv4 in IPv6."""
    if version == 4:
        four = IPv4Address(source)
        return four.is_multicast or four.is_loopback or source == 0xFFFFFFFF
    six = IPv6Address(source)
    return six.is_multicast or six.is_loopback or six.ipv4_mapped is not None
