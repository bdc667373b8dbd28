# SPDX-License-Identifier: GPL-2.0
"""VLAN tags that a driver takes off before an XDP program sees the frame (ethtool's rxvlan), and how to stop it."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from xdpguard.net import ethtool
from xdpguard.net.devices import Device
from xdpguard.net.netns import entered


def untagged(mode: str, receivers: Iterable[Device], netns: str) -> list[str]:
    """Names of the drivers from which an XDP program gets frames without their tags, so that answers leave untagged.

    In generic mode the kernel keeps a tag beside the frame and sends it along with the answer. A veth in native mode
    hands over what its peer has put beside the frame, whatever is switched off here.
    """
    if mode != "native":
        return []
    return [it.name for it in receivers if it.kind == "veth" or takes_tags_off(it.name, netns)]


def takes_tags_off(name: str, netns: str) -> bool:
    """Whether the driver does at present. False where there is no such device, or it cannot be asked."""
    try:
        with entered(netns):
            return bool(ethtool.flags(name) & ethtool.RX_VLAN)
    except OSError:
        return False


def let(name: str, netns: str, on: bool) -> bool:
    """Lets a driver take tags off or keeps it from that; whether it is so now. OSError when there is no device."""
    with entered(netns):
        flags = ethtool.flags(name)
        try:
            ethtool.set_flags(name, flags | ethtool.RX_VLAN if on else flags & ~ethtool.RX_VLAN)
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise
        return bool(ethtool.flags(name) & ethtool.RX_VLAN) == on
