# SPDX-License-Identifier: GPL-2.0
"""The TCP listeners and UDP sockets of a network namespace; quick even where there are many connections."""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

from xdpguard.net import netlink
from xdpguard.net.netns import entered

_DIAG_BY_FAMILY = 20  # SOCK_DIAG_BY_FAMILY
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2
_STATES = {socket.IPPROTO_TCP: 1 << 10, socket.IPPROTO_UDP: 1 << 7}  # TCP_LISTEN; TCP_CLOSE: not connected
_MESSAGE = struct.Struct("!B3xHH16s16s")  # head of struct inet_diag_msg; the inode is its last field
_INODE_AT = 68
_LOOPBACK6 = bytes(15) + b"\1"


class Listener(NamedTuple):
    """A listener, or a UDP socket: its port, whether it is bound to loopback only, its inode, the address as text."""

    port: int
    loopback: bool
    inode: int
    address: str = ""


def read(netns: str = "", protocol: int = socket.IPPROTO_TCP) -> list[Listener]:
    """Return a namespace's TCP listeners, or UDP sockets without a peer; none if the kernel lacks tcp_diag or udp_diag.

    Raise NoSuchNamespace if there is no such namespace.
    """
    found = []
    with entered(netns):
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, protocol, 0, _STATES[protocol])
            try:
                found += netlink.ask(netlink.SOCK_DIAG, _DIAG_BY_FAMILY, request, dump=True)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
    return [_listener(message) for message in found]


def _listener(message: bytes) -> Listener:
    family, port, _, address, _ = _MESSAGE.unpack_from(message)
    loopback = address[0] == 127 if family == socket.AF_INET else address == _LOOPBACK6
    text = socket.inet_ntop(family, address[: 4 if family == socket.AF_INET else 16])
    return Listener(port, loopback, struct.unpack_from("=I", message, _INODE_AT)[0], text)
