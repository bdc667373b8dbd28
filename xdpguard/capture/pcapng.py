# SPDX-License-Identifier: GPL-2.0
"""pcapng files: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/. Blocks that hold no packet are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from xdpguard.capture.pcap import LONGEST, Damaged, Raw, torn
from xdpguard.capture.stream import Stream

MAGIC = b"\x0a\x0d\x0d\x0a"  # the same in both byte orders
_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_FRAMING = 12  # type, length in front, length behind
_LONGEST_BLOCK = 16 << 20


class _Section:
    """What holds until the next section: byte order, and link type and snap length by interface."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.interfaces: list[tuple[int, int]] = []
        self.head, self.word = Struct(order + "II"), Struct(order + "I")
        self.interface, self.packet = Struct(order + "HHI"), Struct(order + "IIIII")
        self.old_packet = Struct(order + "HHIIII")


def read(stream: Stream) -> Iterator[Raw]:
    """The packets of all sections. Damaged when the file is not whole."""
    section = _Section("<")
    while stream.fill(8):
        if stream.data[stream.at : stream.at + 4] == MAGIC:
            section = _begun(stream)
        kind, length = section.head.unpack_from(stream.data, stream.at)
        if length < _FRAMING or length % 4 or length > _LONGEST_BLOCK:
            raise Damaged(f"would stand in a block of {length:,} octets: the file is damaged there")
        if not stream.fill(length):
            raise Damaged(torn(stream) or f"is cut off: {stream.left():,} of the {length:,} octets of its block")
        if section.word.unpack_from(stream.data, stream.at + length - 4)[0] != length:
            raise Damaged("stands in a block whose two lengths differ: the file is damaged there")
        at, stream.at = stream.at + 8, stream.at + length
        body = stream.data[at : stream.at - 4]
        if kind == _INTERFACE:
            section.interfaces.append(_interface(section, body))
        elif kind in (_ENHANCED, _SIMPLE, _OLD_PACKET):
            yield _packet(section, kind, body)
    if stream.left() or stream.broken:
        raise Damaged(torn(stream) or "is cut off in the head of its block")


def _begun(stream: Stream) -> _Section:
    if not stream.fill(12):
        raise Damaged(torn(stream) or "is cut off in the head of its section")
    order = _ORDERS.get(stream.data[stream.at + 8 : stream.at + 12])
    if order is None:
        raise Damaged("stands in a section of no known byte order: the file is damaged there")
    return _Section(order)


def _interface(section: _Section, body: bytes) -> tuple[int, int]:
    if len(body) < 8:
        raise Damaged("is behind a description of an interface that is too short")
    link, _, most = section.interface.unpack_from(body)
    return link, most


def _packet(section: _Section, kind: int, body: bytes) -> Raw:
    layout = {_ENHANCED: section.packet, _SIMPLE: section.word, _OLD_PACKET: section.old_packet}[kind]
    if len(body) < layout.size:
        raise Damaged("stands in a block that is too short for it")
    number = 0
    if kind == _SIMPLE:
        (length,) = layout.unpack_from(body)
        most = section.interfaces[0][1] if section.interfaces else 0
        there = min(length, most or length)
    elif kind == _ENHANCED:
        number, _, _, there, length = layout.unpack_from(body)
    else:
        number, _, _, _, there, length = layout.unpack_from(body)
    if number >= len(section.interfaces):
        raise Damaged(f"names interface {number}, which is not described")
    if there > LONGEST or layout.size + there > len(body):
        raise Damaged(f"claims {there:,} octets, which its block does not hold")
    return section.interfaces[number][0], body[layout.size : layout.size + there], length
