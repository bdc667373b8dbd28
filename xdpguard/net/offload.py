# SPDX-License-Identifier: GPL-2.0
"""VLAN tags that a driver strips before an XDP program sees the frame (ethtool's rxvlan), and how to prevent that."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from xdpguard.net import ethtool
from xdpguard.net.devices import Device
from xdpguard.net.netns import entered


def untagged(mode: str, receivers: Iterable[Device], netns: str) -> list[str]:
    """Return the drivers that strip tags before an XDP program sees the frames, so that answers leave untagged.

    In generic mode the kernel keeps the tag as metadata and sends it with the answer. A veth in native mode passes on
    the metadata its peer set, whatever is switched off here.
    """
    if mode != "native":
        return []
    return [it.name for it in receivers if it.kind == "veth" or strips_tags(it.name, netns)]


def strips_tags(name: str, netns: str) -> bool:
    """Return whether the driver strips tags now; False if there is no such device, or it does not report it."""
    try:
        with entered(netns):
            return bool(ethtool.flags(name) & ethtool.RX_VLAN)
    except OSError:
        return False


def set_stripping(name: str, netns: str, on: bool) -> bool:
    """Switch a driver's tag stripping on or off; return whether it took effect. Raise OSError if there is no device."""
    with entered(netns):
        flags = ethtool.flags(name)
        try:
            ethtool.set_flags(name, flags | ethtool.RX_VLAN if on else flags & ~ethtool.RX_VLAN)
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise
        return bool(ethtool.flags(name) & ethtool.RX_VLAN) == on
