# SPDX-License-Identifier: GPL-2.0
"""A match from its tests, in the one order that equal matches share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xdpguard.policy.matching.model import Base, Bytes, Field, ListTest, Match, Test
from xdpguard.policy.matching.ranges import Ranges
from xdpguard.policy.matching.selectors import domain

_ORDER = {field: at for at, field in enumerate(Field)}
_BASES = {base: at for at, base in enumerate(Base)}


def assembled(tests: Mapping[Field, Ranges], lists: Iterable[ListTest], looks: Iterable[Bytes]) -> Match:
    """Return a match of tests, at most one a field, in the order of the fields."""
    # Every IP packet has one of the two versions.
    told = {field: it for field, it in tests.items() if field is not Field.VERSION or it != domain(field)}
    return Match(
        tuple(Test(field, told[field]) for field in sorted(told, key=lambda it: _ORDER[it])),
        tuple(sorted(set(lists), key=lambda it: (_ORDER[it.field], it.name, it.negated))),
        tuple(sorted(set(looks), key=lambda it: (_BASES[it.base], *it[1:]))),
    )
