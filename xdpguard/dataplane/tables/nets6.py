# SPDX-License-Identifier: GPL-2.0
"""The pre-filter for IPv6 (bpf/stages/nets6.h): one line for a /32, in it one bit for the /32 and one for each /48.

Entries of 16 to 47 bits set the bits of the /32 they hold or stand in, longer ones that of their /48; for shorter ones
every packet is looked up.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator

from xdpguard.policy.target import Prefix

MULTIPLIER = 0x9E3779B97F4A7C15
SHORTEST, NET, SUBNET = 16, 32, 48  # lengths, bits
LIST_LINES = 65_536
RULE_LINES = 4096
_LINE = 64  # octets
_MASK = (1 << 64) - 1


def hash_pair(high: int, low: int) -> int:
    """``xg_hash_pair`` with this pre-filter's multiplier."""
    mixed = (high * MULTIPLIER + low) & _MASK
    mixed ^= mixed >> 32
    return (mixed * MULTIPLIER & _MASK) >> 32


def bits(prefix: Prefix, lines: int) -> Iterator[int]:
    """Places of the bits that a prefix sets in a pre-filter of so many lines. None for one that is too short."""
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
    """Sets bits, leaving the others."""
    for place in places:
        mapped[place >> 3] |= 1 << (place & 7)


def write(mapped: mmap.mmap, places: Iterable[int]) -> None:
    """Makes the pre-filter these bits and no others, in a way that no bit that stays is ever missing."""
    wanted = bytearray(len(mapped))
    for place in places:
        wanted[place >> 3] |= 1 << (place & 7)
    if mapped[:] != wanted:
        mapped[:] = bytes(wanted)
