# SPDX-License-Identifier: GPL-2.0
"""TCP ports as the kernel's matches of rules describe them."""

from __future__ import annotations

import struct

HIGHEST = 65_535

Ports = range


def common(ports: list[Ports], others: list[Ports]) -> list[Ports]:
    """Return the ports that are in both; two comparisons may form an interval."""
    pairs = ((mine, it) for mine in ports for it in others)
    return [both for a, b in pairs if (both := Ports(max(a.start, b.start), min(a.stop, b.stop)))]


def compared(operator: int, port: int) -> list[Ports]:
    """Return the ports for which a comparison (NFT_CMP_*) holds."""
    known = {
        0: [Ports(port, port + 1)],
        1: [Ports(0, port), Ports(port + 1, HIGHEST + 1)],
        2: [Ports(0, port)],
        3: [Ports(0, port + 1)],
        4: [Ports(port + 1, HIGHEST + 1)],
        5: [Ports(port, HIGHEST + 1)],
    }
    return known.get(operator, [])


def multiport(info: bytes) -> list[Ports]:
    """Parse ``struct xtmultiport_v1``: the kind, a count, fifteen ports, and whether each begins a range."""
    ports, spans = struct.unpack_from("=15H", info, 2), info[32:47]
    found, at = [], 0
    while at < min(info[1], 15):
        last = ports[at + 1] if spans[at] and at < 14 else ports[at]
        found.append(Ports(ports[at], last + 1))
        at += 2 if spans[at] else 1
    return found


def tcp(info: bytes) -> Ports:
    """Parse ``struct xt_tcp``: the destination ports, from the first to the last."""
    first, last = struct.unpack_from("=HH", info, 4)
    return Ports(first, last + 1)
