# SPDX-License-Identifier: GPL-2.0
"""VLAN tags that a driver takes off before an XDP program sees the frame (ethtool's rxvlan), and how to stop it."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterable

from xdpguard.net.devices import Device
from xdpguard.net.netns import entered

_SIOCETHTOOL = 0x8946  # linux/sockios.h
_GET_FLAGS, _SET_FLAGS = 0x25, 0x26  # ETHTOOL_GFLAGS, ETHTOOL_SFLAGS, linux/ethtool.h
_RX_VLAN = 1 << 8  # ETH_FLAG_RXVLAN


def untagged(mode: str, receivers: Iterable[Device], netns: str) -> list[str]:
    """Names of the drivers from which an XDP program gets frames without their tags, so that answers leave untagged.

    In generic mode the kernel keeps a tag beside the frame and sends it along with the answer. A veth in native mode
    hands over what its peer has put beside the frame, whatever is switched off here.
    """
    if mode != "native":
        return []
    return [it.name for it in receivers if it.kind == "veth" or takes_tags_off(it.name, netns)]


def takes_tags_off(name: str, netns: str) -> bool:
    """Whether the driver does at present. False where there is no such device, or it cannot be asked."""
    try:
        return bool(_flags(name, netns) & _RX_VLAN)
    except OSError:
        return False


def let(name: str, netns: str, on: bool) -> bool:
    """Lets a driver take tags off or keeps it from that; whether it is so now. OSError when there is no device."""
    flags = _flags(name, netns)
    try:
        _ioctl(name, netns, _SET_FLAGS, flags | _RX_VLAN if on else flags & ~_RX_VLAN)
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise
    return bool(_flags(name, netns) & _RX_VLAN) == on


def _flags(name: str, netns: str) -> int:
    return _ioctl(name, netns, _GET_FLAGS, 0)


def _ioctl(name: str, netns: str, command: int, value: int) -> int:
    buffer = array.array("I", [command, value])  # struct ethtool_value
    request = struct.pack("16sP", os.fsencode(name)[:15], buffer.buffer_info()[0])  # struct ifreq
    with entered(netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCETHTOOL, request.ljust(40, b"\0"))
    return buffer[1]
