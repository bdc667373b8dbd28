# SPDX-License-Identifier: GPL-2.0
"""Packets/s that one core drops by the last of many filters, beside nftables' rules and verdict map."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from xdpguard.bench import rates, tools
from xdpguard.bench.filters import filters_for
from xdpguard.bench.flood import Flood, Sender
from xdpguard.bench.packets import Addresses, texts
from xdpguard.bench.results import BY_FILTERS, BY_MAP, BY_RULES, FILTERS, Rate, Results
from xdpguard.bench.wire import SERVER4, Lab
from xdpguard.bench.workspace import Commands, Workspace
from xdpguard.dataplane.tables.classifier import ClassifierFilter, compiled
from xdpguard.dataplane.tables.filters import FilterTables
from xdpguard.policy.matching.writing import written

_ROUNDS, _SECONDS = 3, 1.0
_QUICK_ROUNDS, _QUICK_SECONDS = 1, 0.3


def measure(workspace: Workspace, addresses: Addresses, results: Results) -> None:
    """Add the rates to the results: every packet passes all filters but the last, which drops it."""
    rounds, seconds = (_QUICK_ROUNDS, _QUICK_SECONDS) if results.quick else (_ROUNDS, _SECONDS)
    lab = workspace.lab
    source = texts(4, addresses.sources("listed", 4, 1))[0]
    with Sender(Flood("syn", source, SERVER4, seconds=seconds), lab.outside, lab.interface) as sender:
        for count in FILTERS[1::2]:
            its = filters_for(4, count)
            for name in (BY_FILTERS, BY_RULES, BY_MAP):
                workspace.say(f"rates: {name}, {count:,}")
                try:
                    with _in_force(workspace, name, its):
                        found = [rates.dropped(lab, sender) for _ in range(rounds)]
                except tools.Unavailable as error:
                    results.skipped[name] = str(error)
                    continue
                results.rates.append(Rate(name, count, statistics.median(found)))


@contextmanager
def _in_force(workspace: Workspace, name: str, its: Sequence[ClassifierFilter]) -> Iterator[None]:
    if name == BY_FILTERS:
        with _attached(workspace.instance("filter-rates"), workspace.lab, its):
            yield
        return
    tools.need("nft")
    lab, path = workspace.lab, workspace.folder / "nft"
    _write(path, lab, its, rules=name == BY_RULES)
    with rates.passing(lab):
        tools.run(lab, ["nft", "-f", str(path)])
        try:
            yield
        finally:
            tools.run(lab, ["nft", "delete", "table", "netdev", tools.SET])


@contextmanager
def _attached(commands: Commands, lab: Lab, its: Sequence[ClassifierFilter]) -> Iterator[None]:
    commands.attach(lab.interface)
    try:
        with FilterTables(commands.pins) as tables:
            tables.replace(*compiled(its, 1))
            yield
            tables.empty()
    finally:
        commands("detach", "--all")


def _write(path: Path, lab: Lab, its: Sequence[ClassifierFilter], rules: bool) -> None:
    """Write a table for nft -f: a rule a filter, or a verdict map of their first words and the last as a rule."""
    *others, last = (written(it.match) for it in its)
    if rules:
        lines = [f"{it} drop" for it in others]
    else:
        ranges = (it.split(" tcp ")[0].removeprefix("ip daddr ") for it in others)
        lines = [f"ip daddr vmap {{ {', '.join(f'{it} : drop' for it in ranges)} }}"]
    family, hook = tools.nft_ingress(lab)
    chain = "\n  ".join([f"{hook}; policy accept;", *lines, f"{last} drop"])
    path.write_text(f"table {family} {tools.SET} {{\n chain filters {{\n  {chain}\n }}\n}}\n", encoding="ascii")
