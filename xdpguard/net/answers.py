# SPDX-License-Identifier: GPL-2.0
"""Whether a frame that an XDP program sends back (XDP_TX) leaves the interface, and if not, why.

In generic mode it is transmitted like any other packet of the host. In native mode the driver decides. A veth passes
it to its peer, where it arrives only if the peer has an XDP program in native mode: a program in generic mode does not
help, and with GRO alone frames stay in a ring until something else wakes the peer, because veth_xdp_flush
(drivers/net/veth.c) wakes it only for a program. Other drivers declare what they support from Linux 6.3 on: the XDP
features of the netlink family ``netdev``, where BASIC includes XDP_TX.
"""

from __future__ import annotations

import socket
import struct
import sys
from typing import NamedTuple

from xdpguard.errors import XdpguardError
from xdpguard.net import ethtool, netlink
from xdpguard.net.features import BASIC, features, release
from xdpguard.net.links import Link
from xdpguard.net.netns import entered

_GETLINK = 18  # RTM_GETLINK, linux/rtnetlink.h
_IFINFOMSG = 16  # bytes of struct ifinfomsg, before the attributes
_IFNAME, _LINK, _MASTER, _LINKINFO, _LINK_NETNSID, _XDP, _TARGET_NETNSID = 3, 5, 10, 18, 37, 43, 46  # IFLA_*
_INFO_KIND = 1  # IFLA_INFO_KIND, linux/if_link.h
_XDP_DRV_PROG_ID, _XDP_SKB_PROG_ID = 5, 6  # IFLA_XDP_*
# Drivers that implement XDP_TX, for kernels that do not report it: those with `case XDP_TX` in their receive path in
# Linux 6.2 (drivers/net), by the name ethtool reports ("vif" is xen-netfront).
_SENDING = frozenset(
    (
        *(
            "atlantic",
            "bnxt_en",
            "ena",
            "hv_netvsc",
            "i40e",
            "ice",
            "igb",
            "igc",
            "ixgbe",
            "ixgbevf",
            "mana",
            "mlx4_en",
        ),
        *("mlx5_core", "mvneta", "mvpp2", "nfp", "qede", "sfc", "tun", "vif", "virtio_net"),
    )
)
# Reports BASIC since 6.3, yet aborts XDP_TX before 6.6 (drivers/net/ethernet/freescale/fec_main.c).
_FEC, _FEC_SENDS = "fec", (6, 6)


class Egress(NamedTuple):
    """Whether answers leave the interface (None: unknown); ``why`` gives the obstacle, or what is unknown, in words."""

    leaves: bool | None
    why: str = ""
    remedy: str = ""


def egress(link: Link, mode: str = "") -> Egress:
    """Return whether answers leave an interface in a mode (native or generic; by default that of its program).

    Checks the current state of the link, and of the other end of a veth in any namespace. A link that no longer exists
    sends nothing.
    """
    mode = mode or (link.xdp.mode if link.xdp else "native")
    if mode != "native":
        return Egress(True)
    try:
        with entered(link.netns):
            return _native_egress(link.ifindex, link.kind)
    except (OSError, XdpguardError) as error:
        return Egress(False, f"its transmit path cannot be checked ({error})", "see ip link")


def _native_egress(ifindex: int, kind: str) -> Egress:
    """Check the transmit path in this namespace and in native mode."""
    if kind == "veth":
        return _to_peer(ifindex)
    if kind == "bond":
        return _of_ports(ifindex)
    return _of_driver(ifindex)


def _to_peer(ifindex: int) -> Egress:
    mine = _link(ifindex)
    namespace = mine.get(_LINK_NETNSID)
    if not _number(mine.get(_LINK)):
        return Egress(False, "it has no veth peer anymore", "see ip link")
    try:
        peer = _link(_number(mine[_LINK]), namespace)
    except OSError as error:
        what = f"whether its veth peer carries an XDP program cannot be determined from here ({error.strerror})"
        return Egress(False, what, "detach and attach with --mode generic, or run this outside the container")
    programs = netlink.attributes(peer.get(_XDP, b""))
    if _number(programs.get(_XDP_DRV_PROG_ID)):
        return Egress(True)
    name = _text(peer.get(_IFNAME)) + (" in another network namespace" if namespace is not None else "")
    carries = "its XDP program in generic mode" if _number(programs.get(_XDP_SKB_PROG_ID)) else "no XDP program"
    return Egress(
        False,
        f"its veth peer {name} carries {carries}, and the kernel discards what XDP sends to such a peer in native mode",
        "detach and attach with --mode generic; or put an XDP program on the peer in native mode",
    )


def _of_ports(ifindex: int) -> Egress:
    """Check a bond: its program runs on its ports and may send through any of them."""
    for message in netlink.ask(netlink.ROUTE, _GETLINK, bytes(_IFINFOMSG), dump=True):
        port = netlink.attributes(message[_IFINFOMSG:])
        if _number(port.get(_MASTER)) == ifindex:
            kind = _text(netlink.attributes(port.get(_LINKINFO, b"")).get(_INFO_KIND))
            out = _native_egress(struct.unpack_from("=i", message, 4)[0], kind)
            if out.leaves is not True:
                return out._replace(why=f"its port {_text(port.get(_IFNAME))}: {out.why}")
    return Egress(True)


def _of_driver(ifindex: int) -> Egress:
    driver = _driver(ifindex)
    if driver == _FEC and release() < _FEC_SENDS:
        what = "its driver (fec) drops what XDP sends, before Linux 6.6"
        return Egress(False, what, "detach and attach with --mode generic")
    found = features(ifindex)
    if (found is not None and found & BASIC) or (found is None and driver in _SENDING):
        return Egress(True)
    return Egress(None, f"it is not known whether its driver ({driver or 'unnamed'}) can send XDP answers")


def _link(ifindex: int, netnsid: bytes | None = None) -> dict[int, bytes]:
    """Return the attributes of a link in this namespace, or in the one with that id here."""
    body = struct.pack("=BBHiII", 0, 0, 0, ifindex, 0, 0)
    if netnsid is not None:
        body += netlink.attribute(_TARGET_NETNSID, netnsid)
    return netlink.attributes(netlink.ask(netlink.ROUTE, _GETLINK, body)[0][_IFINFOMSG:])


def _number(value: bytes | None) -> int:
    return int.from_bytes(value or b"", sys.byteorder)


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode("utf-8", "replace")


def _driver(ifindex: int) -> str:
    """Return the driver's name; empty if it reports none."""
    try:
        return ethtool.driver(socket.if_indextoname(ifindex))
    except OSError:
        return ""
