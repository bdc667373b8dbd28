# SPDX-License-Identifier: GPL-2.0
"""Comparisons of components, RFC 8955, 4.2.1, and the sets of numbers that they say."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xdpguard.policy.flowspec.rule import ALL, EQUAL, GREATER, LESS, NOT, Op
from xdpguard.policy.matching.ranges import Ranges, common, joined, without

MOST = 64  # comparisons that a component may become


def ranges_of(ops: Iterable[Op], everything: Ranges) -> Ranges:
    """Return the numbers for which numeric comparisons hold; those that hold together bind closer than others."""
    most = everything[-1][1]
    found: list[tuple[int, int]] = []
    term: Ranges = ()
    for op in ops:
        below = ((0, op.value - 1),) if op.operator & LESS and op.value else ()
        above = ((op.value + 1, most),) if op.operator & GREATER and op.value < most else ()
        equal = ((op.value, op.value),) if op.operator & EQUAL and op.value <= most else ()
        one = common(everything, joined((*below, *above, *equal)))
        if op.both:
            term = common(term, one)
        else:
            found += term
            term = one
    return joined((*found, *term))


def numeric(ranges: Ranges, everything: Ranges) -> tuple[Op, ...] | None:
    """Return the comparisons that say ranges; None if they would be too many."""
    most = everything[-1][1]
    rest = without(everything, ranges)
    if rest and len(rest) < len(ranges) and all(first == last for first, last in rest):
        ops = [Op(at > 0, LESS | GREATER, first) for at, (first, _) in enumerate(rest)]
        return tuple(ops) if len(ops) <= MOST else None
    found: list[Op] = []
    for first, last in ranges:
        if first == last:
            found.append(Op(False, EQUAL, first))
        elif last == most:
            found.append(Op(False, GREATER | EQUAL, first) if not first else Op(False, GREATER, first - 1))
        elif first == 0:
            found.append(Op(False, LESS, last + 1))
        else:
            found += [Op(False, GREATER | EQUAL, first), Op(True, LESS | EQUAL, last)]
    return tuple(found) if len(found) <= MOST else None


def holds(ops: Iterable[Op], bits: int) -> bool:
    """Return whether bitmask comparisons hold for bits."""
    found, term = False, False
    for op in ops:
        one = bits & op.value == op.value if op.operator & ALL else bits & op.value != 0
        one ^= bool(op.operator & NOT)
        if op.both:
            term = term and one
        else:
            found, term = found or term, one
    return found or term


def bitmask(members: Callable[[int], bool], bits: int) -> tuple[Op, ...] | None:
    """Return comparisons that hold for the members of the numbers of so many bits: none if all are; None: too many."""
    numbers = range(1 << bits)
    inside = {it for it in numbers if members(it)}
    free = sum(1 << at for at in range(bits) if all(it ^ 1 << at in inside for it in inside))
    matter = numbers[-1] & ~free
    outside = sorted({it & matter for it in numbers if it not in inside})
    if not outside:
        return ()
    if len(outside) == 1:
        return _unequal(outside[0], matter)
    ops = [op for value in sorted({it & matter for it in inside}) for op in _equal(value, matter)]
    return tuple(ops) if len(ops) <= MOST else None


def _equal(value: int, mask: int) -> tuple[Op, ...]:
    """All bits of a value, and none of the others under the mask."""
    rest = mask & ~value
    if not value:
        return (Op(False, NOT, rest),)
    whole = Op(False, ALL, value)
    return (whole, Op(True, NOT, rest)) if rest else (whole,)


def _unequal(value: int, mask: int) -> tuple[Op, ...]:
    rest = mask & ~value
    lacks = (Op(False, NOT | ALL, value),) if value else ()
    return (*lacks, Op(False, 0, rest)) if rest else lacks
