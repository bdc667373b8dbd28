# SPDX-License-Identifier: GPL-2.0
"""pcap files: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/. Times are not needed here."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from xdpguard.capture.stream import Stream

Raw = tuple[int, bytes, int]  # link type, octets that were captured, octets the packet had

LONGEST = 1 << 20  # octets; no tool captures so much of a packet
_HEADER = 24
# Magic numbers as they stand in the file, by byte order and unit of time.
MAGIC = {
    b"\xa1\xb2\xc3\xd4": (">", "microseconds"),
    b"\xd4\xc3\xb2\xa1": ("<", "microseconds"),
    b"\xa1\xb2\x3c\x4d": (">", "nanoseconds"),
    b"\x4d\x3c\xb2\xa1": ("<", "nanoseconds"),
}


class Damaged(Exception):
    """The file ends or makes no sense there; what came before is whole. ``str()`` says what, behind 'packet N '."""


def torn(stream: Stream) -> str:
    """What to say behind 'packet N ' where the stream cannot go on; empty when it is at its end."""
    return f"is not whole: {stream.broken}" if stream.broken else ""


def describe(stream: Stream) -> str:
    """What file it is."""
    order, unit = MAGIC[stream.data[stream.at : stream.at + 4]]
    return f"pcap, {'big' if order == '>' else 'little'}-endian, {unit}"


def read(stream: Stream) -> Iterator[Raw]:
    """The packets behind the file's header. Damaged when the file is not whole."""
    order, _ = MAGIC[stream.data[stream.at : stream.at + 4]]
    if not stream.fill(_HEADER):
        raise Damaged(torn(stream) or "is not there: the file ends in its header")
    # The upper bits tell of a frame check sequence, which is nothing but octets behind the packet.
    kind = Struct(order + "I").unpack_from(stream.data, stream.at + 20)[0] & 0xFFFF
    stream.at += _HEADER
    head = Struct(order + "IIII")
    unpack, size = head.unpack_from, head.size
    data, at = stream.data, stream.at
    end = len(data)
    while True:
        if end - at < size:
            stream.at = at
            if not stream.fill(size):
                if stream.left() or stream.broken:
                    raise Damaged(torn(stream) or "is cut off in its header")
                return
            data, at, end = stream.data, stream.at, len(stream.data)
        seconds, _, there, length = unpack(data, at)
        if there > LONGEST:
            raise Damaged(f"claims {there:,} octets, which no capture holds: the file is damaged there")
        if not length and not seconds and not there:
            raise Damaged("is all zeroes: the file was not written to its end")
        at += size
        if end - at < there:
            stream.at = at
            if not stream.fill(there):
                raise Damaged(torn(stream) or f"is cut off: {stream.left():,} of {there:,} octets are there")
            data, at, end = stream.data, stream.at, len(stream.data)
        yield kind, data[at : at + there], length
        at += there
