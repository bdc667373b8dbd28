# SPDX-License-Identifier: GPL-2.0
"""A packet in readable form, and its conversion to and from an Ethernet frame."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

from xdpguard.capture.ethernet import IPV4, IPV6, OWN_MAC

TCP, UDP, ICMP, ICMPV6, FRAGMENT = 6, 17, 1, 58, 44
ECHO = {ICMP: 8, ICMPV6: 128}
TTL = 64
# TCP options as a Linux client sends them in a SYN, in that order.
OPTIONS = {
    "mss": bytes.fromhex("020405b4"),
    "sack": bytes.fromhex("0402"),
    "ts": bytes.fromhex("080a0000000100000000"),
    "ws": bytes.fromhex("01030307"),
}
_OTHER_MAC = bytes.fromhex("020000000002")
_DF, _MF = 0x4000, 0x2000
_VLAN = (b"\x81\x00", b"\x88\xa8")


class Packet(NamedTuple):
    """Addresses of 4 or 16 bytes; ``length`` is the payload after the last header, ``fragment`` the offset, in bytes.

    ``flags``: the TCP flags byte; ``kind``: the ICMP type. Ports are those of TCP and UDP.
    """

    protocol: int
    source: bytes
    destination: bytes
    source_port: int = 0
    destination_port: int = 0
    flags: int = 0
    length: int = 0
    ttl: int = TTL
    fragment: int = 0
    more: bool = False  # more fragments follow
    vlans: tuple[int, ...] = ()
    options: tuple[str, ...] = ()
    kind: int = 0
    sequence: int = 0
    acknowledged: int = 0

    @property
    def version(self) -> int:
        """The IP version: 4 or 6."""
        return 4 if len(self.source) == 4 else 6

    @property
    def has_ports(self) -> bool:
        """Whether it is TCP or UDP, and not a later fragment."""
        return self.protocol in (TCP, UDP) and not self.fragment


def text(address: bytes) -> str:
    """Format an address."""
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address)


def encode(packet: Packet, mac: bytes = OWN_MAC) -> bytes:
    """Build the frame, with the checksums it would have on the wire; ``mac`` is its destination."""
    payload = _transport(packet)
    kind = IPV4 if packet.version == 4 else IPV6
    tags = b""
    for place, vlan in enumerate(packet.vlans):
        outer = place == 0 and len(packet.vlans) > 1
        tags += _VLAN[outer] + struct.pack("!H", vlan)
    network = _ipv4(packet, payload) if packet.version == 4 else _ipv6(packet, payload)
    return mac + _OTHER_MAC + tags + kind + network


def _ipv4(packet: Packet, payload: bytes) -> bytes:
    fragments = packet.fragment >> 3 | (_MF if packet.more else 0) or _DF
    fields = (0x45, 0, 20 + len(payload), 1, fragments, packet.ttl, packet.protocol)
    head = struct.pack("!BBHHHBB", *fields)
    sum_ = _checksum(head + packet.source + packet.destination)
    return head + struct.pack("!H", sum_) + packet.source + packet.destination + payload


def _ipv6(packet: Packet, payload: bytes) -> bytes:
    following = packet.protocol
    if packet.fragment or packet.more:
        payload = struct.pack("!BBHI", following, 0, packet.fragment | packet.more, 1) + payload
        following = FRAGMENT
    head = struct.pack("!IHBB", 6 << 28, len(payload), following, packet.ttl)
    return head + packet.source + packet.destination + payload


def _transport(packet: Packet) -> bytes:
    data = bytes(packet.length)
    if packet.fragment:
        return data
    ports = struct.pack("!HH", packet.source_port, packet.destination_port)
    if packet.protocol == TCP:
        options = b"".join(OPTIONS[name] for name in packet.options)
        options += bytes(-len(options) % 4)
        places = (packet.sequence, packet.acknowledged, (5 + len(options) // 4) << 4, packet.flags, 64_240)
        return _summed(packet, ports + struct.pack("!IIBBHHH", *places, 0, 0) + options + data, 16)
    if packet.protocol == UDP:
        return _summed(packet, ports + struct.pack("!HH", 8 + len(data), 0) + data, 6)
    if packet.protocol in ECHO:
        return _summed(packet, bytes([packet.kind, 0, 0, 0, 0, 0, 0, 0]) + data, 2)
    return data


def _summed(packet: Packet, segment: bytes, at: int) -> bytes:
    pseudo = packet.source + packet.destination + struct.pack("!II", len(segment), packet.protocol)
    if packet.protocol == ICMP:
        pseudo = b""
    found = _checksum(pseudo + segment)
    if not found and packet.protocol == UDP:
        found = 0xFFFF
    return segment[:at] + struct.pack("!H", found) + segment[at + 2 :]


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def decode(frame: bytes) -> Packet | None:
    """Decode a frame for display; return None if it is not an IP packet, or its headers are truncated.

    Packets with IP options or with IPv6 extension headers other than a fragment header are not decoded.
    """
    try:
        return _decode(frame)
    except (struct.error, IndexError):
        return None


def _decode(frame: bytes) -> Packet | None:
    at = 12
    vlans: tuple[int, ...] = ()
    kind = frame[at : at + 2]
    while kind in _VLAN and len(vlans) < 2:
        vlans = (*vlans, struct.unpack_from("!H", frame, at + 2)[0] & 0xFFF)
        at += 4
        kind = frame[at : at + 2]
    at += 2
    if kind == IPV4:
        first, _, total, _, fragments, ttl, protocol, _, source, destination = struct.unpack_from(
            "!BBHHHBBH4s4s", frame, at
        )
        if first != 0x45:
            return None
        fragment, more, at, end = (fragments & 0x1FFF) << 3, bool(fragments & _MF), at + 20, at + total
    elif kind == IPV6:
        first, total, protocol, ttl, source, destination = struct.unpack_from("!IHBB16s16s", frame, at)
        if first >> 28 != 6:
            return None
        at, end, fragment, more = at + 40, at + 40 + total, 0, False
        if protocol == FRAGMENT:
            protocol, _, place, _ = struct.unpack_from("!BBHI", frame, at)
            fragment, more, at = place & 0xFFF8, bool(place & 1), at + 8
    else:
        return None
    found = Packet(protocol, source, destination, ttl=ttl, fragment=fragment, more=more, vlans=vlans, length=end - at)
    return found if fragment else _upper(found, frame, at, end)


def _upper(found: Packet, frame: bytes, at: int, end: int) -> Packet | None:
    if found.protocol == TCP:
        source, destination, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", frame, at)
        header = (offset >> 4) * 4
        options, names = frame[at + 20 : at + header], []
        for name, value in OPTIONS.items():
            if options.startswith(value):
                names.append(name)
                options = options[len(value) :]
        return found._replace(
            source_port=source,
            destination_port=destination,
            sequence=sequence,
            acknowledged=acknowledged,
            flags=flags,
            options=tuple(names),
            length=end - at - header,
        )
    if found.protocol == UDP:
        source, destination = struct.unpack_from("!HH", frame, at)
        return found._replace(source_port=source, destination_port=destination, length=end - at - 8)
    if found.protocol in ECHO:
        return found._replace(kind=frame[at], length=end - at - 8)
    return found
