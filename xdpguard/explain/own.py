# SPDX-License-Identifier: GPL-2.0
"""An interface's host: the addresses by which a capture's outgoing packets are known, and the one that answers."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping

from xdpguard.capture.direction import NOBODY, Own
from xdpguard.net import around, devices, locals
from xdpguard.net.links import Link
from xdpguard.net.netns import entered
from xdpguard.policy.target import Prefix, parse_prefix


def of_link(link: Link) -> Own:
    """Return what an interface's host sends from; nothing for loopback, where all that is sent is received."""
    if link.loopback:
        return NOBODY
    seen = around.read(link.ifindex, link.netns)
    return Own({link.mac, *seen.macs} if link.ethernet else (), _local(seen.locals))


def of_host() -> Own:
    """Return what this host sends from, on whichever interface of this network namespace."""
    macs = {it.mac for it in devices.read().values() if len(it.mac) == 6 and any(it.mac)}
    return Own(macs, _local(locals.read()))


def facing(netns: str, source: Prefix) -> Prefix | None:
    """Return the address with which the host of a namespace answers a source; None if it has no route there.

    A UDP socket that is connected sends nothing.
    """
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    with entered(netns), socket.socket(family, socket.SOCK_DGRAM) as made:
        try:
            made.connect((str(source), 9))
        except OSError:
            return None
        return parse_prefix(made.getsockname()[0].partition("%")[0])[0]


def _local(found: Mapping[Prefix, int]) -> Iterable[Prefix]:
    return [prefix for prefix, kind in found.items() if kind == locals.LOCAL and not prefix.is_loopback]
