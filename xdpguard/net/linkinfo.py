# SPDX-License-Identifier: GPL-2.0
"""RTM_NEWLINK: ask for the links of a namespace; the layout of the answers, for whoever parses them."""

from __future__ import annotations

import socket
import struct

from xdpguard.net import netlink
from xdpguard.net.netlink import attribute
from xdpguard.net.netns import entered

GET_LINK = 18  # RTM_GETLINK, linux/rtnetlink.h
HEADER = struct.Struct("=BxHiII")  # struct ifinfomsg
# IFLA_*, linux/if_link.h
ADDRESS, NAME, MTU, LINK, MASTER, LINKINFO = 1, 3, 4, 5, 10, 18
LINK_NETNSID, XDP, PROP_LIST = 37, 43, 52
INFO_KIND, INFO_DATA = 1, 2
_EXT_MASK = 29
_SKIP_STATS = 1 << 3  # RTEXT_FILTER_SKIP_STATS


def messages(netns: str = "") -> list[bytes]:
    """Return an RTM_NEWLINK message for each device. Raise NoSuchNamespace if the namespace does not exist."""
    request = HEADER.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute(_EXT_MASK, struct.pack("=I", _SKIP_STATS))
    with entered(netns):
        return netlink.ask(netlink.ROUTE, GET_LINK, request, dump=True)
