# SPDX-License-Identifier: GPL-2.0
"""Limits by source share the table of buckets: each has a part, and keeps it while others come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables.limitparts import Part, assigned

Changes = st.lists(st.sets(st.integers(0, 40), max_size=30), min_size=1, max_size=8)


def sound(parts: dict[int, Part]) -> bool:
    """Whether they are powers of two, in the table, where their size divides, and apart."""
    placed = sorted(parts.values())
    ends = [it.at + it.size for it in placed]
    return (
        all(it.size.bit_count() == 1 and it.at % it.size == 0 for it in placed)
        and all(end <= following.at for end, following in zip(ends, placed[1:], strict=False))
        and (not ends or ends[-1] <= abi.FILTER_SETS)
    )


@given(Changes)
def test_parts_are_apart_whatever_comes_and_goes(changes: list[set[int]]) -> None:
    held: dict[int, Part] = {}
    for slots in changes:
        found = assigned(slots, held)
        assert set(found) == slots
        assert sound(found)
        assert all(found[slot].at == held[slot].at for slot in slots & held.keys()), "none moves"
        held = found


def test_the_first_ones_leave_the_others_as_they_are() -> None:
    held: dict[int, Part] = {}
    for count in range(1, 6):
        found = assigned(range(count), held)
        assert found.items() >= held.items()
        held = found
    assert held[0].size == abi.FILTER_SETS // 2
    without = assigned([0, 2, 4], held)
    assert without == {slot: held[slot] for slot in (0, 2, 4)}
    assert assigned([0, 2, 4, 9], without)[9].at == held[1].at, "what was given back is given again"


def test_without_room_the_largest_gives_up_its_upper_half() -> None:
    held = assigned(range(5), {})
    found = assigned(range(6), held)
    assert [slot for slot in held if found[slot] != held[slot]] == [0]
    assert found[0] == held[0].halves()[0]


def test_as_many_as_a_set_may_have() -> None:
    found = assigned(range(abi.FILTER_LIMITS), {})
    assert sound(found)
    assert {it.size for it in found.values()} == {abi.FILTER_SETS // abi.FILTER_LIMITS}
