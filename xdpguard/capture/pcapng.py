# SPDX-License-Identifier: GPL-2.0
"""Read pcapng files: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/. Blocks without packets are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from xdpguard.capture.pcap import LONGEST, Damaged, Raw, torn
from xdpguard.capture.stream import Stream

MAGIC = b"\x0a\x0d\x0d\x0a"  # the same in both byte orders
_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_FRAMING = 12  # type, leading length, trailing length
_LONGEST_BLOCK = 16 << 20


class _Section:
    """State of the current section: byte order, and link type and snap length by interface."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.interfaces: list[tuple[int, int]] = []
        self.head, self.word = Struct(order + "II"), Struct(order + "I")
        self.interface, self.packet = Struct(order + "HHI"), Struct(order + "IIIII")
        self.old_packet = Struct(order + "HHIIII")


def read(stream: Stream) -> Iterator[Raw]:
    """Yield the packets of all sections. Raise Damaged if the file is truncated or corrupt."""
    section = _Section("<")
    while stream.fill(8):
        if stream.data[stream.at : stream.at + 4] == MAGIC:
            section = _begun(stream)
        kind, length = section.head.unpack_from(stream.data, stream.at)
        if length < _FRAMING or length % 4 or length > _LONGEST_BLOCK:
            raise Damaged(f"would be in a block of {length:,} bytes: the file is corrupt there")
        if not stream.fill(length):
            raise Damaged(
                torn(stream) or f"is truncated: only {stream.left():,} of {length:,} bytes of its block are there"
            )
        if section.word.unpack_from(stream.data, stream.at + length - 4)[0] != length:
            raise Damaged("is in a block whose two lengths differ: the file is corrupt there")
        at, stream.at = stream.at + 8, stream.at + length
        body = stream.data[at : stream.at - 4]
        if kind == _INTERFACE:
            section.interfaces.append(_interface(section, body))
        elif kind in (_ENHANCED, _SIMPLE, _OLD_PACKET):
            yield _packet(section, kind, body)
    if stream.left() or stream.broken:
        raise Damaged(torn(stream) or "is truncated in the header of its block")


def _begun(stream: Stream) -> _Section:
    if not stream.fill(12):
        raise Damaged(torn(stream) or "is truncated in the header of its section")
    order = _ORDERS.get(stream.data[stream.at + 8 : stream.at + 12])
    if order is None:
        raise Damaged("is in a section of unknown byte order: the file is corrupt there")
    return _Section(order)


def _interface(section: _Section, body: bytes) -> tuple[int, int]:
    if len(body) < 8:
        raise Damaged("follows an interface description that is too short")
    link, _, most = section.interface.unpack_from(body)
    return link, most


def _packet(section: _Section, kind: int, body: bytes) -> Raw:
    layout = {_ENHANCED: section.packet, _SIMPLE: section.word, _OLD_PACKET: section.old_packet}[kind]
    if len(body) < layout.size:
        raise Damaged("is in a block that is too short for it")
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
        raise Damaged(f"claims {there:,} bytes, more than its block holds")
    return section.interfaces[number][0], body[layout.size : layout.size + there], length
