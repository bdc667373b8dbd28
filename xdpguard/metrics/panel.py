# SPDX-License-Identifier: GPL-2.0
"""What a panel of the dashboard is, and the parts that its queries in PromQL are made of."""

from __future__ import annotations

from typing import Literal, NamedTuple

HOST = 'job=~"$job",instance=~"$instance"'
NETNS = f'{HOST},netns=~"$netns"'  # of metrics that have a namespace
LINK = f'{NETNS},interface=~"$interface"'
RATE = "[$__rate_interval]"

Kind = Literal["timeseries", "stat", "table"]
Limits = tuple[tuple[float, str], ...]  # values from which a colour holds, ascending; below the first it is green
RED_BELOW_1: Limits = ((float("-inf"), "red"), (1, "green"))
RED_FROM_1: Limits = ((1, "red"),)


class Panel(NamedTuple):
    """A panel: its queries with their legends, the unit in Grafana's notation, its width out of 24.

    ``limits``: thresholds, drawn as lines, or as the colour of a number.
    """

    title: str
    about: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 6
    kind: Kind = "timeseries"
    stacked: bool = False
    limits: Limits = ()


def rate(name: str, by: str, more: str = "", where: str = LINK) -> str:
    """Return the query for a counter's rate, summed by labels. ``more``: further conditions."""
    return f"sum by ({by}) (rate({name}{{{where}{more}}}{RATE}))"


def one(
    title: str,
    about: str,
    query: str,
    legend: str,
    unit: str = "short",
    width: int = 6,
    kind: Kind = "timeseries",
    stacked: bool = False,
    limits: Limits = (),
) -> Panel:
    """Return a panel of one query."""
    return Panel(title, about, ((query, legend),), unit, width, kind, stacked, limits)


def stat(title: str, about: str, query: str, unit: str, limits: Limits = ()) -> Panel:
    """Return a panel of one large number for each host."""
    return Panel(title, about, ((query, "{{instance}}"),), unit, 4, "stat", limits=limits)
