# SPDX-License-Identifier: GPL-2.0
"""What connection tracking knows of exchanges with the outside: the ends of those whose sockets are not found here."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from xdpguard.net import netlink
from xdpguard.net.netlink import attributes, number
from xdpguard.net.netns import entered

_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_ANY_FAMILY = struct.pack("=BBH", 0, 0, 0)  # struct nfgenmsg
# linux/netfilter/nfnetlink_conntrack.h
_ORIGINAL, _REPLY, _STATUS, _STATE = 1, 2, 3, 4  # CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_STATUS, CTA_PROTOINFO
_IP, _PROTOCOL = 1, 2  # CTA_TUPLE_*
_SOURCE4, _SOURCE6 = 1, 3  # CTA_IP_*
_NUMBER, _FROM, _TO = 1, 2, 3  # CTA_PROTO_*
_TCP, _TCP_STATE = 1, 1  # CTA_PROTOINFO_*
_ESTABLISHED = 3  # TCP_CONNTRACK_ESTABLISHED
_ANSWERED, _SOURCE_NAT, _DESTINATION_NAT = 1 << 1, 1 << 4, 1 << 5  # IPS_*


class Flow(NamedTuple):
    """An exchange as seen from here: protocol, remote address (4 or 16 bytes) and port, local port."""

    protocol: int
    remote: bytes
    remote_port: int
    local_port: int


def read(netns: str) -> list[Flow]:
    """Return UDP exchanges that were answered, and established TCP connections whose addresses are translated.

    None where nothing is tracked. Raise NoSuchNamespace, or OSError with the kernel's errno.
    """
    with entered(netns):
        try:
            # Asking would load the modules.
            if not int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text(encoding="ascii")):
                return []
            messages = netlink.ask(netlink.NETFILTER, _GET, _ANY_FAMILY, dump=True)
        except FileNotFoundError:
            return []
        except OSError as error:
            if error.errno in netlink.MISSING:
                return []
            raise
    return [flow for message in messages for flow in parse(message)]


def parse(message: bytes) -> Iterator[Flow]:
    """Yield the exchange of one message of the dump as it may be seen outside: in each direction that can be that."""
    found = attributes(message, len(_ANY_FAMILY))
    status = int.from_bytes(found.get(_STATUS, b""), "big")
    reply, original = (_tuple(found.get(it, b"")) for it in (_REPLY, _ORIGINAL))
    translated = status & (_SOURCE_NAT | _DESTINATION_NAT)
    if reply is None or original is None or not status & _ANSWERED:
        return
    if reply.protocol == socket.IPPROTO_TCP:
        tcp = attributes(attributes(found.get(_STATE, b"")).get(_TCP, b""))
        if not translated or number(tcp.get(_TCP_STATE, b"") + bytes(3)) & 0xFF != _ESTABLISHED:
            return
    elif reply.protocol != socket.IPPROTO_UDP:
        return
    yield reply  # begun from here
    if status & _DESTINATION_NAT:
        yield original  # begun outside, with a service that is translated


def _tuple(data: bytes) -> Flow | None:
    parts = attributes(data)
    ip, protocol = attributes(parts.get(_IP, b"")), attributes(parts.get(_PROTOCOL, b""))
    source = ip.get(_SOURCE4) or ip.get(_SOURCE6)
    if source is None or _NUMBER not in protocol:
        return None
    ports = (int.from_bytes(protocol.get(it, b"")[:2], "big") for it in (_FROM, _TO))
    return Flow(protocol[_NUMBER][0], source, *ports)
