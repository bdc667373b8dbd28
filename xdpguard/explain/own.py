# SPDX-License-Identifier: GPL-2.0
"""The addresses by which a capture's outgoing packets are known: those of an interface's host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xdpguard.capture.direction import NOBODY, Own
from xdpguard.net import around, devices, locals
from xdpguard.net.links import Link
from xdpguard.policy.target import Prefix


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


def _local(found: Mapping[Prefix, int]) -> Iterable[Prefix]:
    return [prefix for prefix, kind in found.items() if kind == locals.LOCAL and not prefix.is_loopback]
