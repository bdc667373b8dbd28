# SPDX-License-Identifier: GPL-2.0
"""Single netlink requests over a socket of their own: a tenth of a millisecond, where pyroute2 takes several."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

ROUTE, GENERIC = 0, 16  # NETLINK_ROUTE, NETLINK_GENERIC, linux/netlink.h
_REQUEST, _DUMP = 0x1, 0x300  # NLM_F_*
_ERROR, _DONE = 2, 3  # NLMSG_*
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_PATIENCE = 2.0  # seconds; the kernel answers at once


def ask(protocol: int, kind: int, body: bytes, dump: bool = False) -> list[bytes]:
    """The payload of each message of the answer; one unless ``dump``. OSError with the kernel's errno when it refuses.

    The socket belongs to the network namespace this thread is in.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as link:
        link.settimeout(_PATIENCE)
        flags = _REQUEST | (_DUMP if dump else 0)
        link.sendto(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body, (0, 0))
        found: list[bytes] = []
        while True:
            for what, payload in _messages(link.recv(1 << 17)):
                if what == _DONE:
                    return found
                if what == _ERROR:
                    code = -struct.unpack_from("=i", payload)[0]
                    raise OSError(code, os.strerror(code))
                found.append(payload)
                if not dump:
                    return found


def attribute(kind: int, value: bytes) -> bytes:
    """A ``struct nlattr`` with its value, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of a message, or those inside another, by kind."""
    return {kind & 0x3FFF: value for kind, value in _pieces(data)}


def _pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if length < 4:
            return
        yield kind, data[4:length]
        data = data[(length + 3) & ~3 :]


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind = struct.unpack_from("=IH", data)
        if length < _HEADER.size:
            return
        yield kind, data[_HEADER.size : length]
        data = data[(length + 3) & ~3 :]
