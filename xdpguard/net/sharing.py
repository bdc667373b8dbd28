# SPDX-License-Identifier: GPL-2.0
"""Devices of other network namespaces that take frames of an interface: of containers by macvlan, ipvlan or VLAN."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from xdpguard.errors import XdpguardError
from xdpguard.net import devices, netns
from xdpguard.net.links import Link, Links

_KINDS = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap", "vlan"})


def moved() -> list[Link]:
    """Return the devices of those kinds whose device below is in another namespace.

    Namespaces that cannot be entered are left out.
    """
    links, found = Links(), []
    for place in netns.all_places():
        with contextlib.suppress(XdpguardError, OSError):  # its last process may end at any moment
            found += [it for it in links.all(place.name) if it.kind in _KINDS and it.lower_nsid is not None]
    return found


def shares(link: Link, among: Iterable[Link]) -> bool:
    """Return whether one of these devices, as `moved` returns them, is above an interface."""
    links, among = Links(), list(among)
    if not among:
        return False
    below = {link.ifindex, *(it.ifindex for it in devices.above(devices.read(link.netns), link.ifindex))}
    return any(links.is_above(it, link._replace(ifindex=it.lower)) for it in among if it.lower in below)
