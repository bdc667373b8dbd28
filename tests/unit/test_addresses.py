# SPDX-License-Identifier: GPL-2.0
"""Sets of addresses against ipaddress, and the index tables when they are crowded."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import gathered, placing
from xdpguard.dataplane.tables.gathered import gathered6, limited
from xdpguard.dataplane.tables.index import build, held
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.lists import addresses, ranges
from xdpguard.lists.addresses import AddressSet, aggregate, unpacked
from xdpguard.lists.ranges import Ranges
from xdpguard.lists.timed import Given
from xdpguard.policy.target import Prefix

Net = ipaddress.IPv4Network | ipaddress.IPv6Network


def nets4() -> st.SearchStrategy[ipaddress.IPv4Network]:
    lengths = st.one_of(st.just(32), st.integers(22, 32), st.integers(0, 32))
    numbers = st.integers(0, 1023).map(lambda low: 0x0A000000 | low)
    return st.tuples(numbers, lengths).map(lambda it: ipaddress.IPv4Network((it[0] >> 32 - it[1] << 32 - it[1], it[1])))


def nets6() -> st.SearchStrategy[ipaddress.IPv6Network]:
    lengths = st.one_of(st.just(128), st.integers(60, 68), st.integers(124, 128), st.integers(0, 128))
    numbers = st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(0, 15)).map(
        lambda it: 0x20010DB8 << 96 | it[0] << 64 | it[1] << 61 | it[2]
    )
    return st.tuples(numbers, lengths).map(
        lambda it: ipaddress.IPv6Network((it[0] >> 128 - it[1] << 128 - it[1], it[1]))
    )


def made(four: list[ipaddress.IPv4Network], six: list[ipaddress.IPv6Network]) -> tuple[AddressSet, int]:
    return aggregate(
        np.array([int(net[0]) for net in four], np.uint32),
        np.array([int(net[-1]) for net in four], np.uint32),
        np.array([int(net[0]) >> 64 for net in six], np.uint64),
        np.array([int(net[0]) & (1 << 64) - 1 for net in six], np.uint64),
        np.array([net.prefixlen for net in six], np.uint8),
    )


def listed(its: AddressSet) -> list[Net]:
    four: list[Any] = [ipaddress.IPv4Network((int(a), int(b))) for a, b in zip(its.network4, its.length4, strict=True)]
    six = [
        ipaddress.IPv6Network((int(high) << 64 | int(low), int(length)))
        for high, low, length in zip(its.high6, its.low6, its.length6, strict=True)
    ]
    return four + six


@given(four=st.lists(nets4(), max_size=40), six=st.lists(nets6(), max_size=40), asked=st.lists(nets4() | nets6()))
def test_overlaps_and_neighbours_are_joined(
    four: list[ipaddress.IPv4Network], six: list[ipaddress.IPv6Network], asked: list[Net]
) -> None:
    its, twice = made(four, six)
    wanted: list[Net] = [*ipaddress.collapse_addresses(four), *ipaddress.collapse_addresses(six)]
    assert listed(its) == wanted
    assert twice == len(four) - len(set(four)) + len(six) - len(set(six))
    assert listed(unpacked(*its.packed())) == wanted
    for net in asked:
        found = its.holding(Prefix(net.network_address.packed, net.prefixlen))
        shared = [other for other in wanted if other.version == net.version and other.overlaps(net)]
        assert (found is None) == (not shared)
        if found is not None:
            assert ipaddress.ip_network((found.network, found.length)) in shared


ENDS = st.sampled_from([0, 0, 5, 7, 7, 1000, 2**32 - 1])
NO64, NO8 = np.empty(0, np.uint64), np.empty(0, np.uint8)
SHORT = 1 << 10  # addresses that overlap


def later(one: int, other: int) -> int:
    """The later of two ends; 0 is none, and later than any."""
    return max(one, other) if one and other else 0


def latest(ranges: list[tuple[int, int, int]]) -> dict[int, int]:
    """For each address of ranges, the latest end of those that hold it."""
    found: dict[int, int] = {}
    for first, last, end in ranges:
        for address in range(first, last + 1):
            found[address] = later(found[address], end) if address in found else end
    return found


def timed_ranges() -> st.SearchStrategy[list[tuple[int, int, int]]]:
    one = st.tuples(st.integers(0, SHORT), st.sampled_from([0, 0, 1, 9, 300]), ENDS)
    return st.lists(one.map(lambda it: (it[0], it[0] + it[1], it[2])), max_size=12)


@given(four=timed_ranges(), six=timed_ranges(), now=st.sampled_from([0, 5, 6, 7, 999, 1000]))
def test_an_address_has_the_latest_end_of_the_entries_that_hold_it(
    four: list[tuple[int, int, int]], six: list[tuple[int, int, int]], now: int
) -> None:
    base = 0x20010DB8 << 96 | (1 << 64) - SHORT // 2  # across the middle
    its, twice = aggregate(
        np.array([first for first, _, _ in four], np.uint32),
        np.array([last for _, last, _ in four], np.uint32),
        NO64,
        NO64,
        NO8,
        wide([(base + first, base + last) for first, last, _ in six]) if six else None,
        Given(
            np.array([end for _, _, end in four], np.uint32),
            np.empty(0, np.uint32),
            np.array([end for _, _, end in six], np.uint32),
        ),
    )
    assert twice == sum(len(its) - len({it[:2] for it in its}) for its in (four, six))
    for made in (its, unpacked(*its.packed())):
        for when, left in ((0, made), (now, made.at(now))):
            for version, entries, offset in ((4, four, 0), (6, six, base)):
                wanted = {at: end for at, end in latest(entries).items() if not end or end > when}
                assert spread(left, version, offset) == wanted
    if its.ends is None:
        assert not any(end for _, _, end in (*four, *six))
    else:
        # As few prefixes as there can be: neighbours of one end are joined.
        parts = {end: [net for net, until in timed_nets(its, 4) if until == end] for end in set(its.ends4.tolist())}
        assert all(list(ipaddress.collapse_addresses(nets)) == nets for nets in parts.values())
        assert listed(its.at(2**32)) == [net for net, end in timed_nets(its, 4) + timed_nets(its, 6) if not end]


def timed_nets(its: AddressSet, version: int) -> list[tuple[Any, int]]:
    nets = [net for net in listed(its) if net.version == version]
    return list(zip(nets, (its.ends4 if version == 4 else its.ends6).tolist(), strict=True))


def spread(its: AddressSet, version: int, offset: int) -> dict[int, int]:
    """Each address of a set, less an offset, and its end; disjoint and ascending."""
    found: dict[int, int] = {}
    for net, end in timed_nets(its, version):
        for address in range(int(net[0]), int(net[-1]) + 1):
            assert not found or address - offset > next(reversed(found))
            found[address - offset] = end
    return found


@given(timed_ranges().filter(bool), st.integers(0, SHORT))
def test_the_entry_of_an_address_and_its_end(ranges: list[tuple[int, int, int]], asked: int) -> None:
    columns = [np.array([it[side] for it in ranges], np.uint32) for side in range(3)]
    its, _ = aggregate(columns[0], columns[1], NO64, NO64, NO8, ends=Given(columns[2], columns[2][:0]))
    found, wanted = its.entry(Prefix(asked.to_bytes(4, "big"), 32)), latest(ranges)
    assert (found is None) == (asked not in wanted)
    if found:
        assert (found[1] or 0) == wanted[asked]


def test_ends_move_with_the_clock() -> None:
    """Those that come to lie before or after the years there are stay ends; what has none gets none."""
    first = np.array([1, 3, 5, 7], np.uint32)
    ends = np.array([0, 100, 2**32 - 5, 3], np.uint32)
    packed = aggregate(first, first, NO64, NO64, NO8, ends=Given(ends, ends[:0]))[0].packed()
    assert unpacked(*packed, 10).ends4.tolist() == [0, 110, 2**32 - 1, 13]
    assert unpacked(*packed, -10).ends4.tolist() == [0, 90, 2**32 - 15, 1]
    with pytest.raises(ValueError, match="an end for each"):
        unpacked(packed[0], packed[1], packed[2][4:])


def test_everybody_in_pieces() -> None:
    """Whatever the ends of its entries: a set of every address is one."""
    first, last = np.array([0, 77], np.uint32), np.array([2**32 - 1, 77], np.uint32)
    its, _ = aggregate(first, last, NO64, NO64, NO8, ends=Given(np.array([5, 9], np.uint32), np.empty(0, np.uint32)))
    assert len(its) > 30
    assert [its.at(now).has_all(4) for now in (4, 5)] == [True, False]
    assert [its.has_all(6), len(its.at(5)), len(its.at(9))] == [False, 1, 0]


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 300)), min_size=1, max_size=30))
def test_ranges_off_the_bit_boundaries(ranges: list[tuple[int, int]]) -> None:
    first = np.array([begin for begin, _ in ranges], np.uint32)
    last = np.array([begin + size for begin, size in ranges], np.uint32)
    empty, no_length = np.empty(0, np.uint64), np.empty(0, np.uint8)
    its, _ = aggregate(first, last, empty, empty, no_length)
    covered = {number for begin, size in ranges for number in range(begin, begin + size + 1)}
    found = [int(address) for net in listed(its) for address in net]
    assert sorted(covered) == found


def wide(pairs: list[tuple[int, int]]) -> Ranges:
    columns = [[end >> shift & (1 << 64) - 1 for end in ends] for ends in zip(*pairs, strict=True) for shift in (64, 0)]
    return Ranges.of(*(np.array(column, np.uint64) for column in columns))


def ends6() -> st.SearchStrategy[tuple[int, int]]:
    number = st.one_of(st.integers(0, 2**128 - 1), st.integers(2**64 - 9, 2**64 + 9), st.sampled_from([0, 2**128 - 1]))
    near = st.tuples(number, st.integers(0, 9)).map(lambda it: (it[0], min(it[0] + it[1], 2**128 - 1)))
    return near | st.tuples(number, number).map(lambda it: (min(it), max(it)))


@given(st.lists(ends6(), min_size=1, max_size=12), st.lists(nets6(), max_size=6))
def test_ranges_of_ipv6_are_the_fewest_prefixes(pairs: list[tuple[int, int]], six: list[ipaddress.IPv6Network]) -> None:
    nets = [
        it for pair in pairs for it in ipaddress.summarize_address_range(*(ipaddress.IPv6Address(end) for end in pair))
    ]
    wanted = list(ipaddress.collapse_addresses([*nets, *six]))
    joined, twice = ranges.merged(wide(pairs))
    assert twice == len(pairs) - len(set(pairs))
    assert ranges.count(joined) == len(list(ipaddress.collapse_addresses(nets)))
    empty = np.empty(0, np.uint32)
    high, low = (np.array([int(net[0]) >> shift & (1 << 64) - 1 for net in six], np.uint64) for shift in (64, 0))
    its, _ = aggregate(empty, empty, high, low, np.array([net.prefixlen for net in six], np.uint8), wide(pairs))
    assert listed(its) == wanted


def test_ranges_that_split_into_too_many_prefixes_are_refused_before_any_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """126 prefixes of IPv6 for each entry, 30 of IPv4."""
    six = wide([(n << 64 | 1, n << 64 | (1 << 64) - 2) for n in range(60_000)])
    nothing = np.empty(0, np.uint64)
    first = np.arange(60_000, dtype=np.uint32) << np.uint32(16) | np.uint32(1)
    last = first + np.uint32(0xFFFD)
    monkeypatch.setattr(ranges, "prefixes", None)
    monkeypatch.setattr(addresses, "split4", None)
    for four, more, count in ((first[:0], six, "7,560,000"), (first, None, "1,800,000")):
        with pytest.raises(UsageError, match=f"the 60,000 entries are ranges that only {count} prefixes describe"):
            aggregate(four, last[: four.size], nothing, nothing, np.empty(0, np.uint8), more)


@pytest.mark.parametrize("capacity", [2, 8])
def test_a_crowded_table_finds_a_place_for_everybody(capacity: int) -> None:
    count = 1000
    hashes = placing.hash_pair(
        placing.multiplier(), np.arange(int(count * capacity * 0.8), dtype=np.uint64), np.uint64(7)
    )
    slots = placing.arrange(hashes, count, capacity)
    assert len(set(slots.tolist())) == slots.size
    line = slots // capacity
    first, second = placing.place(hashes, count), placing.place(placing.hash_again(hashes), count)
    assert ((line == first) | (line == second)).all()
    used = np.bincount(line, minlength=count)
    # Whoever looks for an entry goes to its second line only when the first is full.
    assert (used[first[line != first]] == capacity).all()
    ranks = np.sort(slots)
    assert (np.diff(ranks)[np.diff(ranks // capacity) == 0] == 1).all(), "a line is filled from the left"


def test_a_table_that_is_too_small_says_so() -> None:
    hashes = placing.hash_pair(placing.multiplier(), np.arange(200, dtype=np.uint64), np.uint64(0))
    with pytest.raises(placing.TooFull):
        placing.arrange(hashes, 20, 8)


def test_entries_are_counted_by_list_and_the_first_is_named() -> None:
    one, _ = made([ipaddress.IPv4Network("192.0.2.1"), ipaddress.IPv4Network("192.0.2.2")], [])
    other, _ = made([ipaddress.IPv4Network("192.0.2.2")], [ipaddress.IPv6Network("2001:db8::/32")])
    index = build([(3, one), (9, other)], generation=77)
    assert index.slots == {3: 2, 9: 1}
    assert held(index.lines) == {3: 2, 9: 1}
    assert abi.INDEX.unpack(index.lines[0].tobytes())[10] == 77
    assert index.nets4 is not None
    assert index.nets6 is not None
    assert not index.wide6


def test_the_first_list_is_named_also_for_half_of_all_addresses() -> None:
    """All addresses are written as two halves: each stands where the whole stood, before those of later lists."""
    whole, _ = made([ipaddress.IPv4Network("0.0.0.0/0")], [ipaddress.IPv6Network("::/0")])
    half, _ = made([ipaddress.IPv4Network("128.0.0.0/1")], [ipaddress.IPv6Network("8000::/1")])
    assert build([(1, whole), (3, half)], 1).slots == {1: 4, 3: 0}
    assert build([(1, half), (3, whole)], 1).slots == {1: 2, 3: 2}


def test_short_prefixes_of_ipv6_do_not_fill_the_memory() -> None:
    """Too many of them, and the pre-filter gives up: every packet is looked up."""
    few, _ = made([], [ipaddress.IPv6Network((0x2001 << 112 | n << 97, 31)) for n in range(0, 8, 2)])
    many, _ = made([], [ipaddress.IPv6Network((n << 113, 16)) for n in range(1, 32_768, 2)])
    assert not build([(0, few)], 1).wide6
    index = build([(0, many)], 1)
    assert index.wide6
    assert index.nets6 is not None
    assert index.lines.nbytes < 4 << 20


@pytest.mark.parametrize("lengths", [range(66, 110, 2), range(40, 62), range(56, 76)], ids=str)
def test_prefixes_of_many_lengths_are_written_as_longer_ones(lengths: range) -> None:
    nets = [ipaddress.IPv6Network((0x20010DB8 << 96 | n << 88, length)) for n, length in enumerate(lengths, start=1)]
    its, _ = made([], nets)
    found = limited(gathered6([(0, its)]))
    assert len(set(found.length.tolist())) <= 16 < len(nets)
    written = [
        ipaddress.IPv6Network((int(high) << 64 | int(low), int(length)))
        for high, low, length in zip(found.high, found.low, found.length, strict=True)
    ]
    assert list(ipaddress.collapse_addresses(written)) == nets


def test_too_many_lengths_are_refused_before_anything_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 ranges of 126 prefixes each: 63 lengths or more, each as often as any other."""
    empty = np.empty(0, np.uint32)
    none = np.empty(0, np.uint64)
    six = wide([(0x2001 << 112 | n << 64 | 1, 0x2001 << 112 | n << 64 | (1 << 64) - 2) for n in range(40)])
    its, _ = aggregate(empty, empty, none, none, np.empty(0, np.uint8), six)
    monkeypatch.setattr(gathered, "_split", None)
    monkeypatch.setattr(gathered, "_GROWTH", 2)
    monkeypatch.setattr(gathered, "_FREE_SPLIT", 1000)
    with pytest.raises(XdpguardError, match=r"IPv6 prefixes of 6\d lengths") as caught:
        build([(0, its)], 1)
    assert "widen ranges" in caught.value.remedy
