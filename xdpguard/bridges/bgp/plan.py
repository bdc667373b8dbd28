# SPDX-License-Identifier: GPL-2.0
"""From routes to the filters and rules of this host: in FlowSpec's order, within limits, blackholes first."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from xdpguard.bridges.bgp.routes import Route, match_text
from xdpguard.errors import UsageError
from xdpguard.policy.filter import Filter, NewFilter
from xdpguard.policy.filters import FilterEntry, new_filter
from xdpguard.policy.flowspec import conversion
from xdpguard.policy.flowspec.entries import does_of, entries
from xdpguard.policy.flowspec.listing import meet
from xdpguard.policy.flowspec.rule import PREFIXES, Rule, ordered
from xdpguard.policy.flowspec.rule import Prefix as Bits
from xdpguard.policy.flowspec.text import filters_of
from xdpguard.policy.foreign import Entry, Refused
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Prefix
from xdpguard.units import counted

ORIGIN = "bgp"
_BLACKHOLE = f"{ORIGIN}.rtbh."
_FLOW = f"{ORIGIN}.fs-"


class Bounds(NamedTuple):
    """What routes may become here. ``shortest4`` and ``shortest6``: of a prefix that is dropped as a whole, in bits.

    ``accept``: whether rules that accept packets may let them pass the default; ``sources``: blackholed prefixes are
    dropped as sources, too.
    """

    max_filters: int = 512
    shortest4: int = 16
    shortest6: int = 32
    accept: bool = True
    sources: bool = False


class Plan(NamedTuple):
    """What is wanted of this host, in order, and what is refused before it is asked."""

    entries: list[Entry]
    refused: list[Refused]


class Planner:
    """Makes plans; what a rule becomes is worked out once."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._made: dict[Rule, list[NewFilter] | str] = {}

    def plan(self, routes: Sequence[Route], left: Iterable[NewFilter], end: float) -> Plan:
        """Return what routes become. ``left``: filters of an earlier run whose routes may still come; they keep their
        ends. ``end``: Unix time.
        """
        refused = [Refused(it.key, it.fault) for it in routes if it.what is None]
        prefixes = [it.what for it in routes if isinstance(it.what, Prefix)]
        rules = [it.what for it in routes if isinstance(it.what, Rule)]
        self._made = {rule: made for rule, made in self._made.items() if rule in set(rules)}
        first, rest, found = self._blackholes(prefixes, refused), list(self._flows(rules, refused)), list[Entry]()
        last: list[NewFilter] = []  # whose place FlowSpec cannot tell
        names = {it.name for it in first} | {it.name for _, it in rest}
        for its in left:
            if its.name not in names:
                if its.name.startswith(_BLACKHOLE):
                    first.append(its)
                elif (rule := _rule_of(its)) is not None:
                    rest.append((rule, its))
                else:
                    last.append(its)
        filters = [*first, *_in_order(rest), *last]
        kept = filters[: self._bounds.max_filters]
        refused += [
            Refused(it.name, f"this bridge may have {counted(self._bounds.max_filters, 'filter')}")
            for it in filters[self._bounds.max_filters :]
        ]
        found += (it if it.expires is not None else it._replace(expires=end) for it in kept)
        if self._bounds.sources:
            found += (NewRule("block", it, "blackholed", ORIGIN, 0.0, end) for it in prefixes if not self._short(it))
        return Plan(found, refused)

    def _blackholes(self, prefixes: Iterable[Prefix], refused: list[Refused]) -> list[NewFilter]:
        found = []
        for prefix in sorted(prefixes):
            if why := self._short(prefix):
                refused.append(Refused(prefix, why))
                continue
            name = _BLACKHOLE + str(prefix).replace(":", "-").replace("/", "_")
            # Every IPv6 name begins with a letter or digit: :: is shorter than any limit lets through.
            word = "ip" if prefix.version == 4 else "ip6"
            its = _dropping(name, f"{word} daddr {prefix}", "blackholed (RFC 7999)")
            found.append(its)
        return found

    def _flows(self, rules: Iterable[Rule], refused: list[Refused]) -> Iterator[tuple[Rule, NewFilter]]:
        accepting: list[NewFilter] = []
        for rule in ordered(rules):
            made = self._made.get(rule)
            if made is None:
                made = self._made[rule] = self._filters(rule)
            if isinstance(made, str):
                refused.append(Refused(match_text(rule), made))
                continue
            for its in made:
                if its.action == "pass" and not self._bounds.accept:
                    accepting.append(its)
                    refused.append(Refused(its.name, "rules may not accept anything here (allow = false)"))
                elif shield := next(
                    (it for it in accepting if its.action != "count" and meet(it.match, its.match)), None
                ):
                    refused.append(Refused(its.name, f"it would drop what {shield.name} accepts"))
                else:
                    yield rule, its

    def _filters(self, rule: Rule) -> list[NewFilter] | str:
        """Return what a rule becomes, or why nothing."""
        prefixes = [(kind, it) for kind, it in rule.components if kind in PREFIXES and isinstance(it, Bits)]
        shortest = self._bounds.shortest4 if rule.version == 4 else self._bounds.shortest6
        short = len(prefixes) == len(rule.components) and all(it.length - it.offset < shortest for _, it in prefixes)
        if short and (rule.actions.rate is not None or rule.actions.packets is not None):
            return f"it takes a prefix as a whole that is shorter than /{shortest}"
        try:
            made = entries(filters_of(rule, 0, _name(rule)), False, "FlowSpec", f"{ORIGIN}.")
            return [new_filter(it, ORIGIN, 0.0, None) for it in made]
        except (UsageError, ArithmeticError, LookupError) as error:  # the neighbor may send whatever it likes
            return str(error) if isinstance(error, UsageError) else "it has values that no filter has"

    def _short(self, prefix: Prefix) -> str:
        shortest = self._bounds.shortest4 if prefix.version == 4 else self._bounds.shortest6
        return f"its prefix is shorter than /{shortest}" if prefix.length < shortest else ""


def _dropping(name: str, match: str, reason: str) -> NewFilter:
    """Return a filter that drops what matches."""
    return new_filter(FilterEntry(name, match, "drop", reason=reason), ORIGIN, 0.0, None)


def left_over(filters: Iterable[Filter], now: float, hold: float) -> list[NewFilter]:
    """Return the filters of an earlier run, which end after ``hold`` seconds at the latest. ``now``: Unix time."""
    return [
        it.as_new()._replace(expires=min(now + hold, it.expires or math.inf))
        for it in filters
        if it.source == ORIGIN and it.alive(now)
    ]


def _in_order(filters: Sequence[tuple[Rule, NewFilter]]) -> list[NewFilter]:
    """Return filters in the order in which FlowSpec asks their rules; those of one rule as they are."""
    grouped: dict[Rule, list[NewFilter]] = {}
    for rule, its in filters:
        grouped.setdefault(rule, []).append(its)
    return [its for rule in ordered(grouped) for its in grouped[rule]]


def _rule_of(its: NewFilter) -> Rule | None:
    """Return the rule that a filter is; None if FlowSpec cannot say it."""
    try:
        return conversion.rules_of(its.match, does_of(its.stored(0, 0)))[0]
    except UsageError:
        return None


def _name(rule: Rule) -> str:
    """Return a name that is the same whenever a rule for the same packets comes."""
    return _FLOW + hashlib.sha256(repr(rule[:2]).encode()).hexdigest()[:10]
