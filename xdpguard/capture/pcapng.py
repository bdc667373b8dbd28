# SPDX-License-Identifier: GPL-2.0
"""Read pcapng files: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/. Blocks without packets are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from xdpguard.capture.direction import NOBODY, Own
from xdpguard.capture.pcap import LONGEST, Damaged, Raw, torn
from xdpguard.capture.stream import Stream
from xdpguard.policy.target import Prefix

MAGIC = b"\x0a\x0d\x0d\x0a"  # the same in both byte orders
_ORDERS = {b"\x1a\x2b\x3c\x4d": ">", b"\x4d\x3c\x2b\x1a": "<"}
_SECTION, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_FRAMING = 12  # type, leading length, trailing length
_LONGEST_BLOCK = 16 << 20
# Options: if_IPv4addr, if_IPv6addr, if_MACaddr; epb_flags, and pack_flags of the old block.
_END, _IF_IPV4, _IF_IPV6, _IF_MAC, _FLAGS = 0, 4, 5, 6, 2
_IF_RESOLUTION, _IF_OFFSET = 9, 14  # of times: units in a second as a power of 10 or 2, and seconds to be added
_POWER_OF_TWO = 0x80
_LATEST = (1 << 63) - 1  # ns
_DIRECTION = 3  # the bits of the flags that tell it


class _Interface(NamedTuple):
    """A described interface: link type, snap length (0: none), the addresses of its host that it names.

    ``units``: of its times in a second; ``offset``: seconds to be added to them.
    """

    link: int
    most: int
    own: Own
    units: int = 1_000_000
    offset: int = 0

    def at(self, high: int, low: int) -> int:
        """Return a time as Unix time in ns; one that is out of range is clamped."""
        ns = ((high << 32) + low) * 1_000_000_000 // self.units + self.offset * 1_000_000_000
        return min(max(0, ns), _LATEST)


class _Section:
    """State of the current section: byte order and interfaces."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.interfaces: list[_Interface] = []
        self.head, self.word, self.option = Struct(order + "II"), Struct(order + "I"), Struct(order + "HH")
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


def _interface(section: _Section, body: bytes) -> _Interface:
    if len(body) < 8:
        raise Damaged("follows an interface description that is too short")
    link, _, most = section.interface.unpack_from(body)
    macs, prefixes = [], []
    units, offset = _Interface._field_defaults["units"], 0
    for code, value in _options(section, body[section.interface.size :]):
        if code == _IF_MAC and len(value) == 6 and any(value):
            macs.append(value)
        elif code == _IF_IPV4 and len(value) == 8:
            prefixes.append(Prefix(value[:4], 32))
        elif code == _IF_IPV6 and len(value) == 17:
            prefixes.append(Prefix(value[:16], 128))
        elif code == _IF_RESOLUTION and len(value) == 1:
            base = 2 if value[0] & _POWER_OF_TWO else 10
            units = base ** (value[0] & ~_POWER_OF_TWO)
        elif code == _IF_OFFSET and len(value) == 8:
            (offset,) = Struct(section.order + "q").unpack(value)
    return _Interface(link, most, Own(macs, prefixes) if macs or prefixes else NOBODY, units, offset)


def _options(section: _Section, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the options of a block by code, as far as they are intact."""
    at = 0
    while at + 4 <= len(data):
        code, length = section.option.unpack_from(data, at)
        value = data[at + 4 : at + 4 + length]
        if code == _END or len(value) < length:
            return
        yield code, value
        at += 4 + length + -length % 4


def _way(section: _Section, options: bytes) -> int:
    """Return INBOUND, OUTBOUND or 0 from a packet's options."""
    for code, value in _options(section, options):
        if code == _FLAGS and len(value) == 4:
            return int(section.word.unpack(value)[0]) & _DIRECTION
    return 0


def _packet(section: _Section, kind: int, body: bytes) -> Raw:
    layout = {_ENHANCED: section.packet, _SIMPLE: section.word, _OLD_PACKET: section.old_packet}[kind]
    if len(body) < layout.size:
        raise Damaged("is in a block that is too short for it")
    number = high = low = 0
    if kind == _SIMPLE:
        (length,) = layout.unpack_from(body)
        most = section.interfaces[0].most if section.interfaces else 0
        there = min(length, most or length)
    elif kind == _ENHANCED:
        number, high, low, there, length = layout.unpack_from(body)
    else:
        number, _, high, low, there, length = layout.unpack_from(body)
    if number >= len(section.interfaces):
        raise Damaged(f"names interface {number}, which is not described")
    if there > LONGEST or layout.size + there > len(body):
        raise Damaged(f"claims {there:,} bytes, more than its block holds")
    its, end = section.interfaces[number], layout.size + there
    after = end + -there % 4
    way = _way(section, body[after:]) if kind != _SIMPLE and after < len(body) else 0
    at = its.at(high, low) if kind != _SIMPLE else 0
    return its.link, body[layout.size : end], length, way, its.own, at
