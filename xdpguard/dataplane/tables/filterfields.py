# SPDX-License-Identifier: GPL-2.0
"""What a match says of each field, with what it implies."""

from __future__ import annotations

from collections.abc import Sequence

from xdpguard.policy.matching.model import Field, Match, Range

OF_VERSION = {  # fields that packets of the other version lack
    Field.IP_SADDR: 4,
    Field.IP_DADDR: 4,
    Field.FRAG_OFF: 4,
    Field.IP6_SADDR: 6,
    Field.IP6_DADDR: 6,
}


def tested(match: Match) -> dict[Field, tuple[Range, ...]]:
    """Return the ranges of each field that is tested, implied versions included."""
    found: dict[Field, tuple[Range, ...]] = {}
    for test in match.tests:
        # The state is asked of candidates; here, that there are ports.
        field, ranges = (Field.SPORT, ((0, 65_535),)) if test.field is Field.ESTABLISHED else test
        found[field] = _common(found[field], ranges) if field in found else ranges
        if version := OF_VERSION.get(field):
            only = ((version, version),)
            found[Field.VERSION] = _common(found.get(Field.VERSION, only), only)
    return found


def _common(one: Sequence[Range], other: Sequence[Range]) -> tuple[Range, ...]:
    """Return the intersection of sorted, disjoint ranges."""
    found, i, j = [], 0, 0
    while i < len(one) and j < len(other):
        first, last = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if first <= last:
            found.append((first, last))
        if one[i][1] < other[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)
