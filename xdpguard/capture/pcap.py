# SPDX-License-Identifier: GPL-2.0
"""Read pcap files: https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcap/."""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from xdpguard.capture.direction import NOBODY, Own
from xdpguard.capture.stream import Stream

# Link type, captured bytes, original length; INBOUND, OUTBOUND or 0; addresses of the capturing interface if described;
# Unix time in ns, 0: not recorded.
Raw = tuple[int, bytes, int, int, Own, int]

LONGEST = 1 << 20  # bytes; no tool captures that much of a packet
_HEADER = 24
# Magic numbers as they appear in the file, by byte order and unit of time.
MAGIC = {
    b"\xa1\xb2\xc3\xd4": (">", "microseconds"),
    b"\xd4\xc3\xb2\xa1": ("<", "microseconds"),
    b"\xa1\xb2\x3c\x4d": (">", "nanoseconds"),
    b"\x4d\x3c\xb2\xa1": ("<", "nanoseconds"),
}


class Damaged(Exception):
    """The file is truncated or corrupt; the packets before are intact. ``str()`` continues 'packet N '."""


def torn(stream: Stream) -> str:
    """Return what to say after 'packet N ' if the stream is broken; empty at its regular end."""
    return f"is incomplete: {stream.broken}" if stream.broken else ""


def describe(stream: Stream) -> str:
    """Describe the file format."""
    order, unit = MAGIC[stream.data[stream.at : stream.at + 4]]
    return f"pcap, {'big' if order == '>' else 'little'}-endian, {unit}"


def read(stream: Stream) -> Iterator[Raw]:
    """Yield the packets after the file header. Raise Damaged if the file is truncated or corrupt."""
    order, unit = MAGIC[stream.data[stream.at : stream.at + 4]]
    fraction = 1 if unit == "nanoseconds" else 1000
    if not stream.fill(_HEADER):
        raise Damaged(torn(stream) or "is missing: the file ends within its header")
    # The upper bits announce a frame check sequence, which is just more bytes after the packet.
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
                    raise Damaged(torn(stream) or "is truncated in its header")
                return
            data, at, end = stream.data, stream.at, len(stream.data)
        seconds, rest, there, length = unpack(data, at)
        if there > LONGEST:
            raise Damaged(f"claims {there:,} bytes, more than any capture holds: the file is corrupt there")
        if not length and not seconds and not there:
            raise Damaged("is all zeros: the file was not written completely")
        at += size
        if end - at < there:
            stream.at = at
            if not stream.fill(there):
                raise Damaged(torn(stream) or f"is truncated: only {stream.left():,} of {there:,} bytes are present")
            data, at, end = stream.data, stream.at, len(stream.data)
        yield kind, data[at : at + there], length, 0, NOBODY, seconds * 1_000_000_000 + rest * fraction
        at += there
