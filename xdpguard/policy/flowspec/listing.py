# SPDX-License-Identifier: GPL-2.0
"""All filters as FlowSpec rules: what can be said, what cannot, and where FlowSpec asks in another order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

from xdpguard.errors import UsageError
from xdpguard.policy.filter import Filter
from xdpguard.policy.flowspec.conversion import rules_of
from xdpguard.policy.flowspec.entries import does_of
from xdpguard.policy.flowspec.rule import Rule, ordered
from xdpguard.policy.flowspec.text import Form, written
from xdpguard.policy.matching.model import Match
from xdpguard.policy.matching.ranges import common

_MOST = 3  # pairs in another order that are named


class Said(NamedTuple):
    """A filter and its rules, a line each."""

    name: str
    rules: list[str]


class LeftOut(NamedTuple):
    """A filter that is not among the rules, and why."""

    name: str
    why: str


class Listing(NamedTuple):
    """``swapped``: pairs of filters that decide differently, of which FlowSpec asks the second one first."""

    said: list[Said]
    left_out: list[LeftOut]
    swapped: list[tuple[str, str]]


def listing(filters: Iterable[Filter], form: Form) -> Listing:
    """Return filters, in the order in which they are asked, as rules of a form."""
    said: list[Said] = []
    left_out: list[LeftOut] = []
    kept: list[tuple[Filter, list[Rule]]] = []
    owners: dict[tuple[object, ...], str] = {}
    for its in filters:
        try:
            if its.mode == "shadow":
                raise UsageError("in shadow, and a rule would do what it says")
            rules = rules_of(its.match, does_of(its))
            twice = next((owners[it[:2]] for it in rules if it[:2] in owners), None)
            if twice is not None:
                raise UsageError(f"FlowSpec has one rule for the packets of both it and {twice}")
            said.append(Said(its.name, written(its.match, does_of(its), form, its.name).splitlines()))
        except UsageError as error:
            left_out.append(LeftOut(its.name, str(error)))
            continue
        owners |= dict.fromkeys((it[:2] for it in rules), its.name)
        kept.append((its, rules))
    return Listing(said, left_out, _swapped(kept))


def _swapped(kept: Sequence[tuple[Filter, list[Rule]]]) -> list[tuple[str, str]]:
    places = {rule: place for place, rule in enumerate(ordered(it for _, rules in kept for it in rules))}
    spans = [(its, [places[it] for it in rules]) for its, rules in kept]
    found: list[tuple[str, str]] = []
    for (one, first), (other, second) in combinations(spans, 2):
        if max(first) > min(second) and _differ(one, other) and meet(one.match, other.match):
            found.append((one.name, other.name))
            if len(found) == _MOST:
                break
    return found


def _differ(one: Filter, other: Filter) -> bool:
    """Whether it matters which of them is asked first: one of them ends the rules, and they do different things."""
    return one.does != other.does and any(it.action in ("drop", "pass") for it in (one, other))


def meet(one: Match, other: Match) -> bool:
    """Return whether a packet may match both, as far as each field by itself tells."""
    tests = {it.field: it.ranges for it in one.tests}
    return all(common(tests[it.field], it.ranges) for it in other.tests if it.field in tests)
