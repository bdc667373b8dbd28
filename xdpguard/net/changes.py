# SPDX-License-Identifier: GPL-2.0
"""Notifications of changed links, addresses and routes, in this and in other network namespaces.

One socket receives all of them: the kernel delivers the notifications of every namespace that has an id in ours
(NETLINK_LISTEN_ALL_NSID). A socket inside a namespace would keep that namespace and its interfaces alive after it was
deleted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from xdpguard.closeable import opened
from xdpguard.net import netns

_ROUTE = 0  # NETLINK_ROUTE, linux/netlink.h
_SOL_NETLINK, _LISTEN_ALL_NSID = 270, 8
# RTMGRP_*, linux/rtnetlink.h: LINK, IPV4_IFADDR, IPV6_IFADDR, IPV4_ROUTE, IPV6_ROUTE
_GROUPS = 0x1 | 0x10 | 0x100 | 0x40 | 0x400
_DELLINK, _NEWROUTE, _DELROUTE, _NEWNSID, _GETNSID = 17, 24, 25, 88, 90  # RTM_*
_TABLE_LOCAL = 255  # RT_TABLE_LOCAL
_REQUEST, _ACK = 0x1, 0x4  # NLM_F_*
_ERROR = 2  # NLMSG_ERROR
_NSID, _NETNS_FD = 1, 3  # NETNSA_*, linux/net_namespace.h
_ATTACH_FILTER = 26  # SO_ATTACH_FILTER
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ROOM = 1 << 20  # bytes of events that may queue while the service is busy


@dataclass
class Seen:
    """``deleted``: namespace and index of each interface that was removed; ``lost``: notifications were dropped."""

    deleted: set[tuple[str, int]] = field(default_factory=set)
    lost: bool = False


class Changes:
    """Receives the notifications; select on `fileno` for reading and on `mounts` for exceptional conditions."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE)
        self._names: dict[int, str] = {}  # watched namespaces by their id in ours
        self.everywhere = True
        try:
            self._socket.setsockopt(_SOL_NETLINK, _LISTEN_ALL_NSID, 1)
        except PermissionError:
            self.everywhere = False  # without CAP_NET_BROADCAST
        with contextlib.suppress(PermissionError):
            self._socket.setsockopt(socket.SOL_SOCKET, 33, _ROOM)  # SO_RCVBUFFORCE
        _filter_routes(self._socket)
        self._socket.bind((0, _GROUPS))
        self._socket.setblocking(False)
        # Named namespaces are mounts, and the kernel signals every mount and unmount here and nowhere else.
        self.mounts = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the descriptors."""
        self._socket.close()
        os.close(self.mounts)

    def fileno(self) -> int:
        """The descriptor that is readable when something has changed."""
        return self._socket.fileno()

    def watch(self, namespaces: Iterable[str]) -> None:
        """Watch exactly these named namespaces besides our own; one that does not exist yet is skipped."""
        self._names = {}
        for name in namespaces:
            if name:
                with contextlib.suppress(OSError, netns.NoSuchNamespace):
                    self._names[_number_of(name)] = name

    def read(self) -> Seen | None:
        """Return what has changed since the last call; None if nothing that is watched has."""
        found: Seen | None = None
        for data, number in self._messages():
            if data is None:
                found = found or Seen()
                found.lost = True
            elif number is None or number in self._names:
                found = found or Seen()
                kind = _HEADER.unpack_from(data)[1]
                # A bridge reports its ports under its own family; those interfaces still exist.
                if kind == _DELLINK and data[_HEADER.size] == socket.AF_UNSPEC:
                    (index,) = struct.unpack_from("=i", data, _HEADER.size + 4)
                    found.deleted.add((self._names.get(number, "") if number is not None else "", index))
        return found

    def _messages(self) -> Iterator[tuple[bytes | None, int | None]]:
        """Yield messages with the id of their namespace (None: our own); (None, None) where the queue overflowed."""
        while True:
            try:
                data, extra, _, _ = self._socket.recvmsg(1 << 16, socket.CMSG_SPACE(4))
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                yield None, None
                continue
            numbers = [struct.unpack("=i", value)[0] for level, _, value in extra if level == _SOL_NETLINK]
            yield data, numbers[0] if numbers else None


def _number_of(name: str) -> int:
    """Return the id of a named namespace in ours, assigning one if it has none."""
    with (
        opened(os.open(netns.place(name).path, os.O_RDONLY | os.O_CLOEXEC)) as descriptor,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE) as asker,
    ):
        fd = struct.pack("=HHI", 8, _NETNS_FD, descriptor)
        _ask(asker, _NEWNSID, _ACK, struct.pack("=HHi", 8, _NSID, -1) + fd)  # -1: any; EEXIST: it has one
        answer = _ask(asker, _GETNSID, 0, fd)
    kind = _HEADER.unpack_from(answer)[1]
    if kind == _ERROR:
        (code,) = struct.unpack_from("=i", answer, _HEADER.size)
        raise OSError(-code, os.strerror(-code))
    # struct rtgenmsg, padded to four bytes, then NETNSA_NSID
    (number,) = struct.unpack_from("=i", answer, _HEADER.size + 8)
    return int(number)


def _ask(asker: socket.socket, kind: int, flags: int, attributes: bytes) -> bytes:
    body = bytes(4) + attributes
    asker.send(_HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | flags, 1, 0) + body)
    return asker.recv(4096)


def _filter_routes(listener: socket.socket) -> None:
    """Accept, of route notifications, only default routes and the local table: a router has very many others."""
    # Classic BPF, struct sock_filter. Loads are big-endian, nlmsg_type is not.
    load_half, load_byte, equals, accept = 0x28, 0x30, 0x15, 0x06
    routes = [socket.htons(kind) for kind in (_NEWROUTE, _DELROUTE)]
    program = [
        (load_half, 0, 0, 4),  # nlmsg_type
        (equals, 1, 0, routes[0]),
        (equals, 0, 4, routes[1]),  # not a route: accept
        (load_byte, 0, 0, _HEADER.size + 1),  # rtm_dst_len
        (equals, 2, 0, 0),
        (load_byte, 0, 0, _HEADER.size + 4),  # rtm_table
        (equals, 0, 1, _TABLE_LOCAL),
        (accept, 0, 0, 0xFFFFFFFF),
        (accept, 0, 0, 0),
    ]
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    pointer = struct.pack("HP", len(program), ctypes.addressof(buffer))
    listener.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, pointer)
