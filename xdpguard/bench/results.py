# SPDX-License-Identifier: GPL-2.0
"""The results: figures with their units, and the target bounds on their ratios."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, fields

from msgspec import Struct

from xdpguard.bench.packets import SOURCES

_US = "xdpguard"
_MANY = 100_000
FILTERS = (1, 10, 100, 1000)
NONE_MATCHES, LAST_MATCHES, LIMIT_PER_SOURCE = "none matches", "last matches", "limit per source"
BY_FILTERS, BY_RULES, BY_MAP = "xdpguard, last filter", "nftables, last rule", "nftables, after a verdict map"
# Bounds on a clean packet's cost with a list relative to without one, by number of sources (hot and cold caches).
_CLEAN_BOUNDS = {1: 1.1, SOURCES: 1.25}


class Cost(Struct, frozen=True):
    """Nanoseconds per packet above an empty program, with a list of ``entries`` entries."""

    program: str
    way: str
    family: int
    sources: int
    entries: int
    value: float
    unit: str = "ns"


class FilterCost(Struct, frozen=True):
    """Nanoseconds per packet above the same program without filters, with that many of them."""

    what: str
    family: int
    sources: int
    filters: int
    value: float
    unit: str = "ns"


class Rate(Struct, frozen=True):
    """Packets/s that one core received and dropped, with ``entries`` addresses or filters in the tool's set."""

    defence: str
    entries: int
    value: float
    unit: str = "packets/s"


class Load(Struct, frozen=True):
    """Time or memory that a tool took for an operation on a list of ``entries`` addresses."""

    tool: str
    what: str
    entries: int
    value: float
    unit: str


class Ratio(Struct, frozen=True):
    """The ratio of two figures, its upper bound, and whether that holds. ``kind`` names the comparison."""

    kind: str
    name: str
    value: float
    bound: float
    held: bool


class Report(Struct, frozen=True, kw_only=True):
    """What ``bench --json`` answers: every figure with its unit; ``skipped``: what could not be measured, and why."""

    machine: dict[str, str]
    versions: dict[str, str | None]
    quick: bool
    costs: list[Cost]
    rates: list[Rate]
    loading: list[Load]
    filters: list[FilterCost]
    ratios: list[Ratio]
    skipped: dict[str, str]


@dataclass
class Results:
    """The results of one run."""

    machine: dict[str, str]
    versions: dict[str, str | None]
    quick: bool
    costs: list[Cost] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)
    loading: list[Load] = field(default_factory=list)
    filters: list[FilterCost] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # what could not be measured here, and why

    def cost(self, program: str, way: str, family: int, sources: int, entries: int) -> float | None:
        """Return a cost, if it was measured."""
        key = (program, way, family, sources, entries)
        return next(
            (it.value for it in self.costs if (it.program, it.way, it.family, it.sources, it.entries) == key), None
        )

    def load(self, tool: str, what: str) -> float | None:
        """Return a loading figure, if it was measured."""
        return next((load.value for load in self.loading if (load.tool, load.what) == (tool, what)), None)

    def ratios(self) -> list[Ratio]:
        """Return the ratios of the figures that were measured."""
        return [*self._clean(), *self._denied(), *self._loading(), *self._filters()]

    def report(self) -> Report:
        """Return all figures, with their ratios."""
        same = {its.name: getattr(self, its.name) for its in fields(self)}
        return Report(**same, ratios=self.ratios())

    def _clean(self) -> list[Ratio]:
        """Compare a clean packet with a list and without one."""
        found = []
        for entries in sorted({cost.entries for cost in self.costs if cost.program == _US and cost.entries}):
            for family, (sources, bound) in itertools.product((4, 6), _CLEAN_BOUNDS.items()):
                name = f"ACK, IPv{family}, {_sources(sources)}, {entries:,} entries / none"
                key = (_US, "pass_ack", family, sources)
                found += _ratio("clean", name, self.cost(*key, entries), self.cost(*key, 0), bound)
        return found

    def _denied(self) -> list[Ratio]:
        """Compare a dropped packet with xdp-filter's."""
        found = []
        for entries in sorted({cost.entries for cost in self.costs if cost.way == "denied" and cost.program == _US}):
            for family, sources in itertools.product((4, 6), _CLEAN_BOUNDS):
                name = f"denied, IPv{family}, {_sources(sources)}, {entries:,} entries / xdp-filter"
                key = ("denied", family, sources)
                ours, theirs = self.cost(_US, *key, entries), self.cost("xdp-filter", *key, SOURCES)
                found += _ratio("denied", name, ours, theirs, 0.6)
        return found

    def _loading(self) -> list[Ratio]:
        if any(load.entries < _MANY for load in self.loading):
            return []  # that would compare start-up times
        name = "load / ipset restore"
        return _ratio("loading", name, self.load(_US, "load"), self.load("ipset", "load"), 0.8)

    def _filters(self) -> list[Ratio]:
        """Compare filters with none, and many of them with few. The first are differences in ns."""
        value = {(it.what, it.family, it.sources, it.filters): it.value for it in self.filters}
        found = []
        for (what, family, sources, filters), ns in value.items():
            name = f"{filters:,} filters, {what}, IPv{family}, {_sources(sources)}"
            if what == NONE_MATCHES and filters == FILTERS[-1]:
                found += _ratio("filters", f"{name}, ns", ns, 1, 100)
            elif what == LAST_MATCHES and filters == FILTERS[-1]:
                found += _ratio(
                    "filters", f"{name} / {FILTERS[1]}", ns, value.get((what, family, sources, FILTERS[1])), 1.2
                )
            elif what == LIMIT_PER_SOURCE:
                found += _ratio("filters", f"{name}, ns", ns, 1, 60)
        rate = {(it.defence, it.entries): it.value for it in self.rates}
        many = FILTERS[-1]
        name = f"packets/s, {many:,} filters, last matches: nftables' rules / xdpguard"
        return found + _ratio("filters", name, rate.get((BY_RULES, many)), rate.get((BY_FILTERS, many)), 0.1)


def _ratio(kind: str, name: str, one: float | None, other: float | None, bound: float) -> list[Ratio]:
    return [Ratio(kind, name, one / other, float(bound), one / other <= bound)] if one is not None and other else []


def _sources(number: int) -> str:
    return "one source" if number == 1 else f"{number:,} sources"
