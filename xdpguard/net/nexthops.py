# SPDX-License-Identifier: GPL-2.0
"""The next hops of every route of a network namespace: of all tables, of each path of a route, of nexthop objects.

Which table a packet takes is decided by rules on it (ip rule), so every table counts.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from xdpguard.net import netlink
from xdpguard.net.netlink import attributes
from xdpguard.policy.target import Prefix

_GET_ROUTE, _GET_NEXTHOP = 26, 106  # RTM_*
_ROUTE = struct.Struct("=8BI")  # struct rtmsg
_NEXTHOP = struct.Struct("=4BI")  # struct nhmsg
_GATEWAY, _MULTIPATH, _VIA, _NEXTHOP_ID = 5, 9, 18, 30  # RTA_*
_ID, _GROUP, _OBJECT_GATEWAY = 1, 2, 6  # NHA_*
_PATH = struct.Struct("=HBBi")  # struct rtnexthop: its length, with attributes, flags, hops, interface
_MEMBER = struct.Struct("=IBBH")  # struct nexthop_grp
_ABSENT = (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL)


_OWN = Path("/proc/thread-self/ns/net")
_SLOW = 0.1  # seconds: reading that takes longer, as with the routes of the whole Internet, ...
_SHARE = 20  # ... is repeated only after so many times as long

_held: dict[int, tuple[float, list[Prefix]]] = {}  # by inode of the namespace: until when, and what


def read() -> list[Prefix]:
    """Return the next hops of the network namespace this thread is in. Raise OSError if the kernel does not tell."""
    place, begun = _OWN.stat().st_ino, time.monotonic()
    until, found = _held.get(place, (0.0, []))
    if begun >= until:
        found = _read()
        now = time.monotonic()
        _held[place] = (now + _SHARE * (now - begun) if now - begun > _SLOW else now, found)
    return found


def _read() -> list[Prefix]:
    found: set[bytes] = set()
    objects: set[int] = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for message in _dump(_GET_ROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            gateways, number = of_route(message)
            found |= gateways
            if number:
                objects.add(number)
    if objects:
        found |= of_objects(_dump(_GET_NEXTHOP, _NEXTHOP.pack(0, 0, 0, 0, 0)), objects)
    return sorted(Prefix(it, len(it) * 8) for it in found if any(it))


def of_route(message: bytes) -> tuple[set[bytes], int]:
    """Return the next hops in an RTM_NEWROUTE message, and the id of its nexthop object, 0 without one."""
    its = attributes(message, _ROUTE.size)
    found = _gateways(its)
    for path in _paths(its.get(_MULTIPATH, b"")):
        found |= _gateways(path)
    return found, netlink.number(its.get(_NEXTHOP_ID))


def of_objects(messages: Iterable[bytes], wanted: set[int]) -> set[bytes]:
    """Return the next hops of these nexthop objects, from RTM_NEWNEXTHOP messages; a group stands for its members."""
    gateways: dict[int, bytes] = {}
    groups: dict[int, set[int]] = {}
    for message in messages:
        its = attributes(message, _NEXTHOP.size)
        number = netlink.number(its.get(_ID))
        if _OBJECT_GATEWAY in its:
            gateways[number] = its[_OBJECT_GATEWAY]
        group = its.get(_GROUP, b"")
        groups[number] = {member[0] for member in _MEMBER.iter_unpack(group[: len(group) // 8 * 8])}
    members = wanted.union(*(groups.get(it, set()) for it in wanted))
    return {gateways[it] for it in members if it in gateways}


def _gateways(its: dict[int, bytes]) -> set[bytes]:
    found = {its[_GATEWAY]} if _GATEWAY in its else set()
    if _VIA in its:
        found.add(its[_VIA][2:])  # struct rtvia: the address follows its family
    return {it for it in found if len(it) in (4, 16)}


def _paths(data: bytes) -> Iterator[dict[int, bytes]]:
    at = 0
    while at + _PATH.size <= len(data):
        length, _, _, _ = _PATH.unpack_from(data, at)
        if length < _PATH.size:
            return
        yield attributes(data[: at + length], at + _PATH.size)
        at += length + 3 & ~3


def _dump(kind: int, request: bytes) -> list[bytes]:
    try:
        return netlink.ask(netlink.ROUTE, kind, request, dump=True)
    except OSError as error:
        if error.errno in _ABSENT:
            return []  # a kernel without that family, or without nexthop objects
        raise
