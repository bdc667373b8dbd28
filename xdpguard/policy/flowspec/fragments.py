# SPDX-License-Identifier: GPL-2.0
"""Fragments: the bits of FlowSpec, RFC 8955, 4.2.2.12, and what our fields say of them."""

from __future__ import annotations

from itertools import product

from xdpguard.policy.flowspec.operators import bitmask, holds
from xdpguard.policy.flowspec.rule import DONT_FRAGMENT, FIRST_FRAGMENT, IS_FRAGMENT, LAST_FRAGMENT, NOT, Op
from xdpguard.policy.matching.ranges import Ranges, common, joined

# The bits that a packet has by our field: no fragment, the first, a later one.
_BY_FIELD = {0: 0, 1: FIRST_FRAGMENT, 2: IS_FRAGMENT}
_DF, _MF, _OFFSET = 0x4000, 0x2000, 0x1FFF  # of IPv4's fragment field, RFC 791, 3.1; the highest bit is reserved


def of_fragment(ranges: Ranges) -> tuple[Op, ...] | None:
    """Return the comparisons that say a set of our field `fragment`; none for all its values."""
    inside = [bits for value, bits in _BY_FIELD.items() if any(first <= value <= last for first, last in ranges)]
    some = sum(inside)
    if 0 not in inside:
        return (Op(False, 0, some),)
    rest = (IS_FRAGMENT | FIRST_FRAGMENT) & ~some
    return (Op(False, NOT, rest),) if rest else ()


def of_frag_off(ranges: Ranges) -> tuple[Op, ...] | None:
    """Return the comparisons that say a set of IPv4's fragment field; None if FlowSpec has none for it."""
    inside: dict[int, bool] = {}
    for bits, span in _spans():
        here = common((span,), ranges)
        if here and here != (span,):
            return None
        if inside.setdefault(bits, bool(here)) != bool(here):
            return None
    # Bits that no packet has together may be members or not: whatever makes the fewest comparisons.
    found = [*_simple(inside), *(_plain(inside, other) for other in (False, True))]
    return min((it for it in found if it), key=len, default=None)


def _plain(inside: dict[int, bool], other: bool) -> tuple[Op, ...]:
    return bitmask(lambda bits: inside.get(bits, other), 4) or ()


def _simple(inside: dict[int, bool]) -> list[tuple[Op, ...]]:
    one = [(Op(False, operator, value),) for operator, value in product((0, 1, 2, 3), range(1, 16))]
    return [ops for ops in one if all(holds(ops, bits) == here for bits, here in inside.items())]


def as_frag_off(ranges: Ranges) -> Ranges:
    """Return the values of IPv4's fragment field that our field `fragment` is one of some for."""
    inside = {bits for value, bits in _BY_FIELD.items() if any(first <= value <= last for first, last in ranges)}
    return joined(span for bits, span in _spans() if bits & (IS_FRAGMENT | FIRST_FRAGMENT) in inside)


def fragment_ranges(ops: tuple[Op, ...]) -> Ranges | None:
    """Return the values of our field `fragment` that comparisons say; None if they tell more bits than it does."""
    if any(op.value & ~(IS_FRAGMENT | FIRST_FRAGMENT) for op in ops):
        return None
    return joined((value, value) for value, bits in _BY_FIELD.items() if holds(ops, bits))


def frag_off_ranges(ops: tuple[Op, ...]) -> Ranges:
    """Return the values of IPv4's fragment field that comparisons say."""
    return joined(span for bits, span in _spans() if holds(ops, bits))


def _spans() -> list[tuple[int, tuple[int, int]]]:
    """Return what bits which values of IPv4's fragment field have."""
    found = []
    for reserved, unfragmented, more in product((0, 0x8000), (0, _DF), (0, _MF)):
        base = reserved | unfragmented | more
        bits = DONT_FRAGMENT if unfragmented else 0
        found.append((bits | (FIRST_FRAGMENT if more else 0), (base, base)))
        found.append((bits | IS_FRAGMENT | (0 if more else LAST_FRAGMENT), (base + 1, base + _OFFSET)))
    return found
