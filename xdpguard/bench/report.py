# SPDX-License-Identifier: GPL-2.0
"""Results as tables: plain rows, which the command line renders, or Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from xdpguard.bench.packets import FAMILIES, SOURCES, WAYS
from xdpguard.bench.results import Results


class Grid(NamedTuple):
    """A table. All columns except the first hold numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]


def grids(results: Results) -> list[Grid]:
    """Return the tables of the results."""
    found = [*_costs(results), *_rates(results), *_loading(results), *_filters(results), *_ratios(results)]
    return [grid for grid in found if grid.rows]


def named(results: Results) -> str:
    """Describe the machine and the versions in one line."""
    it = results.machine
    tools = ", ".join(f"{tool} {version}" for tool, version in results.versions.items() if version)
    return f"{it['cpu']}, {it['cores']} cores, {it['memory']}, Linux {it['kernel']} ({it['architecture']}); {tools}"


def markdown(results: Results) -> str:
    """Return the complete report as Markdown."""
    parts = [f"Measured by `xdpguard bench` on {named(results)}."]
    for grid in grids(results):
        lines = [grid.columns, ["---", *["---:"] * (len(grid.columns) - 1)], *grid.rows]
        parts.append("\n".join([f"{grid.title}:", "", *(f"| {' | '.join(line)} |" for line in lines)]))
    parts += [f"Not measured: {name}: {why}." for name, why in results.skipped.items()]
    return "\n\n".join(parts) + "\n"


def _costs(results: Results) -> Iterator[Grid]:
    programs = sorted(
        {(cost.program, cost.entries) for cost in results.costs}, key=lambda it: (it[0] != "xdpguard", it)
    )
    columns = [f"{entries:,}" if program == "xdpguard" else program for program, entries in programs]
    others = "".join(f"; {program} with {entries:,}" for program, entries in programs if program != "xdpguard")
    for sources, words in ((1, "one packet repeated"), (SOURCES, f"{SOURCES:,} random sources")):
        rows = []
        for way in WAYS:
            for family in FAMILIES:
                values = [results.cost(name, way.key, family, sources, entries) for name, entries in programs]
                if any(value is not None for value in values):
                    rows.append([f"{way.name}, IPv{family}", *(_number(value) for value in values)])
        yield Grid(f"ns a packet above an empty program, {words}, by entries of the list{others}", ["", *columns], rows)


def _rates(results: Results) -> Iterator[Grid]:
    rows = [[rate.defence, f"{rate.entries:,}", f"{rate.value / 1e6:.3g}"] for rate in results.rates]
    yield Grid("Packets dropped a second on one core", ["defence", "entries", "million/s"], rows)


def _loading(results: Results) -> Iterator[Grid]:
    tools = list(dict.fromkeys(load.tool for load in results.loading))
    whats = dict.fromkeys((load.what, load.unit) for load in results.loading)
    rows = []
    for what, unit in whats:
        values = [results.load(tool, what) for tool in tools]
        rows.append([f"{what}, {'MB' if unit == 'bytes' else unit}", *(_scaled(value, unit) for value in values)])
    entries = results.loading[0].entries if results.loading else 0
    yield Grid(f"Loading {entries:,} random IPv4 addresses, whole process", ["", *tools], rows)


def _filters(results: Results) -> Iterator[Grid]:
    value = {(it.what, it.family, it.sources, it.filters): it.value for it in results.filters}
    counts = sorted({it.filters for it in results.filters})
    for sources, words in ((1, "one packet repeated"), (SOURCES, f"{SOURCES:,} random sources")):
        rows = [
            [f"{what}, IPv{family}", *(_number(value.get((what, family, sources, count))) for count in counts)]
            for what, family in dict.fromkeys((it.what, it.family) for it in results.filters)
        ]
        yield Grid(f"ns a packet above no filters, {words}, by filters", ["", *(f"{it:,}" for it in counts)], rows)


def _ratios(results: Results) -> Iterator[Grid]:
    rows = [
        [ratio.name, f"{ratio.value:.2f}", f"<={ratio.bound:g}", "yes" if ratio.held else "no"]
        for ratio in results.ratios()
    ]
    yield Grid("Ratios", ["", "measured", "wanted", "held"], rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _scaled(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value / 1e6:.1f}" if unit == "bytes" else f"{value:.2f}"


def notes(results: Results) -> Sequence[str]:
    """Return what could not be measured, and why."""
    return [f"not measured: {name}: {why}" for name, why in results.skipped.items()]
