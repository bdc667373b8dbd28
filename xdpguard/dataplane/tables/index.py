# SPDX-License-Identifier: GPL-2.0
"""Build the deny index: from the sets of all lists to the lines that bpf/stages/index.h reads, and the pre-filters.

A prefix is written as its network with the first bit after it set, a length as the bit before that one: see index.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.layouts import rules
from xdpguard.dataplane.tables import nets6, placing
from xdpguard.errors import XdpguardError
from xdpguard.lists.addresses import U32, AddressSet
from xdpguard.lists.ranges import U8, U64

U16 = NDArray[np.uint16]

WORDS = abi.LINE.size // 8
_SLOTS4, _SLOTS6 = 8, 2  # entries per line
_LENGTHS = 16  # IPv6 prefix lengths per table: XG_INDEX_LENGTHS
_PREFIX, _THERE, _SHORT = np.uint64(1 << 32), np.uint64(1 << 33), np.uint64(2)
_LIST_AT = np.uint64(48)
_ONE = np.uint64(1)
_LENGTH_LINES4 = 65_536 * 4 // abi.LINE.size
_MOST_NETS6 = 1 << 20  # /32s that short prefixes may set in the pre-filter
# Entries there may be after splitting prefixes of too many lengths: so many for each, and so many anyway.
_GROWTH, _FREE_SPLIT = 8, 1 << 20
_TRIES = 8  # multipliers to try before the tables get more lines


class Index(NamedTuple):
    """A built index: lines of eight words; pre-filters as words, None when a family has no entries."""

    lines: U64
    nets4: U64 | None
    nets6: U64 | None
    wide6: bool
    slots: dict[int, int]  # entries by list number


class _Entries4(NamedTuple):
    network: U32
    length: U8
    owner: U16


class _Entries6(NamedTuple):
    high: U64
    low: U64
    length: U8
    owner: U16


def build(lists: Sequence[tuple[int, AddressSet]], generation: int) -> Index:
    """Build the index of lists, given with their numbers; a prefix in several lists counts for the first of them."""
    four, six = _gathered4(lists), _limited(_gathered6(lists))
    for attempt in range(1, 1000):
        try:
            lines = _lines(four, six, generation, 1 + attempt // _TRIES)
            break
        except placing.TooFull:
            continue
    owners = np.concatenate((four.owner, six.owner))
    counts = np.bincount(owners, minlength=1)
    return Index(
        lines,
        _nets4(four) if four.network.size else None,
        _nets6(six) if six.high.size else None,
        _wide6(six),
        {number: int(counts[number]) if number < counts.size else 0 for number, _ in lists},
    )


def _wide6(entries: _Entries6) -> bool:
    """Return whether the pre-filter cannot decide: a prefix is too short for it, or there are too many short ones."""
    lengths = entries.length[entries.length < nets6.NET].astype(np.int64)
    return bool((lengths < nets6.SHORTEST).any()) or int((1 << (nets6.NET - lengths)).sum()) > _MOST_NETS6


def held(lines: U64) -> dict[int, int]:
    """Return the number of entries by list number, counted in the lines themselves."""
    head = rules.Index.from_buffer_copy(lines[0].tobytes())
    four = lines[head.table4 : head.table4 + head.lines4]
    six = lines[head.table6 : head.table6 + head.lines6, 2::4]
    words = np.concatenate((four.ravel(), six.ravel()))
    owners = (words[(words & _THERE) != 0] >> _LIST_AT).astype(np.int64)
    counts = np.bincount(owners, minlength=1)
    return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}


def reached4(nets4: U64, network: U32, length: U8) -> int:
    """Count the IPv4 entries whose bit is set in a pre-filter; of a prefix with several networks, the first decides."""
    planes, place = nets4.reshape(-1, 2), (network >> np.uint32(14)).astype(np.int64)
    words = np.where(length == 32, planes[place, 0], planes[place, 1])
    return int((words >> (network >> np.uint32(8) & np.uint32(63)).astype(np.uint64) & _ONE).sum())


def reached6(words: U64, high: U64, length: U8) -> int:
    """Count the IPv6 entries whose bit is set in a pre-filter that decides; of several networks, the first decides."""
    place = np.where(length >= nets6.SUBNET, _net6_bits(high, subnet=True), _net6_bits(high, subnet=False))
    return int((words[place >> 6] >> (place & 63).astype(np.uint64) & _ONE).sum())


def _gathered4(lists: Sequence[tuple[int, AddressSet]]) -> _Entries4:
    network = np.concatenate([its.network4 for _, its in lists] or [np.empty(0, np.uint32)])
    length = np.concatenate([its.length4 for _, its in lists] or [np.empty(0, np.uint8)])
    owner = np.concatenate(
        [np.full(its.network4.size, number, np.uint16) for number, its in lists] or [np.empty(0, np.uint16)]
    )
    if (length == 0).any():
        # 0.0.0.0/0 has no bit to stand for its length: it is written as two halves.
        whole = np.flatnonzero(length == 0)
        network = np.append(np.delete(network, whole), np.array([0, 1 << 31], np.uint32))
        length, owner = np.append(np.delete(length, whole), np.array([1, 1], np.uint8)), _moved(owner, whole, 2)
    if len(lists) > 1 or (length == 1).any():
        key = network.astype(np.uint64) << np.uint64(8) | length
        kept = np.sort(np.unique(key, return_index=True)[1])
        network, length, owner = network[kept], length[kept], owner[kept]
    return _Entries4(network, length, owner)


def _gathered6(lists: Sequence[tuple[int, AddressSet]]) -> _Entries6:
    high = np.concatenate([its.high6 for _, its in lists] or [np.empty(0, np.uint64)])
    low = np.concatenate([its.low6 for _, its in lists] or [np.empty(0, np.uint64)])
    length = np.concatenate([its.length6 for _, its in lists] or [np.empty(0, np.uint8)])
    owner = np.concatenate(
        [np.full(its.high6.size, number, np.uint16) for number, its in lists] or [np.empty(0, np.uint16)]
    )
    if (length == 0).any():
        whole = np.flatnonzero(length == 0)
        high = np.append(np.delete(high, whole), np.array([0, 1 << 63], np.uint64))
        low = np.append(np.delete(low, whole), np.array([0, 0], np.uint64))
        length, owner = np.append(np.delete(length, whole), np.array([1, 1], np.uint8)), _moved(owner, whole, 2)
    entries = _Entries6(high, low, length, owner)
    return _first_of_each(entries) if len(lists) > 1 or (length == 1).any() else entries


def _moved(owner: U16, whole: NDArray[np.intp], times: int) -> U16:
    """Return owners without those at ``whole``, and the first of these appended ``times`` times."""
    return np.append(np.delete(owner, whole), np.repeat(owner[whole[:1]], times))


def _first_of_each(entries: _Entries6) -> _Entries6:
    order = np.lexsort((entries.length, entries.low, entries.high))  # stable: the first list stays first
    high, low, length = entries.high[order], entries.low[order], entries.length[order]
    new = np.concatenate(([True], (high[1:] != high[:-1]) | (low[1:] != low[:-1]) | (length[1:] != length[:-1])))
    kept = np.sort(order[new[: order.size]])
    return _Entries6(entries.high[kept], entries.low[kept], entries.length[kept], entries.owner[kept])


def _limited(entries: _Entries6) -> _Entries6:
    """Split prefixes of some lengths into longer ones, until no more than ``_LENGTHS`` lengths are left.

    Raises XdpguardError, before anything is split, if there would be far more entries then.
    """
    lengths, counts = np.unique(entries.length, return_counts=True)
    for old, new in _splits(dict(zip(lengths.tolist(), counts.tolist(), strict=True))):
        entries = _first_of_each(_split(entries, old, new))
    return entries


def _splits(counts: dict[int, int]) -> list[tuple[int, int]]:
    """Return which lengths to write as which, given the number of prefixes of each: the cheapest first."""
    many, given, found = len(counts), sum(counts.values()), []
    while len(counts) > _LENGTHS:
        steps = pairwise(sorted(counts))
        old, new = min(steps, key=lambda step: counts[step[0]] << step[1] - step[0])
        counts[new] += counts.pop(old) << new - old
        found.append((old, new))
    if found and sum(counts.values()) > max(_FREE_SPLIT, _GROWTH * given):
        raise XdpguardError(
            f"the lists have IPv6 prefixes of {many} lengths; the kernel's index has {_LENGTHS}, and written as these"
            f" they would be {sum(counts.values()):,} entries",
            "nothing was changed; merge prefixes, widen ranges to whole prefixes, or leave out a list",
        )
    return found


def _split(entries: _Entries6, old: int, new: int) -> _Entries6:
    chosen = entries.length == old
    stay = [column[~chosen] for column in entries]
    high, low, owner = entries.high[chosen], entries.low[chosen], entries.owner[chosen]
    step = np.arange(1 << (new - old), dtype=np.uint64)
    count = step.size
    high, low, owner = np.repeat(high, count), np.repeat(low, count), np.repeat(owner, count)
    step = np.tile(step, high.size // count)
    if new <= 64:
        high = high | step << np.uint64(64 - new)
    else:
        low = low | step << np.uint64(128 - new)
        if old < 64:
            high = high | step >> np.uint64(new - 64)
    return _Entries6(
        np.append(stay[0], high),
        np.append(stay[1], low),
        np.append(stay[2], np.full(high.size, new, np.uint8)),
        np.append(stay[3], owner),
    )


def _lines(four: _Entries4, six: _Entries6, generation: int, roomy: int) -> U64:
    """Return the lines, with tables ``roomy`` times as large as usual. Raise TooFull when an entry has no place."""
    factor = placing.multiplier()
    lines4 = placing.lines_for(four.network.size, _SLOTS4) * roomy
    lines6 = placing.lines_for(six.high.size, _SLOTS6) * roomy
    with_lengths6 = six.length >= 32
    buckets6 = 4 * max(1, int(np.count_nonzero(with_lengths6)) // 2)
    table4 = 1
    lengths4 = table4 + lines4
    table6 = lengths4 + _LENGTH_LINES4
    lengths6 = table6 + lines6
    lines = np.zeros((lengths6 + buckets6 // 4, WORDS), np.uint64)
    _place4(lines[table4:lengths4], four, factor)
    lines[lengths4:table6].view(np.uint32).reshape(-1)[:] = _lengths4(four)
    _place6(lines[table6:lengths6], six, factor)
    _lengths6(lines[lengths6:].reshape(-1, 2), six, factor)
    head = rules.Index(
        multiplier=factor,
        table4=table4,
        lines4=lines4,
        lengths4=lengths4,
        table6=table6,
        lines6=lines6,
        lengths6=lengths6,
        buckets6=buckets6,
        short6=_short6(six),
        generation=generation,
    )
    lines[0] = np.frombuffer(bytes(head), np.uint64)
    return lines


def _place4(table: U64, entries: _Entries4, factor: int) -> None:
    if not entries.network.size:
        return
    key = entries.network.astype(np.uint64) | _THERE
    prefix = entries.length < 32
    key[prefix] |= _PREFIX | _ONE << (np.uint64(31) - entries.length[prefix].astype(np.uint64))
    slots = placing.arrange(placing.hash_pair(factor, key, np.uint64(0)), len(table), _SLOTS4)
    table.reshape(-1)[slots] = key | entries.owner.astype(np.uint64) << _LIST_AT


def _place6(table: U64, entries: _Entries6, factor: int) -> None:
    if not entries.high.size:
        return
    short = entries.length <= 64
    high = np.where(short, np.uint64(0), entries.high)
    low = np.where(short, entries.high, entries.low)
    free = (np.where(short, 64, 128) - entries.length).astype(np.uint64)
    low = low | np.where(free == 0, np.uint64(0), _ONE << np.maximum(free, _ONE) - _ONE)
    kind = _THERE | np.where(short, _SHORT, np.uint64(0)) | (free == 0).astype(np.uint64)
    slots = placing.arrange(placing.hash_pair(factor, high, low ^ kind), len(table), _SLOTS6)
    cells = table.reshape(-1, WORDS // _SLOTS6)
    cells[slots, 0], cells[slots, 1] = high, low
    cells[slots, 2] = kind | entries.owner.astype(np.uint64) << _LIST_AT


def _lengths4(entries: _Entries4) -> U32:
    """Return, for each /16, the lengths below 32 that touch it."""
    found = np.zeros(65_536, np.uint32)
    for length in np.unique(entries.length):
        chosen = entries.network[entries.length == length] >> np.uint32(16)
        if length == 32:
            continue
        bit = np.uint32(1 << (32 - int(length)))
        if length >= 16:
            found[chosen] |= bit
            continue
        for first in chosen.tolist():
            found[first : first + (1 << (16 - int(length)))] |= bit
    return found


def _lengths6(table: U64, entries: _Entries6, factor: int) -> None:
    """Set, for each hash of a /32, the lengths from 32 on that touch it: up to 64, and longer ones."""
    for length in np.unique(entries.length):
        if length < 32:
            continue
        net = entries.high[entries.length == length] >> np.uint64(32)
        buckets = placing.place(placing.hash_pair(factor, net, np.uint64(0)), len(table))
        table[buckets, int(length > 64)] |= _ONE << np.uint64((64 if length <= 64 else 128) - int(length))


def _short6(entries: _Entries6) -> int:
    return sum(1 << (64 - int(length)) for length in np.unique(entries.length) if length < 32)


def _nets4(entries: _Entries4) -> U64:
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


def _nets6(entries: _Entries6) -> U64:
    if _wide6(entries):
        return np.zeros(nets6.LIST_LINES * WORDS, np.uint64)
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


def _net6_bits(high: U64, subnet: bool) -> NDArray[np.int64]:
    """Return the bit positions of many networks, counted from the first line: what nets6.py computes for one."""
    net = placing.hash_pair(nets6.MULTIPLIER, high >> np.uint64(32), np.uint64(0))
    line = (net >> np.uint64(16)).astype(np.int64)
    if subnet:
        net = placing.hash_pair(nets6.MULTIPLIER, high >> np.uint64(16), _ONE)
    return line * (abi.LINE.size * 8) + (net & np.uint64(511)).astype(np.int64)
