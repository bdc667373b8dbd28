# SPDX-License-Identifier: GPL-2.0
"""A namespace's own addresses as its routing decides: the entries of type local in its routing tables."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable

from xdpguard.net import netlink
from xdpguard.net.netlink import attribute, attributes
from xdpguard.net.netns import entered
from xdpguard.policy.target import Prefix

LOCAL, BROADCAST = 1, 2  # enum xg_local: answered; the host's own, but never answered
TABLE = 255  # RT_TABLE_LOCAL, linux/rtnetlink.h

_GET_ROUTE = 26  # RTM_GETROUTE
_HEADER = struct.Struct("=8BI")  # struct rtmsg: family, lengths of destination and source, TOS, table, ..., type; flags
_DESTINATION, _TABLE = 1, 15  # RTA_*
# RTN_*. An anycast address is not a valid source, just as a broadcast address is not.
_KINDS = {2: LOCAL, 3: BROADCAST, 4: BROADCAST}
_LOOPBACK = {Prefix(b"\x7f\0\0\0", 8): LOCAL}


def read(netns: str = "", tables: Iterable[int] = (TABLE,)) -> dict[Prefix, int]:
    """Return LOCAL or BROADCAST for each prefix of routing tables that is the host's own; never empty.

    ``tables``: the main local table, and those of VRFs, which hold the addresses of their interfaces. Leaves out
    multicast.
    """
    found: dict[Prefix, int] = {}
    with entered(netns):
        for family in (socket.AF_INET, socket.AF_INET6):
            for table in tables:
                for prefix, kind in _entries(family, table):
                    # Of two entries for one prefix the one that is answered wins: an address can be its own broadcast.
                    found[prefix] = min(kind, found.get(prefix, kind))
    # A namespace without addresses answers for nothing, which an empty mapping would not express.
    return found or dict(_LOOPBACK)


def _entries(family: int, table: int) -> list[tuple[Prefix, int]]:
    request = _HEADER.pack(family, 0, 0, 0, table if table <= 255 else 0, 0, 0, 0, 0)
    try:
        messages = netlink.ask(
            netlink.ROUTE, _GET_ROUTE, request + attribute(_TABLE, struct.pack("=I", table)), dump=True
        )
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
            return []  # no such table, or a kernel without that family
        raise
    return [it for it in (parse(message, table) for message in messages) if it]


def parse(message: bytes, table: int) -> tuple[Prefix, int] | None:
    """Return prefix and kind of an RTM_NEWROUTE message; None if the route is not local or of another table."""
    family, length, _, _, short, _, _, kind, _ = _HEADER.unpack_from(message)
    found = attributes(message, _HEADER.size)
    number = struct.unpack("=I", found[_TABLE])[0] if _TABLE in found else short
    if kind not in _KINDS or number != table or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return Prefix(found.get(_DESTINATION, bytes(4 if family == socket.AF_INET else 16)), length), _KINDS[kind]
