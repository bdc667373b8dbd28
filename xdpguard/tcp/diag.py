# SPDX-License-Identifier: GPL-2.0
"""The TCP sockets of a network namespace from the kernel's sock_diag (linux/inet_diag.h), as a numpy array.

An object per socket costs 70 us (pyroute2 0.9): seconds when there are hundreds of thousands of TIME_WAIT sockets. Here
a whole buffer of answers becomes one array: 1 us a socket, most of it spent in the kernel.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.closeable import Closeable
from xdpguard.errors import XdpguardError
from xdpguard.net.netns import Place, entered_path
from xdpguard.tcp.names import ALL_STATES

_SOCK_DIAG_BY_FAMILY = 20
_NETLINK_SOCK_DIAG = 4
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_ROOT | NLM_F_MATCH
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST = struct.Struct("=BBBxI48s")  # struct inet_diag_req_v2; the last field is the socket's id
_WANT_INFO = 1 << 1  # 1 << (INET_DIAG_INFO - 1)
_INFO = 2  # INET_DIAG_INFO
_TIMER_TIME_WAIT = 3  # idiag_timer of a timewait socket
_BUFFER = 1 << 18
# struct inet_diag_msg
_MESSAGE = np.dtype(
    [
        ("family", "u1"),
        ("state", "u1"),
        ("timer", "u1"),
        ("retrans", "u1"),
        ("local_port", ">u2"),
        ("remote_port", ">u2"),
        ("local", "u1", 16),
        ("remote", "u1", 16),
        ("interface", "<u4"),
        ("cookie", "<u8"),
        ("expires", "<u4"),
        ("receive_queue", "<u4"),
        ("send_queue", "<u4"),
        ("uid", "<u4"),
        ("inode", "<u4"),
    ]
)
_MAPPED = np.frombuffer(bytes(10) + b"\xff\xff", "u1")

Sockets = NDArray[Any]  # of _MESSAGE; addresses of 16 bytes, IPv4 as IPv4-mapped


class Info(NamedTuple):
    """A connection's tcpi_segs_out and tcpi_total_retrans from ``struct tcp_info``."""

    segments_out: int
    retransmitted: int


# Offsets in bytes into struct tcp_info, linux/tcp.h.
_TOTAL_RETRANS, _SEGMENTS_OUT = 100, 136


class Diag(Closeable):
    """A sock_diag socket in one namespace. Use as a context manager."""

    def __init__(self, place: Place) -> None:
        with entered_path(place.path):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
        self._sequence = 0

    def sockets(self, states: int = ALL_STATES) -> Sockets:
        """Return the sockets in these states (a bit set), IPv4 and IPv6."""
        found: list[Sockets] = [np.zeros(0, _MESSAGE)]
        for family in (socket.AF_INET, socket.AF_INET6):
            found += [_decode(data, _offsets(data)) for data in self._dump(family, states, 0)]
        return np.concatenate(found)

    def infos(self, states: int) -> tuple[Sockets, list[Info]]:
        """Return the sockets in these states (a bit set), with the counts of what each has sent."""
        found: list[Sockets] = [np.zeros(0, _MESSAGE)]
        infos: list[Info] = []
        for family in (socket.AF_INET, socket.AF_INET6):
            for data in self._dump(family, states, _WANT_INFO):
                places = _offsets(data)
                found.append(_decode(data, places))
                infos += [_info(data, int(at)) for at in places]
        return np.concatenate(found), infos

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def _dump(self, family: int, states: int, extensions: int) -> list[bytes]:
        """Return the messages of the answer, buffer by buffer, without the final NLMSG_DONE."""
        self._sequence += 1
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, extensions, states, bytes(48))
        head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _DUMP, self._sequence, 0)
        self._socket.send(head + body)
        found: list[bytes] = []
        while True:
            data = self._socket.recv(_BUFFER)
            _, kind, _, sequence, _ = _HEADER.unpack_from(data)
            if sequence != self._sequence:
                continue  # from an abandoned dump
            if kind == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", data, _HEADER.size)[0]
                if code == errno.ENOENT:
                    return []  # the kernel lacks that family
                raise XdpguardError(
                    f"sock_diag does not answer: {os.strerror(code)}", "the kernel needs CONFIG_INET_DIAG"
                )
            if kind == _NLMSG_DONE:
                return found
            found.append(data)
            # NLMSG_DONE may come at the end of the last buffer; then `_offsets` stops there, and this returns.
            if _ends(data):
                return found


def is_timewait(sockets: Sockets) -> NDArray[np.bool_]:
    """Return which sockets are timewait sockets: in TIME_WAIT, or in FIN_WAIT2 after their process closed them."""
    return np.asarray(sockets["timer"] == _TIMER_TIME_WAIT)


def _offsets(data: bytes) -> NDArray[np.int64]:
    """Return the offsets of the messages, without that of NLMSG_DONE."""
    first = struct.unpack_from("=I", data)[0]
    count, rest = divmod(len(data), first)
    # Nearly always all messages have the same length.
    if not rest and first % 4 == 0:
        heads = np.ndarray((count, 2), "<u4", data, 0, (first, 4))
        if (heads[:, 0] == first).all() and (heads[:, 1] & 0xFFFF == _SOCK_DIAG_BY_FAMILY).all():
            return np.arange(0, count * first, first, dtype=np.int64)
    found, at = [], 0
    while at < len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        if kind != _SOCK_DIAG_BY_FAMILY:
            break
        found.append(at)
        at += length + 3 & ~3
    return np.array(found, np.int64)


def _ends(data: bytes) -> bool:
    at = 0
    places = _offsets(data)
    if places.size:
        at = int(places[-1])
        at += struct.unpack_from("=I", data, at)[0] + 3 & ~3
    return at < len(data) and struct.unpack_from("=H", data, at + 4)[0] == _NLMSG_DONE


def _decode(data: bytes, places: NDArray[np.int64]) -> Sockets:
    raw = np.frombuffer(data, "u1")
    wanted = places[:, None] + np.arange(_HEADER.size, _HEADER.size + _MESSAGE.itemsize)
    found: Sockets = raw[wanted].view(_MESSAGE).reshape(-1)
    four = found["family"] == socket.AF_INET
    for name in ("local", "remote"):
        column = found[name]
        column[four, 12:] = column[four, :4]
        column[four, :12] = _MAPPED
    return found


def _info(data: bytes, at: int) -> Info:
    end = at + struct.unpack_from("=I", data, at)[0]
    at += _HEADER.size + _MESSAGE.itemsize
    while at + 4 <= end:
        length, kind = struct.unpack_from("=HH", data, at)
        if kind == _INFO and length >= 4 + _SEGMENTS_OUT + 4:
            retransmitted = struct.unpack_from("=I", data, at + 4 + _TOTAL_RETRANS)[0]
            return Info(struct.unpack_from("=I", data, at + 4 + _SEGMENTS_OUT)[0], retransmitted)
        at += max(length, 4) + 3 & ~3
    return Info(0, 0)
