# SPDX-License-Identifier: GPL-2.0
"""A driver's XDP features as the kernel reports them: the generic netlink family ``netdev``, Linux 6.3 and later."""

from __future__ import annotations

import platform
import re
import struct
import sys

from xdpguard.net import netlink
from xdpguard.net.links import Link
from xdpguard.net.netns import entered

# linux/netdev.h: enum netdev_xdp_act
BASIC = 1 << 0  # ABORTED, DROP, PASS, TX
RX_SG = 1 << 5  # multi-buffer frames
_DEV_GET, _DEV_IFINDEX, _DEV_XDP_FEATURES = 1, 1, 3  # NETDEV_*, linux/netdev.h
_FRAGS_SINCE = (5, 18)  # BPF_F_XDP_HAS_FRAGS


def release() -> tuple[int, ...]:
    """Return the kernel's version: major, minor."""
    return tuple(int(it) for it in re.findall(r"\d+", platform.release())[:2])


def features(ifindex: int) -> int | None:
    """Return the XDP features of a device in this namespace (the bits above); None if not reported."""
    asked = struct.pack("=BBH", _DEV_GET, 1, 0) + netlink.attribute(_DEV_IFINDEX, struct.pack("=I", ifindex))
    try:
        found = netlink.ask(netlink.GENERIC, netlink.family("netdev"), asked)[0]
    except OSError:
        return None
    reported = netlink.attributes(found[4:]).get(_DEV_XDP_FEATURES)
    return None if reported is None else int.from_bytes(reported, sys.byteorder)


def no_frags(link: Link) -> str:
    """Return why a driver rejects multi-buffer frames in native mode; empty if it accepts them or nothing is known."""
    if release() < _FRAGS_SINCE:
        return f"Linux {'.'.join(map(str, release()))} has no multi-buffer XDP (it came with 5.18)"
    with entered(link.netns):
        found = features(link.ifindex)
    if found is not None and not found & RX_SG:
        return "the driver does not support multi-buffer frames"
    return ""
