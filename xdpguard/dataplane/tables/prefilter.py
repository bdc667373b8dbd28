# SPDX-License-Identifier: GPL-2.0
"""The pre-filter of the deny rules: one bit for each IPv4 /24, set when an entry touches it (bpf/maps.h: deny4_nets).

Bit ``net & 7`` of byte ``net >> 3``, where ``net`` is the address without its last byte: the little-endian layout of
the program's 64-bit words.
"""

from __future__ import annotations

import mmap
import sys
from collections.abc import Callable, Iterable, Mapping

from xdpguard.dataplane.sys import abi
from xdpguard.policy.target import Prefix

SIZE = 1 << 21  # bytes, for 2**24 networks

if sys.byteorder == "big":
    raise ImportError("the pre-filter's layout is that of a little-endian machine")


def touched(addresses: Iterable[bytes], prefixes: Iterable[bytes]) -> dict[int, bytes]:
    """Return the bits that map keys set, as {offset: bytes}: offsets ascending, runs disjoint."""
    bits: dict[int, int] = {}
    spans: list[tuple[int, int]] = []
    for key in addresses:
        net = int.from_bytes(key[:3], "big")
        bits[net >> 3] = bits.get(net >> 3, 0) | 1 << (net & 7)
    for key in prefixes:
        length, network = abi.PREFIX4.unpack(key)
        first = int.from_bytes(network[:3], "big")
        count = 1 << max(0, 24 - length)
        if count < 8:
            for net in range(first, first + count):
                bits[net >> 3] = bits.get(net >> 3, 0) | 1 << (net & 7)
        else:
            spans.append((first >> 3, count >> 3))
    return _merged(bits, spans)


def _merged(bits: dict[int, int], spans: list[tuple[int, int]]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    end = 0
    for start, size in sorted(spans):
        begin = max(start, end)
        if start + size > begin:
            found[begin] = b"\xff" * (start + size - begin)
            end = start + size
    starts = sorted(found)
    covered = 0
    for place in sorted(bits):
        while covered < len(starts) and starts[covered] + len(found[starts[covered]]) <= place:
            covered += 1
        if covered == len(starts) or place < starts[covered]:
            found[place] = bytes([bits[place]])
    return found


def set_bits(bits: mmap.mmap, places: Mapping[int, bytes]) -> None:
    """Set bits, and leave the others."""
    for place, chunk in places.items():
        old = int.from_bytes(bits[place : place + len(chunk)], "little")
        merged = old | int.from_bytes(chunk, "little")
        bits[place : place + len(chunk)] = merged.to_bytes(len(chunk), "little")


def holds(bits: mmap.mmap, places: Mapping[int, bytes]) -> bool:
    """Return whether all of these bits are set."""
    for place, chunk in places.items():
        wanted = int.from_bytes(chunk, "little")
        if int.from_bytes(bits[place : place + len(chunk)], "little") & wanted != wanted:
            return False
    return True


def clear_bits(bits: mmap.mmap, places: Mapping[int, bytes], still_touched: Callable[[Prefix], bool]) -> None:
    """Clear the bits whose /24 no entry touches anymore."""
    for place, chunk in places.items():
        for offset, byte in enumerate(chunk, start=place):
            for bit in range(8):
                net = Prefix((offset * 8 + bit).to_bytes(3, "big") + b"\0", 24)
                if byte >> bit & 1 and not still_touched(net):
                    bits[offset] &= ~(1 << bit) & 0xFF


def write(bits: mmap.mmap, places: Mapping[int, bytes]) -> None:
    """Make the pre-filter hold exactly these bits, page by page where it differs."""
    wanted = bytearray(SIZE)
    for place, chunk in places.items():
        wanted[place : place + len(chunk)] = chunk
    for place in range(0, SIZE, mmap.PAGESIZE):
        page = bytes(wanted[place : place + mmap.PAGESIZE])
        if bits[place : place + mmap.PAGESIZE] != page:
            bits[place : place + mmap.PAGESIZE] = page
