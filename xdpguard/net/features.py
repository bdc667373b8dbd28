# SPDX-License-Identifier: GPL-2.0
"""What a driver can do for XDP by the kernel's own word: the generic netlink family ``netdev``, Linux 6.3 and later."""

from __future__ import annotations

import platform
import re
from typing import Any

from xdpguard.net import netns
from xdpguard.net.links import Link

# linux/netdev.h: enum netdev_xdp_act
BASIC = 1 << 0  # ABORTED, DROP, PASS, TX
RX_SG = 1 << 5  # frames in several buffers
_DEV_GET = 1
_FRAGS_SINCE = (5, 18)  # BPF_F_XDP_HAS_FRAGS


def features(link: Link) -> int | None:
    """The device's XDP features, a set of the bits above; None where the kernel does not tell."""
    from pyroute2.netlink import genlmsg
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic import GenericNetlinkSocket

    class Device(genlmsg):  # type: ignore[misc]  # pyroute2 has no types
        nla_map = (
            ("NETDEV_A_DEV_UNSPEC", "none"),
            ("NETDEV_A_DEV_IFINDEX", "uint32"),
            ("NETDEV_A_DEV_PAD", "none"),
            ("NETDEV_A_DEV_XDP_FEATURES", "uint64"),
        )

    asked: Any = Device()
    asked["cmd"], asked["version"] = _DEV_GET, 1
    asked["attrs"] = [("NETDEV_A_DEV_IFINDEX", link.ifindex)]
    try:
        with netns.entered(link.netns), GenericNetlinkSocket() as family:
            family.module_err_level = "debug"
            family.bind("netdev", Device)
            (answer,) = family.nlm_request(asked, msg_type=family.prid, msg_flags=1)
    except NetlinkError:
        return None
    found = answer.get_attr("NETDEV_A_DEV_XDP_FEATURES")
    return None if found is None else int(found)


def no_frags(link: Link) -> str:
    """Why a driver takes no frames in several buffers in native mode; empty where it does, or nothing is known."""
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if release and (int(release[1]), int(release[2])) < _FRAGS_SINCE:
        return f"Linux {release[0]} has no XDP for frames in several buffers (5.18 has)"
    found = features(link)
    if found is not None and not found & RX_SG:
        return "the driver takes no frames in several buffers"
    return ""
