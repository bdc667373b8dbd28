# SPDX-License-Identifier: GPL-2.0
"""What filters cost a packet, by their number, and a limit by source while every packet comes from a new one.

The difference between the program with filters and the same program without, which is run in turn with it.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

from xdpguard.bench.maker import Makers
from xdpguard.bench.packets import FAMILIES, SOURCES, WAYS, Addresses, Family, frame
from xdpguard.bench.results import FILTERS, LAST_MATCHES, LIMIT_PER_SOURCE, NONE_MATCHES, FilterCost, Results
from xdpguard.bench.workspace import Workspace
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.tables.classifier import ClassifierFilter, compiled
from xdpguard.dataplane.tables.filters import FilterTables
from xdpguard.errors import XdpguardError
from xdpguard.policy.limit import parse_limit
from xdpguard.policy.matching.model import Field, Match, Test

_ROUNDS, _REPEAT = 15, 100_000
_QUICK_ROUNDS, _QUICK_REPEAT = 3, 50_000
_PASS, _DROP = 2, 1
_WAY = WAYS[0]  # an ACK from 40000 to 80 that passes


class _Set(NamedTuple):
    """A set of filters to be timed, and the verdict it has to give."""

    name: str
    number: int
    filters: list[ClassifierFilter]
    verdict: int


def measure(workspace: Workspace, addresses: Addresses, results: Results) -> None:
    """Add the costs of filters to the results."""
    workspace.say("filters: costs")
    link = workspace.lab.interface
    commands = workspace.instance("filters")
    commands.attach(link)
    with ExitStack() as stack:
        stack.callback(commands, "detach", "--all")
        program = commands.program(link)
        stack.callback(os.close, program)
        makers = Makers(stack)
        tables = stack.enter_context(FilterTables(commands.pins))
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})
        try:
            timer = _Timer(makers, program, tables, addresses, results.quick)
            for family in FAMILIES:
                for one in _sets(family):
                    results.filters += timer.costs(family, one)
        finally:
            os.sched_setaffinity(0, cores)
            tables.empty()


def filters_for(family: Family, count: int) -> list[ClassifierFilter]:
    """Return that many filters, of which only the last matches a packet of the bench."""
    return [*(_filter(family, number) for number in range(count - 1)), _last(count - 1)]


def _sets(family: Family) -> Iterator[_Set]:
    for count in FILTERS:
        yield _Set(NONE_MATCHES, count, [_filter(family, number) for number in range(count)], _PASS)
        yield _Set(LAST_MATCHES, count, filters_for(family, count), _DROP)
    limit = parse_limit("1000000/s", per="source")
    yield _Set(LIMIT_PER_SOURCE, 1, [ClassifierFilter(Match(), "limit", "enforce", 0, 0, limit)], _PASS)


def _filter(family: Family, number: int) -> ClassifierFilter:
    """Return a filter of three fields, two of which the packets have: an address of its own, a protocol, a port."""
    field, bits = (Field.IP_DADDR, 32) if family == 4 else (Field.IP6_DADDR, 128)
    address = (number * 0x9E3779B9 & 0xFFFFFFFF) << bits - 32
    tests = (
        Test(field, ((address, address + 255),)),
        Test(Field.PROTOCOL, ((6, 6),)),
        Test(Field.DPORT, ((80, 80 + number),)),
    )
    return ClassifierFilter(Match(tests), "drop", "enforce", 0, number)


def _last(slot: int) -> ClassifierFilter:
    tests = (Test(Field.PROTOCOL, ((6, 6),)), Test(Field.DPORT, ((80, 80),)), Test(Field.SPORT, ((1024, 65_535),)))
    return ClassifierFilter(Match(tests), "drop", "enforce", 0, slot)


class _Timer:
    """Times sets of filters against none."""

    def __init__(self, makers: Makers, program: int, tables: FilterTables, addresses: Addresses, quick: bool) -> None:
        self._makers, self._program, self._tables, self._addresses = makers, program, tables, addresses
        self._rounds, self._repeat = (_QUICK_ROUNDS, _QUICK_REPEAT) if quick else (_ROUNDS, _REPEAT)
        self._kind = makers.kind(program)
        self._generation = 0

    def costs(self, family: Family, one: _Set) -> Iterator[FilterCost]:
        """Yield the cost of a set, with one source and with many."""
        self._generation += 1
        halves = compiled(one.filters, self._generation)
        drawn = self._addresses.sources(_WAY.pool, family, 0)
        data = frame(_WAY, family, drawn[: 4 if family == 4 else 16])
        maker = self._makers.get(family, self._kind)
        maker.takes(self._program)
        for sources in (1, SOURCES):
            maker.prepare(data, drawn)
            fd = self._program if sources == 1 else maker.fd
            found: list[int] = []
            for _ in range(self._rounds):
                self._tables.empty()
                without = kernel.test_run(fd, data, self._repeat).duration
                self._tables.replace(*halves)
                run = kernel.test_run(fd, data, self._repeat)
                if run.verdict != one.verdict:
                    raise XdpguardError(
                        f"{one.number} filters, {one.name}, IPv{family}: verdict {run.verdict}",
                        "this is a bug of the bench or of the program; please report it",
                    )
                found.append(run.duration - without)
            yield FilterCost(one.name, family, sources, one.number, statistics.median(found))
