# SPDX-License-Identifier: GPL-2.0
"""Which of too many connections has to go, so that one peer's many harm no other's."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Mapping
from typing import TypeVar

Link = TypeVar("Link")


def peer(host: str) -> str:
    """Return by what a peer is counted: its address, or of IPv6 its /64, all of which may be one's own."""
    try:
        its = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    return str(its) if its.version == 4 else str(ipaddress.ip_network((int(its) >> 64 << 64, 64)))


def surplus(links: Mapping[Link, tuple[str, float]]) -> Link:
    """Return the oldest connection of the peer that has most. ``links``: of each its peer, and when it began."""
    count = Counter(whose for whose, _ in links.values())
    return min(links, key=lambda it: (-count[links[it][0]], links[it][1]))
