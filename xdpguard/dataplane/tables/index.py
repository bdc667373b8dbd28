# SPDX-License-Identifier: GPL-2.0
"""Build the deny index: from the sets of all lists to the lines that bpf/stages/index.h reads, and the pre-filters.

A prefix is written as its network with the first bit after it set, a length as the bit before that one: see index.h.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.sys.layouts import rules
from xdpguard.dataplane.tables import endings, listnets, placing
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.dataplane.tables.gathered import Entries4, Entries6, Lists, gathered4, gathered6, limited
from xdpguard.lists.ranges import U32, U64

WORDS = abi.LINE.size // 8
_SLOTS4, _SLOTS6 = 8, 2  # entries per line
_PREFIX, _THERE, _SHORT = np.uint64(1 << 32), np.uint64(1 << 33), np.uint64(2)
_LIST_AT = np.uint64(48)
_ONE = np.uint64(1)
_LENGTH_LINES4 = 65_536 * 4 // abi.LINE.size
_TRIES = 8  # multipliers to try before the tables get more lines


class Index(NamedTuple):
    """A built index: lines of eight words; pre-filters as words, None when a family has no entries."""

    lines: U64
    nets4: U64 | None
    nets6: U64 | None
    wide6: bool
    slots: dict[int, int]  # entries by list number


class _Beside(NamedTuple):
    """What stands beside the prefixes: list and number of the end, in place in the words of both families; the lines
    of ends.
    """

    four: U64
    six: U64
    ends: U64


def build(lists: Lists, generation: int) -> Index:
    """Build the index of lists, given with their numbers; a prefix in several lists counts for the one in which it
    lasts longest, and of these for the first.
    """
    four, six = gathered4(lists), limited(gathered6(lists))
    numbers, table = endings.numbered(np.concatenate((four.end, six.end)))
    ends = endings.lines(table, boot_offset())
    owners = np.concatenate((four.owner, six.owner))
    words = owners.astype(np.uint64) << _LIST_AT | numbers << endings.AT
    beside = _Beside(words[: four.end.size], words[four.end.size :], ends)
    for attempt in range(1, 1000):
        try:
            lines = _lines(four, six, beside, generation, 1 + attempt // _TRIES)
            break
        except placing.TooFull:
            continue
    counts = np.bincount(owners, minlength=1)
    return Index(
        lines,
        listnets.build4(four) if four.network.size else None,
        listnets.build6(six) if six.high.size else None,
        listnets.wide6(six),
        {number: int(counts[number]) if number < counts.size else 0 for number, _ in lists},
    )


def held(lines: U64) -> dict[int, int]:
    """Return the number of entries by list number, counted in the lines themselves."""
    head = rules.Index.from_buffer_copy(lines[0].tobytes())
    four = lines[head.table4 : head.table4 + head.lines4]
    six = lines[head.table6 : head.table6 + head.lines6, 2::4]
    words = np.concatenate((four.ravel(), six.ravel()))
    owners = (words[(words & _THERE) != 0] >> _LIST_AT).astype(np.int64)
    counts = np.bincount(owners, minlength=1)
    return {int(number): int(counts[number]) for number in np.flatnonzero(counts)}


def _lines(four: Entries4, six: Entries6, beside: _Beside, generation: int, roomy: int) -> U64:
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
    ends_at = lengths6 + buckets6 // 4
    lines = np.zeros((ends_at + len(beside.ends), WORDS), np.uint64)
    _place4(lines[table4:lengths4], four, beside.four, factor)
    lines[lengths4:table6].view(np.uint32).reshape(-1)[:] = _lengths4(four)
    _place6(lines[table6:lengths6], six, beside.six, factor)
    _lengths6(lines[lengths6:ends_at].reshape(-1, 2), six, factor)
    lines[ends_at:] = beside.ends
    head = rules.Index(
        multiplier=factor,
        table4=table4,
        lines4=lines4,
        lengths4=lengths4,
        ends=ends_at,
        table6=table6,
        lines6=lines6,
        lengths6=lengths6,
        buckets6=buckets6,
        short6=sum(1 << (64 - int(length)) for length in np.unique(six.length) if length < 32),
        generation=generation,
    )
    lines[0] = np.frombuffer(bytes(head), np.uint64)
    return lines


def _place4(table: U64, entries: Entries4, words: U64, factor: int) -> None:
    if not entries.network.size:
        return
    key = entries.network.astype(np.uint64) | _THERE
    prefix = entries.length < 32
    key[prefix] |= _PREFIX | _ONE << (np.uint64(31) - entries.length[prefix].astype(np.uint64))
    slots = placing.arrange(placing.hash_pair(factor, key, np.uint64(0)), len(table), _SLOTS4)
    table.reshape(-1)[slots] = key | words


def _place6(table: U64, entries: Entries6, words: U64, factor: int) -> None:
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
    cells[slots, 2] = kind | words


def _lengths4(entries: Entries4) -> U32:
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


def _lengths6(table: U64, entries: Entries6, factor: int) -> None:
    """Set, for each hash of a /32, the lengths from 32 on that touch it: up to 64, and longer ones."""
    for length in np.unique(entries.length):
        if length < 32:
            continue
        net = entries.high[entries.length == length] >> np.uint64(32)
        buckets = placing.place(placing.hash_pair(factor, net, np.uint64(0)), len(table))
        table[buckets, int(length > 64)] |= _ONE << np.uint64((64 if length <= 64 else 128) - int(length))
