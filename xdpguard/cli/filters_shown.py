# SPDX-License-Identifier: GPL-2.0
"""Filters as text."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from xdpguard import units
from xdpguard.cli import columns
from xdpguard.cli.columns import Column, Row, coloured, number
from xdpguard.control.results import until

if TYPE_CHECKING:
    from xdpguard.control.filters import FilterWithHits
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.policy.filter import NewFilter

COLUMNS = [
    Column("no.", right=True),
    Column("name"),
    Column("match", clip="end", keeps=48),
    Column("action"),
    Column("mode"),
    Column("expires", 3),
    Column("packets", right=True),
    Column("bytes", 5, right=True),
    Column("limited", 1, right=True),
    Column("source", 4),
    Column("reason", 2, clip="end"),
]

# The kernel counts by filter alone; `top` samples what is dropped, and replay asks the program about each packet.
_WHOM = "in shadow not counted by source; to see it: tcpdump -i IFACE -w FILE, then xdpguard replay FILE"


def row(place: int, item: FilterWithHits, now: float) -> Row:
    """Return a filter as a row of COLUMNS (``now``: Unix time)."""
    its, hits = item.its, item.hits
    found: Row = [
        str(place),
        its.name,
        its.text,
        its.does,
        its.mode,
        columns.due(its.expires, now),
        number(hits.packets, "red" if its.action == "drop" else "green" if its.action == "pass" else ""),
        columns.size(hits.bytes),
        number(hits.limited_packets if its.limit else None, "red"),
        its.source,
        its.reason or "-",
    ]
    return coloured(found, "dim") if its.mode == "shadow" else found


def lines(place: int, item: FilterWithHits, count: int) -> Iterator[str]:
    """Yield the lines about a filter; ``place``: among so many, from 1."""
    its, hits = item.its, item.hits
    yield f"{its.name}, {place} of {count}"
    yield f"  match    {units.visible(its.text)}"
    yield f"  action   {its.does}{', in shadow: only counts' if its.mode == 'shadow' else ''}"
    if its.limit:
        yield f"  limit    {its.limit.rate}, burst {its.limit.burst_text}, per {its.limit.whose}"
    if its.reason:
        yield f"  reason   {units.visible(its.reason)}"
    yield f"  source   {its.source}, {units.moment(its.created)}, {until(its.expires)}"
    yield f"  matched  {units.counted(hits.packets, 'packet')}, {units.byte_count(hits.bytes)}"
    if its.limit:
        verb = "would be dropped" if its.mode == "shadow" else "dropped"
        packets, size = units.counted(hits.limited_packets, "packet"), units.byte_count(hits.limited_bytes)
        yield f"  above    {packets}, {size}: {verb}"
    if its.mode == "shadow" and its.action in ("drop", "limit"):
        yield f"  whom     {_WHOM}"


def added(found: Ruleset, new: NewFilter) -> list[str]:
    """Say what is so now of a filter that was just added."""
    if new.expires is not None and not new.stored(0, 0).alive(time.time()):
        return [f"filter {new.name} has ended already: its time began with the command, which had to wait"]
    end = ""
    if new.expires is not None:
        end = f", for {units.span(new.expires - time.time())}, {until(new.expires)}"
    what = f"in shadow, counting what it would {new.does}: " if new.mode == "shadow" else f"{new.does} "
    return [f"filter {new.name}: {what}{new.text}{end}", placed(found, new.name)]


def placed(found: Ruleset, name: str) -> str:
    """Say at which place a filter is asked."""
    names = [it.name for it in found.filters.alive()]
    if name not in names:
        return f"{name} has ended"
    place = names.index(name)
    if len(names) == 1:
        return f"{name} is the only filter"
    if place == len(names) - 1:
        return f"{name} is asked last, after {names[place - 1]}"
    where = "first" if place == 0 else f"as number {place + 1:,} of {len(names):,}"
    return f"{name} is asked {where}, before {names[place + 1]}"


def asked_lists(found: Ruleset, names: Collection[str]) -> list[str]:
    """Say which lists that filters ask drop by themselves what they hold, before any filter is asked."""
    its = {one for it in found.filters.alive() if it.name in names for one in it.match.lists if not one.negated}
    enforced = {it.name for it in found.lists.stored.all()}
    return [
        f"the list {name} drops what it holds before any filter is asked; load it with --shadow for filters alone"
        for name in sorted({it.name for it in its if it.field.words.endswith("saddr")} & enforced)
    ]
