# SPDX-License-Identifier: GPL-2.0
"""Convert packets of other link types to the Ethernet frames that an interface would receive.

Numbers: https://www.tcpdump.org/linktypes.html.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct

ETHERNET = 1
IPV4, IPV6 = b"\x08\x00", b"\x86\xdd"  # EtherTypes
_NOT_IP = b"\xff\xff"  # an EtherType that is never assigned
_OTHER_MAC = bytes.fromhex("020000000002")
OWN_MAC = bytes.fromhex("020000000001")
_AF_INET, _AF_INET6 = 2, {10, 24, 28, 30}  # Linux, NetBSD and OpenBSD, FreeBSD, macOS
_OUTGOING = 4  # PACKET_OUTGOING
_WORD = {"<": Struct("<I"), ">": Struct(">I")}

Converted = tuple[bytes, bytes, bool | None]  # EtherType, what follows it, whether this host sent it (None: unknown)
NAMES = {
    0: "BSD loopback",
    ETHERNET: "Ethernet",
    12: "raw IP",
    14: "raw IP",
    101: "raw IP",
    108: "OpenBSD loopback",
    113: "Linux cooked",
    228: "raw IPv4",
    229: "raw IPv6",
    276: "Linux cooked 2",
}


def _by_version(data: bytes) -> Converted | None:
    version = data[0] >> 4 if data else 0
    return (IPV6 if version == 6 else IPV4), data, None


def _raw4(data: bytes) -> Converted | None:
    return IPV4, data, None


def _raw6(data: bytes) -> Converted | None:
    return IPV6, data, None


def _null(data: bytes) -> Converted | None:
    """The family is a small number in the byte order of the capturing host."""
    if len(data) < 4:
        return None
    return _family(min(order.unpack_from(data)[0] for order in _WORD.values())), data[4:], None


def _loop(data: bytes) -> Converted | None:
    if len(data) < 4:
        return None
    return _family(_WORD[">"].unpack_from(data)[0]), data[4:], None


def _family(number: int) -> bytes:
    return IPV4 if number == _AF_INET else IPV6 if number in _AF_INET6 else _NOT_IP


def _cooked(data: bytes) -> Converted | None:
    if len(data) < 16:
        return None
    return data[14:16], data[16:], data[1] == _OUTGOING


def _cooked2(data: bytes) -> Converted | None:
    if len(data) < 20:
        return None
    return data[0:2], data[20:], data[10] == _OUTGOING


_BY_TYPE: dict[int, tuple[Callable[[bytes], Converted | None], int]] = {
    0: (_null, 4),
    12: (_by_version, 0),
    14: (_by_version, 0),
    101: (_by_version, 0),
    108: (_loop, 4),
    113: (_cooked, 16),
    228: (_raw4, 0),
    229: (_raw6, 0),
    276: (_cooked2, 20),
}


def supported(link: int) -> bool:
    """Return whether packets of a link type can be converted to frames."""
    return link == ETHERNET or link in _BY_TYPE


def convert(link: int, data: bytes, length: int, mac: bytes = OWN_MAC) -> tuple[bytes, int, bool | None] | None:
    """Convert a packet to a frame for ``mac``; return the frame, its original length in bytes, and whether it was sent.

    The last is None if the link's header does not say. Returns None if the packet was cut within that header. Link type
    1 needs no conversion and is rejected.
    """
    reader, header = _BY_TYPE[link]
    found = reader(data)
    if found is None:
        return None
    kind, rest, sent = found
    return b"".join((mac, _OTHER_MAC, kind, rest)), max(length - header, len(rest)) + 14, sent
