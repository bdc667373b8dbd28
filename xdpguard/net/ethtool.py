# SPDX-License-Identifier: GPL-2.0
"""Driver information and the rxvlan flag through the ethtool ioctl, in this network namespace.

Every function raises OSError if there is no such device, or its driver does not support the request.
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
    """Combined queue pairs (one receive, one transmit): those in use, and the maximum."""

    combined: int
    most: int


def driver(name: str) -> str:
    """Return the driver's name."""
    found = _ask(name, struct.pack("=I", _GDRVINFO) + bytes(_DRVINFO - 4))
    return found[4:36].split(b"\0")[0].decode("ascii", "replace")


def flags(name: str) -> int:
    """Return the flags that are on, as a bit set of ETH_FLAG_*."""
    return _value(name, _GET_FLAGS)


def set_flags(name: str, value: int) -> None:
    """Request that exactly these flags are on; a driver may leave some unchanged."""
    _value(name, _SET_FLAGS, value)


def gro(name: str) -> bool:
    """Return whether the kernel merges segments of a connection before they reach the stack (GRO)."""
    return bool(_value(name, _GGRO))


def channels(name: str) -> Channels:
    """Return the number of queue pairs."""
    # struct ethtool_channels: cmd, then the maxima of rx, tx, other, combined, then the current values of those.
    words = struct.unpack("=9I", _ask(name, struct.pack("=9I", _GCHANNELS, *[0] * 8)))
    return Channels(combined=words[8], most=words[4])


def _value(name: str, command: int, value: int = 0) -> int:
    """Send a command that takes a struct ethtool_value."""
    return int(struct.unpack("=II", _ask(name, struct.pack("=II", command, value)))[1])


def _ask(name: str, data: bytes) -> bytes:
    buffer = array.array("B", data)
    request = struct.pack("16sP", os.fsencode(name)[:15], buffer.buffer_info()[0])  # struct ifreq
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request.ljust(40, b"\0"))
    return buffer.tobytes()
