# SPDX-License-Identifier: GPL-2.0
"""What a frame is, according to scapy: the independent opinion that the program's parser is held against.

Fields come from scapy's dissection of each header; the rules applied to them are those the RFCs and README state.
"""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet

_MAX_EXTENSIONS = 8
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AH, _DESTINATION = 0, 43, 44, 51, 60
_OTHER_EXTENSIONS = {135, 139, 140}  # mobility, HIP, shim6: laid out like destination options
_EXTENSIONS = {
    _HOP_BY_HOP: IPv6ExtHdrHopByHop,
    _ROUTING: IPv6ExtHdrRouting,
    _FRAGMENT: IPv6ExtHdrFragment,
    _AH: AH,
    _DESTINATION: IPv6ExtHdrDestOpt,
}


class Expected(NamedTuple):
    """Reason with no rules in force, and what is to be counted."""

    reason: str
    protocol: str | None = None
    flags: int | None = None


_MALFORMED = Expected("malformed")
_NON_IP = Expected("non_ip")


def classify(frame: bytes) -> Expected:
    """What the program should make of a frame of at least 14 bytes, without rules."""
    kind = Ether(frame[:14]).type if int.from_bytes(frame[12:14], "big") > 1535 else 0
    at = 14
    for _ in range(2):
        if kind not in (0x8100, 0x88A8):
            break
        if len(frame) < at + 4:
            return _MALFORMED
        tag: type[Packet] = Dot1Q if kind == 0x8100 else Dot1AD
        kind = tag(frame[at : at + 4]).type
        at += 4
    if kind in (0x8100, 0x88A8):
        return _MALFORMED  # the kernel would take a third tag off and see what is inside
    if kind == 0x0800:
        return _ipv4(frame[at:])
    if kind == 0x86DD:
        return _ipv6(frame[at:])
    return _NON_IP


def _ipv4(data: bytes) -> Expected:
    if len(data) < 20:
        return _MALFORMED
    ip = IP(data[:20])
    header = ip.ihl * 4
    if ip.version != 4 or ip.ihl < 5 or ip.len < header or ip.len > len(data):
        return _MALFORMED
    payload = data[header : ip.len]
    more, offset = bool(ip.flags.MF), ip.frag * 8
    if offset + len(payload) > 65_535 and (offset or more):
        return _MALFORMED
    if offset == 8 and ip.proto == 6:
        return _MALFORMED
    bad_source = _bad_source4(ip.src)
    return _upper(ip.proto, 4, payload, later=bool(offset), more=more, bad_source=bad_source, hop_limit=ip.ttl)


def _ipv6(data: bytes) -> Expected:
    if len(data) < 40:
        return _MALFORMED
    ip = IPv6(data[:40])
    if ip.version != 6 or ip.plen + 40 > len(data):
        return _MALFORMED
    payload = data[40 : 40 + ip.plen]
    following, later, more, seen_fragment = ip.nh, False, False, False
    for place in range(_MAX_EXTENSIONS + 1):
        if following not in _EXTENSIONS and following not in _OTHER_EXTENSIONS:
            break
        if place == _MAX_EXTENSIONS or (following == _HOP_BY_HOP and place):
            return _MALFORMED
        if len(payload) < 8:
            return _MALFORMED
        if following == _FRAGMENT:
            fragment = IPv6ExtHdrFragment(payload[:8])
            payload = payload[8:]
            offset = fragment.offset * 8
            if seen_fragment or offset + len(payload) > 65_535 or (offset == 8 and fragment.nh == 6):
                return _MALFORMED
            seen_fragment, more, following = True, bool(fragment.m), fragment.nh
            if offset:
                later = True
                break
            continue
        length = (payload[1] + 2) * 4 if following == _AH else (payload[1] + 1) * 8
        if length > len(payload):
            return _MALFORMED
        following, payload = payload[0], payload[length:]
    bad_source = _bad_source6(ip.src)
    return _upper(following, 6, payload, later=later, more=more, bad_source=bad_source, hop_limit=ip.hlim)


def _upper(
    protocol: int, version: int, payload: bytes, *, later: bool, more: bool, bad_source: bool, hop_limit: int
) -> Expected:
    name = {(6, 4): "tcp", (6, 6): "tcp", (17, 4): "udp", (17, 6): "udp", (1, 4): "icmp", (58, 6): "icmpv6"}.get(
        (protocol, version), "other"
    )
    flags = None
    if not later:
        if name == "tcp":
            if len(payload) < 20:
                return _MALFORMED
            tcp = TCP(payload[:20])
            if tcp.dataofs < 5 or tcp.dataofs * 4 > len(payload):
                return _MALFORMED
            flags = int(tcp.flags) & 0xFF
        elif name == "udp":
            if len(payload) < 8:
                return _MALFORMED
            udp = UDP(payload[:8])
            length = udp.len or (len(payload) if version == 6 else 0)  # RFC 2675: a jumbogram's does not fit
            if length < 8 or (length > len(payload) and not more):
                return _MALFORMED
        elif name in ("icmp", "icmpv6"):
            if len(payload) < 8:
                return _MALFORMED
            kind = ICMP(payload[:8]).type
            if name == "icmpv6" and 133 <= kind <= 137 and hop_limit == 255 and not more:
                return _NON_IP
    if flags is not None and _bad_flags(flags):
        return Expected("bad_flags", name, flags)
    if bad_source:
        return Expected("bad_source", name, flags)
    return Expected("fragment" if later else "pass", name, flags)


def _bad_flags(flags: int) -> bool:
    """Every segment opens (SYN), resets (RST) or acknowledges (ACK); FIN only ever comes with an ACK alone."""
    core = flags & 0x17  # FIN SYN RST ACK
    return core not in {0x02, 0x12, 0x04, 0x14, 0x10, 0x11}


def _bad_source4(text: str) -> bool:
    address = ipaddress.IPv4Address(text)
    return address.is_multicast or address.is_loopback or text == "255.255.255.255"


def _bad_source6(text: str) -> bool:
    address = ipaddress.IPv6Address(text)
    return address.is_multicast or address.is_loopback or address.ipv4_mapped is not None
