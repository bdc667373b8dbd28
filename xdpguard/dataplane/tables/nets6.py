# SPDX-License-Identifier: GPL-2.0
"""The IPv6 pre-filter (bpf/stages/nets6.h): one line per /32, with one bit for the /32 and one for each /48.

Entries of 16 to 47 bits set the bits of the /32s that they contain or lie in, longer ones that of their /48; with
shorter ones in the tables, every packet is looked up.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator

from xdpguard.policy.target import Prefix

MULTIPLIER = 0x9E3779B97F4A7C15
SHORTEST, NET, SUBNET = 16, 32, 48  # lengths, bits
LIST_LINES = 65_536
RULE_LINES = 4096
_LINE = 64  # bytes
_MASK = (1 << 64) - 1


def hash_pair(high: int, low: int) -> int:
    """Return ``xg_hash_pair`` with this pre-filter's multiplier."""
    mixed = (high * MULTIPLIER + low) & _MASK
    mixed ^= mixed >> 32
    return (mixed * MULTIPLIER & _MASK) >> 32


def bits(prefix: Prefix, lines: int) -> Iterator[int]:
    """Yield positions of the bits that a prefix sets in a pre-filter of ``lines`` lines; none if it is too short."""
    high = int.from_bytes(prefix.network[:8], "big")
    if prefix.length < SHORTEST:
        return
    first = high >> 32
    count = 1 << max(0, NET - prefix.length)
    for net in range(first, first + count):
        found = hash_pair(net, 0)
        line = found * lines >> 32
        if prefix.length >= SUBNET:
            found = hash_pair(high >> 16, 1)
        yield line * _LINE * 8 + (found & 511)


def set_bits(mapped: mmap.mmap, places: Iterable[int]) -> None:
    """Set bits, and leave the others."""
    for place in places:
        mapped[place >> 3] |= 1 << (place & 7)


def holds(mapped: mmap.mmap, places: Iterable[int]) -> bool:
    """Return whether all of these bits are set."""
    return all(mapped[place >> 3] >> (place & 7) & 1 for place in places)


def write(mapped: mmap.mmap, places: Iterable[int]) -> None:
    """Make the pre-filter hold exactly these bits; a bit that stays is set at every moment."""
    wanted = bytearray(len(mapped))
    for place in places:
        wanted[place >> 3] |= 1 << (place & 7)
    if mapped[:] != wanted:
        mapped[:] = bytes(wanted)
