# SPDX-License-Identifier: GPL-2.0
"""What a driver says of itself, and a switch of it: the ethtool ioctl. In this network namespace.

Every function raises OSError where there is no such device, or the driver does not know the question.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from typing import NamedTuple

_SIOCETHTOOL = 0x8946  # linux/sockios.h
# ETHTOOL_*, linux/ethtool.h
_GDRVINFO, _GET_FLAGS, _SET_FLAGS, _GCHANNELS, _GGRO = 0x03, 0x25, 0x26, 0x3C, 0x2B
_DRVINFO = 196  # bytes of struct ethtool_drvinfo
RX_VLAN = 1 << 8  # ETH_FLAG_RXVLAN


class Channels(NamedTuple):
    """Pairs of queues, one to receive and one to send: those in use, and the most that there can be."""

    combined: int
    most: int


def driver(name: str) -> str:
    """What the driver calls itself."""
    found = _ask(name, struct.pack("=I", _GDRVINFO) + bytes(_DRVINFO - 4))
    return found[4:36].split(b"\0")[0].decode("ascii", "replace")


def flags(name: str) -> int:
    """The switches that are on: a set of ETH_FLAG_*."""
    return _value(name, _GET_FLAGS)


def set_flags(name: str, value: int) -> None:
    """Asks for these switches to be on, and the others off; a driver may leave some as they are."""
    _value(name, _SET_FLAGS, value)


def gro(name: str) -> bool:
    """Whether the kernel joins segments of a connection before they go up."""
    return bool(_value(name, _GGRO))


def channels(name: str) -> Channels:
    """How many pairs of queues there are."""
    # struct ethtool_channels: cmd, then the most of rx, tx, other, combined, then the present numbers of the same.
    words = struct.unpack("=9I", _ask(name, struct.pack("=9I", _GCHANNELS, *[0] * 8)))
    return Channels(combined=words[8], most=words[4])


def _value(name: str, command: int, value: int = 0) -> int:
    """By struct ethtool_value."""
    return int(struct.unpack("=II", _ask(name, struct.pack("=II", command, value)))[1])


def _ask(name: str, data: bytes) -> bytes:
    buffer = array.array("B", data)
    request = struct.pack("16sP", os.fsencode(name)[:15], buffer.buffer_info()[0])  # struct ifreq
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request.ljust(40, b"\0"))
    return buffer.tobytes()
