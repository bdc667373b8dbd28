# SPDX-License-Identifier: GPL-2.0
"""What the default has cut, or would have: summed up by where the packets go, and by where they come from."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from xdpguard.dataplane.tables.default import Cut

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}


class CutPort(NamedTuple):
    """A destination, in words such as 8080/tcp: packets to it, from how many sources, Unix time of the last one."""

    port: str
    packets: int
    bytes: int
    sources: int
    last: float


class CutSource(NamedTuple):
    """A source: its packets, where most of them go (the most first), Unix time of the last one."""

    source: str
    packets: int
    bytes: int
    ports: tuple[str, ...]
    last: float


def port_of(cut: Cut) -> str:
    """Name where packets go: 53/udp, icmp type 8, protocol 47."""
    name = _PROTOCOLS.get(cut.protocol)
    if name is None:
        return f"protocol {cut.protocol}"
    return f"{name} type {cut.port}" if name.startswith("icmp") else f"{cut.port}/{name}"


def by_port(cuts: Iterable[Cut]) -> list[CutPort]:
    """Sum up by destination; the most packets first."""
    groups: dict[str, list[Cut]] = {}
    for it in cuts:
        groups.setdefault(port_of(it), []).append(it)
    found = [
        CutPort(port, *_sums(its), len({it.source for it in its}), max(it.last for it in its))
        for port, its in groups.items()
    ]
    return sorted(found, key=lambda it: (-it.packets, it.port))


def by_source(cuts: Iterable[Cut]) -> list[CutSource]:
    """Sum up by source; the most packets first."""
    groups: dict[bytes, list[Cut]] = {}
    for it in cuts:
        groups.setdefault(it.source, []).append(it)
    found = []
    for source, its in groups.items():
        ports = tuple(port_of(it) for it in sorted(its, key=lambda it: (-it.packets, it.port)))
        found.append(CutSource(str(ipaddress.ip_address(source)), *_sums(its), ports, max(it.last for it in its)))
    return sorted(found, key=lambda it: (-it.packets, it.source))


def _sums(cuts: Iterable[Cut]) -> tuple[int, int]:
    its = list(cuts)
    return sum(it.packets for it in its), sum(it.bytes for it in its)
