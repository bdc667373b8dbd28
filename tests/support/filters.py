# SPDX-License-Identifier: GPL-2.0
"""Filters as a linear scan in plain Python: the opinion that the classifier is held against."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from xdpguard.dataplane.tables.classifier import ClassifierFilter
from xdpguard.dataplane.tables.filterentries import Action
from xdpguard.policy.matching.model import Base, Bytes, Field, Match, Range, Test
from xdpguard.policy.rule import Mode

TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
_FRAGMENT = 44
_EXTENSIONS = (0, 43, 60, 135, 139, 140)  # laid out like destination options


class Seen(NamedTuple):
    """What a frame holds: its fields, where tests of bytes begin, and where the datagram ends in it."""

    fields: Mapping[Field, int]
    bases: Mapping[Base, int]
    end: int


def seen(frame: bytes) -> Seen:
    """Dissect a frame with sound headers, which belongs to no socket."""
    fields: dict[Field, int] = {}
    at, kind = 14, int.from_bytes(frame[12:14], "big")
    while kind in (0x8100, 0x88A8):
        fields.setdefault(Field.VLAN_ID, int.from_bytes(frame[at : at + 2], "big") & 0xFFF)
        kind, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    bases = {Base.LINK: 0, Base.NETWORK: at}
    if kind == 0x0800:
        behind, end, protocol = _ipv4(frame, at, fields)
    else:
        behind, end, protocol = _ipv6(frame, at, fields)
    fields[Field.PROTOCOL] = protocol
    if fields[Field.FRAGMENT] != 2:
        bases[Base.TRANSPORT] = behind
        if protocol in (TCP, UDP):
            fields[Field.SPORT], fields[Field.DPORT] = struct.unpack_from("!HH", frame, behind)
            fields[Field.ESTABLISHED] = 0
            bases[Base.INNER] = behind + (8 if protocol == UDP else (frame[behind + 12] >> 4) * 4)
        if protocol == TCP:
            fields[Field.TCP_FLAGS] = frame[behind + 13]
        if protocol == (ICMP if fields[Field.VERSION] == 4 else ICMPV6):
            fields[Field.ICMP_TYPE], fields[Field.ICMP_CODE] = frame[behind], frame[behind + 1]
    return Seen(fields, bases, end)


def _ipv4(frame: bytes, at: int, fields: dict[Field, int]) -> tuple[int, int, int]:
    first, tos, length, _, offset, ttl, protocol = struct.unpack_from("!BBHHHBB", frame, at)
    fields |= {Field.VERSION: 4, Field.LENGTH: length, Field.DSCP: tos >> 2, Field.TTL: ttl, Field.FRAG_OFF: offset}
    fields[Field.FRAGMENT] = 2 if offset & 0x1FFF else 1 if offset & 0x2000 else 0
    fields[Field.IP_SADDR], fields[Field.IP_DADDR] = struct.unpack_from("!II", frame, at + 12)
    return at + (first & 15) * 4, at + length, protocol


def _ipv6(frame: bytes, at: int, fields: dict[Field, int]) -> tuple[int, int, int]:
    word, payload, protocol, hops = struct.unpack_from("!IHBB", frame, at)
    fields |= {Field.VERSION: 6, Field.LENGTH: payload + 40, Field.DSCP: word >> 22 & 63, Field.TTL: hops}
    fields[Field.FRAGMENT] = 0
    fields[Field.IP6_SADDR] = int.from_bytes(frame[at + 8 : at + 24], "big")
    fields[Field.IP6_DADDR] = int.from_bytes(frame[at + 24 : at + 40], "big")
    end, at = at + 40 + payload, at + 40
    while protocol in _EXTENSIONS or protocol == _FRAGMENT:
        if protocol == _FRAGMENT:
            offset = int.from_bytes(frame[at + 2 : at + 4], "big")
            fields[Field.FRAGMENT] = 2 if offset & 0xFFF8 else offset & 1
            protocol, at = frame[at], at + 8
            if offset & 0xFFF8:
                break
        else:
            protocol, at = frame[at], at + (frame[at + 1] + 1) * 8
    return at, end, protocol


def matches(match: Match, frame: bytes, its: Seen) -> bool:
    """Whether a frame passes every test."""
    return all(_passes(test, its) for test in match.tests) and all(_holds(test, frame, its) for test in match.bytes)


def _passes(test: Test, its: Seen) -> bool:
    value = its.fields.get(test.field)
    return value is not None and any(first <= value <= last for first, last in test.ranges)


def _holds(test: Bytes, frame: bytes, its: Seen) -> bool:
    if test.base not in its.bases:
        return False
    at = its.bases[test.base] + test.offset
    if at + test.size > (len(frame) if test.base is Base.LINK else its.end):
        return False
    return (int.from_bytes(frame[at : at + test.size], "big") & test.mask == test.value) != test.negated


class Decided(NamedTuple):
    """What filters make of a packet: the place of the one that decides, if any, and of all that match until then."""

    decides: int | None
    matched: list[int]


def scan(filters: Sequence[ClassifierFilter], frame: bytes, now: int = 0, its: Seen | None = None) -> Decided:
    """Ask the filters one after the other. Limits are kept. ``its``: the frame's, if it was dissected before."""
    its, matched = its or seen(frame), []
    for place, one in enumerate(filters):
        if one.expires_ns and one.expires_ns <= now:
            continue
        if matches(one.match, frame, its):
            matched.append(place)
            if one.mode == "enforce" and one.action in ("drop", "pass"):
                return Decided(place, matched)
    return Decided(None, matched)


class Pools:
    """Values that filters and packets draw from, so that they meet: some of each field, and their neighbours."""

    def __init__(self, seed: int, size: int) -> None:
        self.random = random.Random(seed)
        self._values = {field: [self.random.getrandbits(field.bits) for _ in range(size)] for field in Field}
        for field in (Field.IP_SADDR, Field.IP_DADDR, Field.IP6_SADDR, Field.IP6_DADDR):
            near = [self.random.getrandbits(field.bits) for _ in range(max(1, size // 8))]
            low = (1 << field.bits // 4) - 1
            self._values[field] = [self.random.choice(near) & ~low | value & low for value in self._values[field]]
            if field.bits == 128:  # global unicast addresses
                self._values[field] = [value >> 3 | 1 << 125 for value in self._values[field]]
        self._values[Field.VERSION] = [4, 6]
        self._values[Field.PROTOCOL] = [TCP, UDP, ICMP, ICMPV6, 47]
        self._values[Field.FRAGMENT] = [0, 1, 2]
        self._values[Field.LENGTH] = [self.random.randrange(28, 400) for _ in range(size)]
        self._values[Field.FRAG_OFF] = [0, 0x4000, 0x2000, 0x2003, 0x0007, 0x1FFF]

    def value(self, field: Field) -> int:
        """One of the values, or one next to it."""
        value = self.random.choice(self._values[field]) + self.random.choice((0, 0, 0, 0, 1, -1))
        return min(max(value, 0), (1 << field.bits) - 1)

    def ranges(self, field: Field) -> tuple[Range, ...]:
        """A value, a prefix, a range, some of these, or all but them."""
        found: list[Range] = []
        for _ in range(self.random.choice((1, 1, 1, 2, 5))):
            value = self.value(field)
            kind = self.random.randrange(3)
            low = (1 << self.random.randrange(field.bits)) - 1
            if kind == 0:
                found.append((value, value))
            elif kind == 1:
                found.append((value & ~low, value | low))
            else:
                found.append((value, min(value + low, (1 << field.bits) - 1)))
        joined = _joined(found)
        return _others(joined, (1 << field.bits) - 1) if self.random.random() < 0.15 else joined

    def match(self, most: int = 3) -> Match:
        """A match of up to so many tests."""
        chosen = self.random.sample([it for it in Field if it is not Field.ESTABLISHED], self.random.randint(0, most))
        return Match(tuple(Test(field, self.ranges(field)) for field in chosen))

    def frame(self) -> bytes:
        """A frame with sound headers: tags, fragments, IPv6 extension headers among them."""
        draw, value = self.random, self.value
        protocol, later = draw.choice((TCP, UDP, ICMP, ICMPV6, 47)), draw.choice((0, 0, 0, 1, 2))
        ports = struct.pack("!HH", value(Field.SPORT), value(Field.DPORT))
        body = bytes([value(Field.ICMP_TYPE), value(Field.ICMP_CODE)]) + bytes(6)
        if protocol == TCP:
            body = ports + bytes(8) + bytes([0x50, value(Field.TCP_FLAGS)]) + bytes(6)
        elif protocol == UDP:
            body = ports + struct.pack("!HH", 8, 0)
        body += draw.randbytes(max(0, value(Field.LENGTH) - len(body) - 40))
        kind, packet = self._packet(draw.choice((4, 6)), protocol, later, body)
        tags = b""
        if draw.random() < 0.3:
            tags = struct.pack("!HH", 0x8100, draw.choice((0, 0x2000)) | value(Field.VLAN_ID))
            tags += struct.pack("!HH", 0x8100, draw.getrandbits(12)) if draw.random() < 0.3 else b""
        return bytes.fromhex("020000000001020000000002") + tags + struct.pack("!H", kind) + packet

    def _packet(self, version: int, protocol: int, fragment: int, body: bytes) -> tuple[int, bytes]:
        draw, value = self.random, self.value
        if version == 4:
            offset = {0: draw.choice((0, 0x4000)), 1: 0x2000, 2: draw.choice((0x2003, 7, 0x1FFF))}[fragment]
            body = body[:7] if offset == 0x1FFF else body  # no longer than a datagram may be
            head = 0x45, value(Field.DSCP) << 2 | draw.getrandbits(2), 20 + len(body), 7, offset, value(Field.TTL)
            addresses = value(Field.IP_SADDR), value(Field.IP_DADDR)
            return 0x0800, struct.pack("!BBHHHBBHII", *head, protocol, 0, *addresses) + body
        extension, following = b"", protocol
        if fragment or draw.random() < 0.1:
            offset = {0: 0, 1: 1, 2: draw.choice((24, 25))}[fragment]
            extension, following = struct.pack("!BBHI", protocol, 0, offset, 9), _FRAGMENT
        if draw.random() < 0.1:
            extension, following = bytes([following, 0]) + bytes(6) + extension, 60
        word = 6 << 28 | value(Field.DSCP) << 22 | draw.getrandbits(22)
        head6 = struct.pack("!IHBB", word, len(extension) + len(body), following, value(Field.TTL))
        addresses6 = [value(field).to_bytes(16, "big") for field in (Field.IP6_SADDR, Field.IP6_DADDR)]
        return 0x86DD, head6 + b"".join(addresses6) + extension + body

    def filters(self, count: int, match: Callable[[], Match] | None = None) -> list[ClassifierFilter]:
        """So many filters of all actions but limits, few of which match whatever comes."""
        made: list[ClassifierFilter] = []
        while len(made) < count:
            its = match() if match else self.match()
            if len(its.tests) < 2 and self.random.random() < 0.9:
                continue
            action: Action = self.random.choice(("drop", "pass", "count", "drop"))
            mode: Mode = self.random.choice(("enforce", "enforce", "enforce", "shadow"))
            expires = self.random.choice((0, 0, 0, 1, 1 << 62))
            made.append(ClassifierFilter(its, action, mode, expires, len(made)))
        return made


def _joined(ranges: list[Range]) -> tuple[Range, ...]:
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return tuple(found)


def _others(ranges: tuple[Range, ...], top: int) -> tuple[Range, ...]:
    found, at = [], 0
    for first, last in ranges:
        if at < first:
            found.append((at, first - 1))
        at = last + 1
    if at <= top:
        found.append((at, top))
    return tuple(found)
