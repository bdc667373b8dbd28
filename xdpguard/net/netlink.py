# SPDX-License-Identifier: GPL-2.0
"""Single netlink requests over a raw socket: 0.1 ms, where pyroute2 takes several.

The socket belongs to the network namespace this thread is in.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator

ROUTE, SOCK_DIAG, NETFILTER, GENERIC = 0, 4, 12, 16  # linux/netlink.h
_REQUEST, _ACK, _DUMP, _DUMP_INTERRUPTED = 0x1, 0x4, 0x300, 0x10  # NLM_F_*
_ERROR, _DONE = 2, 3  # NLMSG_*
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_CONTROLLER, _GETFAMILY = 16, 3  # GENL_ID_CTRL, CTRL_CMD_GETFAMILY, linux/genetlink.h
_FAMILY_ID, _FAMILY_NAME = 1, 2  # CTRL_ATTR_*
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12
MISSING = (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL)  # from a kernel without netfilter, or nftables
_PATIENCE = 2.0  # seconds; the kernel answers at once
_BUFFER = 1 << 17
_ATTEMPTS = 4  # at a dump that changes while it is read


def ask(protocol: int, kind: int, body: bytes, dump: bool = False) -> list[bytes]:
    """Return the payload of each message of the answer; one unless ``dump``. Raise OSError with the kernel's errno.

    A dump honours the filters in its request (one routing table instead of all), and is repeated a few times if the
    kernel marks it inconsistent.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as link:
        link.settimeout(_PATIENCE)
        if dump:
            link.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        for sequence in range(1, _ATTEMPTS + 1):
            _send(link, kind, body, dump, sequence)
            found, whole = _answer(link, sequence, dump)
            if whole:
                break
    return found


def change(protocol: int, kind: int, body: bytes, flags: int) -> None:
    """Request a change and wait for the acknowledgement; ``flags``: NLM_F_CREATE and the like.

    Raise OSError with the kernel's errno.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as link:
        link.settimeout(_PATIENCE)
        link.sendto(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | _ACK | flags, 1, 0) + body, (0, 0))
        for what, _, _, payload in _messages(link.recv(_BUFFER)):
            if what == _ERROR and payload[:4] != bytes(4):
                raise _error(payload)


def family(name: str) -> int:
    """Return the number of a family of generic netlink. Raise OSError if the kernel has none of that name."""
    request = struct.pack("=BBH", _GETFAMILY, 1, 0) + attribute(_FAMILY_NAME, name.encode("ascii") + b"\0")
    its = attributes(ask(GENERIC, _CONTROLLER, request)[0], 4).get(_FAMILY_ID)
    if its is None:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return int.from_bytes(its, sys.byteorder)


def has_any(protocol: int, kind: int, body: bytes) -> bool:
    """Return whether a dump has any message, reading no more than the first. Raise OSError with the kernel's errno."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as link:
        link.settimeout(_PATIENCE)
        _send(link, kind, body, True, 1)
        what, _, _, payload = next(_messages(link.recv(_BUFFER)))
    if what == _ERROR:
        raise _error(payload)
    return what != _DONE


def attribute(kind: int, value: bytes) -> bytes:
    """Encode a ``struct nlattr`` with its value, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def attributes(data: bytes, at: int = 0) -> dict[int, bytes]:
    """Decode the attributes of a message from byte ``at`` on, or those nested in another, by kind."""
    return dict(_pieces(data, at))


def elements(data: bytes) -> list[bytes]:
    """Decode the values of a list, whose attributes are all of one kind."""
    return [value for _, value in _pieces(data, 0)]


def number(value: bytes | None) -> int:
    """An attribute of 32 bits, unsigned; 0 for one that is not there."""
    return int.from_bytes(value[:4], sys.byteorder) if value else 0


def text(value: bytes | None) -> str:
    """Decode a string attribute; empty if it is missing."""
    return os.fsdecode((value or b"").split(b"\0", 1)[0])


def _pieces(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += length + 3 & ~3


def _send(link: socket.socket, kind: int, body: bytes, dump: bool, sequence: int) -> None:
    flags = _REQUEST | (_DUMP if dump else 0)
    link.sendto(_HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body, (0, 0))


def _answer(link: socket.socket, sequence: int, dump: bool) -> tuple[list[bytes], bool]:
    """Return the payloads, and whether the kernel calls them consistent."""
    found: list[bytes] = []
    whole = True
    while True:
        for what, flags, number, payload in _messages(link.recv(_BUFFER)):
            if number != sequence:
                continue
            whole = whole and not flags & _DUMP_INTERRUPTED
            if what == _DONE:
                return found, whole
            if what == _ERROR:
                raise _error(payload)
            found.append(payload)
            if not dump:
                return found, whole


def _error(payload: bytes) -> OSError:
    code = -struct.unpack_from("=i", payload)[0]
    return OSError(code, os.strerror(code))


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield kind, flags, sequence number and payload."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, flags, sequence, data[at + _HEADER.size : at + length]
        at += length + 3 & ~3
