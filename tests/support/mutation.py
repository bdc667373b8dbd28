# SPDX-License-Identifier: GPL-2.0
"""Frames of every kind, and what is made of them: bits flip, lengths lie, headers are cut off, doubled and swapped."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Sequence
from typing import NamedTuple

from support.matching import ADDRESSES4, ADDRESSES6, DSCPS, FLAGS, PORTS, TTLS, VLANS

IPV4, IPV6, ARP, TAGS = 0x0800, 0x86DD, 0x0806, (0x8100, 0x88A8)
TCP, UDP, ICMP, ICMPV6, ESP, GRE, IGMP = 6, 17, 1, 58, 50, 47, 2
HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION = 0, 43, 44, 51, 60
EXTENSIONS = (HOP_BY_HOP, ROUTING, FRAGMENT, AH, DESTINATION, 135, 139, 140)
IMPOSSIBLE4 = ("127.0.0.1", "224.0.0.5", "239.1.2.3", "240.0.0.1", "255.255.255.255", "0.0.0.0")
IMPOSSIBLE6 = ("::1", "::", "ff02::1", "::ffff:198.51.100.7", "::198.51.100.7", "::ffff:0:0:1")
LONGEST = 1514
_MAC = bytes.fromhex("020000000001020000000002")
_BYTES = (0, 1, 4, 5, 6, 17, 43, 44, 58, 60, 0x45, 0x4F, 0x50, 0x60, 0x7F, 0x80, 0xF0, 0xFE, 0xFF)
_WORDS = (0, 1, 7, 8, 19, 20, 39, 40, 0x05DC, 0x0600, 0x2000, 0x2001, 0x1FFF, 0x7FFF, 0x8000, 0x8100, 0xFFF8, 0xFFFF)
# Of each kind of header: the places of what says how long something is, or what follows; bytes, and their sizes.
_LIES: dict[str, tuple[tuple[int, int], ...]] = {
    "ether": ((12, 2),),
    "tag": ((0, 2), (2, 2)),
    "ipv4": ((0, 1), (2, 2), (6, 2), (9, 1)),
    "ipv6": ((0, 1), (4, 2), (6, 1), (7, 1)),
    "extension": ((0, 1), (1, 1), (2, 2)),
    "tcp": ((12, 1), (13, 1)),
    "udp": ((4, 2),),
    "icmp": ((0, 1), (1, 1)),
}


class Part(NamedTuple):
    """A header, or the payload. ``number``: what names it in the header before it."""

    kind: str
    data: bytes
    number: int = 0


Parts = tuple[Part, ...]


def joined(parts: Sequence[Part]) -> bytes:
    """The frame, as its parts say."""
    return b"".join(part.data for part in parts)


def consistent(parts: Sequence[Part]) -> Parts:
    """The parts with the lengths and numbers that their order asks for."""
    made: list[Part] = []
    behind = number = 0
    for part in reversed(parts):
        data = bytearray(part.data)
        if part.kind == "ether" and number > 0xFF:
            struct.pack_into("!H", data, 12, number)
        elif part.kind == "tag" and number > 0xFF:
            struct.pack_into("!H", data, 2, number)
        elif part.kind == "ipv4":
            data[2:4] = min(len(data) + behind, 0xFFFF).to_bytes(2, "big")
            data[9] = number if made and made[-1].kind != "payload" and number <= 0xFF else data[9]
        elif part.kind == "ipv6":
            data[4:6] = min(behind, 0xFFFF).to_bytes(2, "big")
            data[6] = number if made and made[-1].kind != "payload" and number <= 0xFF else data[6]
        elif part.kind == "extension":
            data[0] = number if made and made[-1].kind != "payload" and number <= 0xFF else data[0]
        elif part.kind == "udp":
            data[4:6] = min(8 + behind, 0xFFFF).to_bytes(2, "big")
        made.append(part._replace(data=bytes(data)))
        behind += len(data)
        number = part.number
    return tuple(reversed(made))


def split(frame: bytes) -> Parts:
    """The parts of a frame that somebody else made, as far as they are known."""
    parts, at, kind = [Part("ether", frame[:14])], 14, int.from_bytes(frame[12:14], "big")
    while kind in TAGS and len(frame) >= at + 4:
        parts.append(Part("tag", frame[at : at + 4], kind))
        kind, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    following = -1
    if kind == IPV4 and len(frame) >= at + 20:
        size = max(20, (frame[at] & 15) * 4)
        parts.append(Part("ipv4", frame[at : at + size], kind))
        following, at = frame[at + 9], at + size
    elif kind == IPV6 and len(frame) >= at + 40:
        parts.append(Part("ipv6", frame[at : at + 40], kind))
        following, at = frame[at + 6], at + 40
        while following in EXTENSIONS and len(frame) >= at + 8:
            size = 8 if following == FRAGMENT else (frame[at + 1] + (2 if following == AH else 1)) * 8
            parts.append(Part("extension", frame[at : at + size], following))
            following, at = frame[at], at + size
    name, size = {TCP: ("tcp", 20), UDP: ("udp", 8), ICMP: ("icmp", 8), ICMPV6: ("icmp", 8)}.get(following, ("", 0))
    if name and len(frame) >= at + size:
        parts.append(Part(name, frame[at : at + size], following))
        at += size
    return (*parts, Part("payload", frame[at:])) if frame[at:] else tuple(parts)


class Frames:
    """Draws frames: new ones, and mutations of those before whose like had not been seen."""

    def __init__(self, chance: random.Random, corpus: Sequence[bytes] = ()) -> None:
        self.chance = chance
        self._known: list[Parts] = [split(frame) for frame in corpus]

    def draw(self) -> bytes:
        """Draw a frame of 14 to LONGEST bytes."""
        chance = self.chance
        parts = chance.choice(self._known) if self._known and chance.random() < 0.6 else self.valid()
        if chance.random() < 0.5:
            parts = self._addressed(parts)
        for _ in range(chance.choice((0, 0, 1, 1, 2))):
            parts = self._restructured(parts)
        frame = joined(parts)
        for _ in range(chance.choice((0, 0, 1, 1, 2, 4))):
            frame = self._altered(frame, parts)
        return frame.ljust(14, b"\0")[:LONGEST]

    def learn(self, frame: bytes) -> None:
        """Mutate this frame, too: it is built as none before."""
        self._known.append(split(frame))

    def valid(self) -> Parts:
        """Draw a frame without a fault."""
        chance = self.chance
        parts = [Part("ether", _MAC + struct.pack("!H", chance.choice((100, 0x88CC, 0x88E5, 0x0600))))]
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2))):
            control = chance.choice(VLANS) | chance.choice((0, 0, 0x6000))
            parts.append(Part("tag", struct.pack("!HH", control, 0x88CC), chance.choice(TAGS)))
        kind = chance.choice((IPV4, IPV6)) if chance.random() < 0.95 else chance.choice((ARP, 0))
        if kind == ARP:
            return consistent([*parts, Part("payload", chance.randbytes(28), ARP)])
        if not kind:
            return (*parts, Part("payload", chance.randbytes(46)))
        fragment = chance.choice((0, 0, 0, 0, 1, 2))
        parts += self._ipv4(fragment) if kind == IPV4 else self._ipv6(fragment)
        return consistent([*parts, *self._transport(kind == IPV4, fragment)])

    def _ipv4(self, fragment: int) -> list[Part]:
        chance = self.chance
        options = chance.choice((b"", b"", b"\1\1\1\0", b"\x94\4\0\0" * 3, bytes(40)))
        offset = chance.choice(((0, 0x4000), (0x2000,), (0x2003, 5, 0x1F00))[fragment])
        first, tos = 0x45 + len(options) // 4, chance.choice(DSCPS) << 2 | chance.randrange(4)
        start = struct.pack("!BBHHHBBH", first, tos, 0, 7, offset, chance.choice(TTLS), ESP, 0)
        return [Part("ipv4", start + self._address4() + self._address4() + options, IPV4)]

    def _ipv6(self, fragment: int) -> list[Part]:
        chance = self.chance
        word = 6 << 28 | chance.choice(DSCPS) << 22 | chance.choice((0, 0x12345))
        start = struct.pack("!IHBB", word, 0, ESP, chance.choice(TTLS))
        made = [Part("ipv6", start + self._address6() + self._address6(), IPV6)]
        kinds = [HOP_BY_HOP] if chance.random() < 0.15 else []
        kinds += chance.choices((ROUTING, DESTINATION, AH, 135, 139, 140), k=chance.choice((0, 0, 0, 0, 1, 2, 5, 8)))
        made += [self._extension(kind) for kind in kinds]
        if fragment or chance.random() < 0.05:
            offset = chance.choice(((0,), (1,), (5 << 3, 5 << 3 | 1, 0xF000))[fragment])
            made.append(Part("extension", struct.pack("!BBHI", ESP, 0, offset, 9), FRAGMENT))
        return made

    def _extension(self, kind: int) -> Part:
        words = self.chance.choice((0, 0, 1, 3))
        if kind == AH:
            return Part("extension", bytes((ESP, words * 2)) + bytes(6 + words * 8), AH)
        return Part("extension", bytes((ESP, words, 1, 4)) + bytes(4 + words * 8), kind)

    def _transport(self, four: bool, fragment: int) -> list[Part]:
        chance = self.chance
        payload = Part("payload", chance.randbytes(chance.choice((0, 1, 4, 16, 16, 100, 460))))
        its = chance.choice(
            (TCP, TCP, TCP, UDP, UDP, ICMP if four else ICMPV6, ICMPV6 if four else ICMP, ESP, GRE, IGMP)
        )
        if fragment == 2:
            return [Part("later", chance.randbytes(40), its), payload]
        ports = struct.pack("!HH", chance.choice(PORTS), chance.choice(PORTS))
        if its == TCP:
            options = chance.choice((b"", b"\1\1\1\0", b"\2\4\5\xb4\4\2\1\1", bytes(40)))
            offset, flags = (5 + len(options) // 4) << 4, chance.choice(FLAGS)
            return [Part("tcp", ports + struct.pack("!IIBBHHH", 1, 1, offset, flags, 9, 0, 0) + options, its), payload]
        if its == UDP:
            return [Part("udp", ports + bytes(4), its), payload]
        if its in (ICMP, ICMPV6):
            head = bytes((chance.choice((0, 3, 5, 8, 11, 1, 128, 129, 133, 135, 136, 137)), chance.choice((0, 1, 4))))
            return [Part("icmp", head + bytes(6), its), payload]
        return [Part("later", chance.randbytes(16), its), payload]

    def _address4(self) -> bytes:
        return socket.inet_aton(self.chance.choice(IMPOSSIBLE4 if self.chance.random() < 0.08 else ADDRESSES4))

    def _address6(self) -> bytes:
        text = self.chance.choice(IMPOSSIBLE6 if self.chance.random() < 0.08 else ADDRESSES6)
        return socket.inet_pton(socket.AF_INET6, text)

    def _addressed(self, parts: Parts) -> Parts:
        """With addresses that rules and filters know, or their neighbours."""
        found = list(parts)
        for place, part in enumerate(parts):
            if part.kind in ("ipv4", "ipv6"):
                draw, at = (self._address4, 12) if part.kind == "ipv4" else (self._address6, 8)
                ends = bytearray(draw() + draw())
                ends[-1] ^= self.chance.choice((0, 0, 0, 1, 3))
                ends[len(ends) // 2 - 1] ^= self.chance.choice((0, 0, 0, 0, 1, 2))
                found[place] = part._replace(data=part.data[:at] + bytes(ends) + part.data[at + len(ends) :])
        return tuple(found)

    def _restructured(self, parts: Parts) -> Parts:
        """Headers doubled, swapped, left out, put in, or those of two frames joined."""
        chance, found = self.chance, list(parts)
        # Not often the network header, without which nothing is left to parse.
        first = next((at for at, part in enumerate(parts) if part.kind in ("ipv4", "ipv6")), 0)
        places = range(1 if chance.random() < 0.1 else first + 1, len(found))
        if not places:
            return parts
        how, place = chance.randrange(5), chance.choice(places)
        if how == 0:
            found[place:place] = [found[place]] * chance.choice((1, 1, 2, 7))
        elif how == 1:
            other = chance.choice(places)
            found[place], found[other] = found[other], found[place]
        elif how == 2:
            del found[place]
        elif how == 3:
            tag = Part("tag", struct.pack("!HH", chance.choice(VLANS), IPV4), chance.choice(TAGS))
            found.insert(place, self._extension(chance.choice(EXTENSIONS)) if chance.random() < 0.7 else tag)
        else:
            other_parts = chance.choice(self._known) if self._known else self.valid()
            found[place:] = other_parts[chance.randrange(len(other_parts)) :]
        return consistent(found) if chance.random() < 0.7 else tuple(found)

    def _altered(self, frame: bytes, parts: Parts) -> bytes:
        """Bits flipped, bytes set, a length that lies, the end cut off or padded."""
        return self.chance.choice((self._flip, self._set, self._lie, self._lie, self._lie, self._cut))(frame, parts)

    def _flip(self, frame: bytes, _: Parts) -> bytes:
        data, chance = bytearray(frame), self.chance
        for _bit in range(chance.choice((1, 1, 2, 8))):
            place = min(chance.randrange(12, 90), len(data) - 1)
            data[place] ^= 1 << chance.randrange(8)
        return bytes(data)

    def _set(self, frame: bytes, _: Parts) -> bytes:
        data = bytearray(frame)
        data[min(self.chance.randrange(12, 100), len(data) - 1)] = self.chance.choice(_BYTES)
        return bytes(data)

    def _lie(self, frame: bytes, parts: Parts) -> bytes:
        chance, at, places = self.chance, 0, []
        for part in parts:
            places += [(at + place, size) for place, size in _LIES.get(part.kind, ())]
            at += len(part.data)
        place, size = chance.choice(places)
        if place + size > len(frame):
            return frame
        data, top = bytearray(frame), (1 << size * 8) - 1
        told = int.from_bytes(data[place : place + size], "big")
        near = told + chance.choice((1, -1, 4, -4, 8, -8))
        lie = chance.choice((near, near, len(frame) - place, chance.choice(_BYTES if size == 1 else _WORDS)))
        data[place : place + size] = (lie & top).to_bytes(size, "big")
        return bytes(data)

    def _cut(self, frame: bytes, _: Parts) -> bytes:
        chance = self.chance
        if chance.random() < 0.3:
            return frame + chance.choice((bytes(chance.randrange(1, 60)), chance.randbytes(6)))
        return frame[: chance.randrange(14, max(15, min(len(frame), 130)))]
