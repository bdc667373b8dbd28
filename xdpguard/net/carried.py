# SPDX-License-Identifier: GPL-2.0
"""The XDP program on an interface, read without pyroute2, which takes longer to load than a short command."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

from xdpguard.net import netns

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_INFO = struct.Struct("=BxHiII")  # struct ifinfomsg
_GETLINK, _REQUEST, _ERROR = 18, 0x1, 2  # RTM_GETLINK, NLM_F_REQUEST, NLMSG_ERROR
_IFNAME, _XDP, _EXT_MASK = 3, 43, 29  # IFLA_*
_SKIP_STATS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_PROGRAMS = (5, 6, 7)  # IFLA_XDP_DRV_PROG_ID, _SKB_PROG_ID, _HW_PROG_ID
_TYPE = 0x3FFF  # NLA_TYPE_MASK


def program_on(name: str, namespace: str = "") -> int | None:
    """Return the program id on an interface; 0 if it has none, None if the interface or namespace does not exist."""
    try:
        with (
            netns.entered(namespace),
            socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0) as asker,
        ):
            asker.send(_question(name))
            answer = asker.recv(1 << 16)
    except netns.NoSuchNamespace:
        return None
    if _HEADER.unpack_from(answer)[1] == _ERROR:
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        if -code in (errno.ENODEV, errno.EINVAL, errno.ERANGE):
            return None
        raise OSError(-code, os.strerror(-code))
    for kind, value in _attributes(answer[_HEADER.size + _INFO.size :]):
        if kind == _XDP:
            programs = [struct.unpack("=I", its)[0] for inner, its in _attributes(value) if inner in _PROGRAMS]
            return next((int(number) for number in programs if number), 0)
    return 0


def _question(name: str) -> bytes:
    text = os.fsencode(name) + b"\0"
    body = _INFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    body += struct.pack("=HHI", 8, _EXT_MASK, _SKIP_STATS)
    body += struct.pack("=HH", 4 + len(text), _IFNAME) + text + bytes(-len(text) % 4)
    return _HEADER.pack(_HEADER.size + len(body), _GETLINK, _REQUEST, 1, 0) + body


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, place)
        if length < 4:
            return
        yield kind & _TYPE, data[place + 4 : place + length]
        place += (length + 3) & ~3
