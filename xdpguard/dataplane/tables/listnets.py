# SPDX-License-Identifier: GPL-2.0
"""The pre-filters of the lists (bpf/stages/index.h, nets6.h), built and read as arrays: many entries at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import nets6, placing
from xdpguard.dataplane.tables.gathered import Entries4, Entries6
from xdpguard.lists.ranges import U8, U32, U64

_ONE = np.uint64(1)
_MOST_NETS6 = 1 << 20  # /32s that short prefixes may set in the pre-filter


def build4(entries: Entries4) -> U64:
    """Return two interleaved bit planes, one bit per /24 in each: it holds an address, a prefix touches it."""
    address, prefix = np.zeros(1 << 24, np.uint8), np.zeros(1 << 24, np.uint8)
    net = entries.network >> np.uint32(8)
    address[net[entries.length == 32]] = 1
    prefix[net[(entries.length < 32) & (entries.length >= 24)]] = 1
    for length in np.unique(entries.length[entries.length < 24]):
        count = 1 << (24 - int(length))
        for first in net[entries.length == length].tolist():
            prefix[first : first + count] = 1
    planes = [np.packbits(plane, bitorder="little").view(np.uint64) for plane in (address, prefix)]
    return np.stack(planes, axis=1).reshape(-1)


def build6(entries: Entries6) -> U64:
    """Return one bit per /32 and /48 that an entry touches, in lines of 64 bytes; none where it cannot decide."""
    if wide6(entries):
        return np.zeros(nets6.LIST_LINES * abi.LINE.size // 8, np.uint64)
    bits = np.zeros(nets6.LIST_LINES * abi.LINE.size * 8, np.uint8)
    long_ones = entries.length >= nets6.SUBNET
    bits[_net6_bits(entries.high[long_ones], subnet=True)] = 1
    for length in np.unique(entries.length[~long_ones]):
        chosen = entries.high[entries.length == length]
        if length < nets6.NET:
            step = np.arange(1 << (nets6.NET - int(length)), dtype=np.uint64) << np.uint64(32)
            chosen = (chosen[:, None] | step[None, :]).reshape(-1)
        bits[_net6_bits(chosen, subnet=False)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint64)


def wide6(entries: Entries6) -> bool:
    """Return whether the pre-filter cannot decide: a prefix is too short for it, or there are too many short ones."""
    lengths = entries.length[entries.length < nets6.NET].astype(np.int64)
    return bool((lengths < nets6.SHORTEST).any()) or int((1 << (nets6.NET - lengths)).sum()) > _MOST_NETS6


def reached4(nets4: U64, network: U32, length: U8) -> int:
    """Count the IPv4 entries whose bit is set in a pre-filter; of a prefix with several networks, the first decides."""
    planes, place = nets4.reshape(-1, 2), (network >> np.uint32(14)).astype(np.int64)
    words = np.where(length == 32, planes[place, 0], planes[place, 1])
    return int((words >> (network >> np.uint32(8) & np.uint32(63)).astype(np.uint64) & _ONE).sum())


def reached6(words: U64, high: U64, length: U8) -> int:
    """Count the IPv6 entries whose bit is set in a pre-filter that decides; of several networks, the first decides."""
    place = np.where(length >= nets6.SUBNET, _net6_bits(high, subnet=True), _net6_bits(high, subnet=False))
    return int((words[place >> 6] >> (place & 63).astype(np.uint64) & _ONE).sum())


def _net6_bits(high: U64, subnet: bool) -> NDArray[np.int64]:
    """Return the bit positions of many networks, counted from the first line: what nets6.py computes for one."""
    net = placing.hash_pair(nets6.MULTIPLIER, high >> np.uint64(32), np.uint64(0))
    line = (net >> np.uint64(16)).astype(np.int64)
    if subnet:
        net = placing.hash_pair(nets6.MULTIPLIER, high >> np.uint64(16), _ONE)
    return line * (abi.LINE.size * 8) + (net & np.uint64(511)).astype(np.int64)
