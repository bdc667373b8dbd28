# SPDX-License-Identifier: GPL-2.0
"""Capture files written by hand, as their specifications have them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Literal

Order = Literal["<", ">"]


def pcap(
    packets: Sequence[bytes],
    order: Order = "<",
    link: int = 1,
    nano: bool = False,
    lengths: Sequence[int] | None = None,
    times: Sequence[int] | None = None,
) -> bytes:
    """A pcap file; ``lengths``: bytes the packets had, where that is more than is captured; ``times``: in ns, without
    them a second lies between two packets.
    """
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, link)]
    for number, packet in enumerate(packets):
        length = lengths[number] if lengths else len(packet)
        seconds, rest = divmod(times[number], 1_000_000_000) if times else (1_700_000_000 + number, 5000)
        rest = rest if nano else rest // 1000
        parts.append(struct.pack(order + "IIII", seconds, rest, len(packet), length) + packet)
    return b"".join(parts)


def block(kind: int, body: bytes, order: Order = "<") -> bytes:
    """A block of pcapng."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def option(code: int, value: bytes, order: Order = "<") -> bytes:
    """An option of a block."""
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: Order = "<", options: bytes = b"") -> bytes:
    """A section header."""
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + options, order)


def interface(link: int = 1, order: Order = "<", most: int = 0, options: bytes = b"") -> bytes:
    """A description of an interface."""
    return block(1, struct.pack(order + "HHI", link, 0, most) + options, order)


def enhanced(packet: bytes, number: int = 0, order: Order = "<", length: int = 0, options: bytes = b"") -> bytes:
    """An enhanced packet block."""
    head = struct.pack(order + "IIIII", number, 5, 6, len(packet), length or len(packet))
    return block(6, head + packet + bytes(-len(packet) % 4) + options, order)


def simple(packet: bytes, order: Order = "<", length: int = 0) -> bytes:
    """A simple packet block."""
    return block(3, struct.pack(order + "I", length or len(packet)) + packet, order)


def old(packet: bytes, number: int = 0, order: Order = "<", options: bytes = b"") -> bytes:
    """A packet block as it was before the enhanced one."""
    head = struct.pack(order + "HHIIII", number, 0, 5, 6, len(packet), len(packet))
    return block(2, head + packet + bytes(-len(packet) % 4) + options, order)
