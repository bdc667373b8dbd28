# SPDX-License-Identifier: GPL-2.0
"""The cost per packet of each path through the program, by BPF_PROG_TEST_RUN, above a program that only drops.

Every figure is the median of rounds that run all programs in turn, so that a busy moment of the machine affects all.
There is one instance per number of entries, each on a link of its own, so one run compares them.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple

from xdpguard.bench import tools
from xdpguard.bench.maker import Kind, Makers, drop_at_once
from xdpguard.bench.packets import ALLOWED, CLOSED_PORT, FAMILIES, SOURCES, WAYS, Addresses, Family, Way, frame
from xdpguard.bench.results import Cost, Results
from xdpguard.bench.workspace import Commands, Workspace
from xdpguard.dataplane.sys import kernel
from xdpguard.errors import XdpguardError

_ROUNDS, _REPEAT = 15, 100_000
_QUICK_ROUNDS, _QUICK_REPEAT = 3, 50_000
# The rules that a path needs are set just before it is measured: a non-empty allow list costs every packet.
_STAGES = (("pass_ack", "pass_syn", "denied", "malformed"), ("blocked",), ("allowed", "closed_port"))
_THEIRS = ("pass_ack", "pass_syn", "denied", "closed_port")  # those that xdp-filter has too
_VERDICTS = {"pass": 2, "allow": 2}  # XDP_PASS; any other reason is XDP_DROP


class Tested(NamedTuple):
    """A program under test, the kind of packet makers it needs, and the empty program of that kind."""

    name: str
    entries: int
    fd: int
    kind: Kind
    empty: int
    link: str = ""
    commands: Commands | None = None

    def takes(self, way: Way) -> bool:
        """Return whether the program has this path at all."""
        if self.commands is None:
            return way.key in _THEIRS
        return way.key != "denied" or self.entries > 0


class _Case(NamedTuple):
    """A packet, from one source repeatedly or from many sources."""

    way: Way
    family: Family
    sources: int


class _Timer:
    """Times the cases of a stage in every program."""

    def __init__(self, makers: Makers, addresses: Addresses, quick: bool) -> None:
        self._makers = makers
        self._addresses = addresses
        self._rounds, self._repeat = (_QUICK_ROUNDS, _QUICK_REPEAT) if quick else (_ROUNDS, _REPEAT)
        self._drawn: dict[tuple[str, Family, int], bytes] = {}

    def costs(self, ways: Sequence[Way], programs: Sequence[Tested]) -> Iterator[Cost]:
        """Yield the costs of these paths."""
        cases = [_Case(way, family, sources) for way in ways for family in FAMILIES for sources in (1, SOURCES)]
        for tested in programs:
            for case in cases:
                if tested.takes(case.way):
                    self._check(tested, case)
        times: dict[tuple[_Case, Tested], list[int]] = {}
        for _ in range(self._rounds):
            floors: dict[tuple[Family, int, Kind], int] = {}
            for case, tested in itertools.product(cases, programs):
                if not tested.takes(case.way):
                    continue
                # A program that inspects nothing costs the same whatever the packet is.
                floor = (case.family, case.sources, tested.kind)
                if floor not in floors:
                    floors[floor] = self._run(tested, tested.empty, case, self._repeat).duration
                spent = self._run(tested, tested.fd, case, self._repeat).duration
                times.setdefault((case, tested), []).append(spent - floors[floor])
        for (case, tested), found in times.items():
            key = (case.way.key, case.family, case.sources, tested.entries)
            yield Cost(tested.name, *key, statistics.median(found))

    def _check(self, tested: Tested, case: _Case) -> None:
        """Raise XdpguardError unless the packets of a case take the path that is to be timed."""
        before = _counted(tested, case.way)
        verdict = self._run(tested, tested.fd, case, case.sources).verdict
        counted = _counted(tested, case.way) - before
        wanted = (_VERDICTS.get(case.way.reason, 1), case.sources if tested.commands else 0)
        if (verdict, counted) != wanted:
            raise XdpguardError(
                f"{tested.name} with {tested.entries:,} entries: of {case.sources:,} packets, {case.way.name}, IPv"
                f"{case.family}, {counted:,} were counted as {case.way.reason}, verdict {verdict}",
                "this is a bug of the bench or of the program; please report it",
            )

    def _run(self, tested: Tested, program: int, case: _Case, repeat: int) -> kernel.TestRun:
        key = (case.way.pool, case.family, tested.entries)
        if key not in self._drawn:
            self._drawn[key] = self._addresses.sources(*key)
        sources = self._drawn[key]
        data = frame(case.way, case.family, sources[: 4 if case.family == 4 else 16])
        if case.sources == 1:
            return kernel.test_run(program, data, repeat)
        maker = self._makers.get(case.family, tested.kind)
        maker.takes(program)
        maker.prepare(data, sources)
        return kernel.test_run(maker.fd, data, repeat)


def measure(workspace: Workspace, addresses: Addresses, counts: Sequence[int], results: Results) -> None:
    """Add the costs to the results."""
    with ExitStack() as stack:
        makers = Makers(stack)
        programs = [_ours(workspace, stack, makers, addresses, count, number) for number, count in enumerate(counts)]
        try:
            workspace.say("costs: xdp-filter")
            denied = {family: addresses.sources("listed", family, SOURCES) for family in FAMILIES}
            other = stack.enter_context(tools.xdp_filter(workspace.lab, denied))
            programs.append(_tested(stack, makers, "xdp-filter", SOURCES, other))
        except tools.Unavailable as error:
            results.skipped["xdp-filter"] = str(error)
        timer = _Timer(makers, addresses, results.quick)
        cores = os.sched_getaffinity(0)
        for stage in _STAGES:
            ways = [way for way in WAYS if way.key in stage]
            for tested in programs:
                if tested.commands is not None:
                    _prepare(workspace, tested.commands, stage, addresses)
            workspace.say(f"costs: {', '.join(way.name for way in ways)}")
            # The program keeps per-core tables.
            os.sched_setaffinity(0, {max(cores)})
            try:
                results.costs += timer.costs(ways, programs)
            finally:
                os.sched_setaffinity(0, cores)


def _ours(
    workspace: Workspace, stack: ExitStack, makers: Makers, addresses: Addresses, count: int, number: int
) -> Tested:
    """Attach xdpguard with this many entries to a link of its own."""
    workspace.say(f"costs: xdpguard with {count:,} entries")
    link = f"bench{number}"
    server = workspace.lab.server
    subprocess.run(
        f"ip -n {server} link add {link} up type veth peer name peer{number}".split(), check=True, capture_output=True
    )
    commands = workspace.instance(f"costs{number}")
    commands.attach(link)
    if count:
        listed = workspace.folder / "listed"
        addresses.write(listed, count)
        commands.fill(listed)
    descriptor = commands.program(link)
    stack.callback(os.close, descriptor)
    return _tested(stack, makers, "xdpguard", count, descriptor)._replace(link=link, commands=commands)


def _tested(stack: ExitStack, makers: Makers, name: str, entries: int, program: int) -> Tested:
    kind = makers.kind(program)
    empty = drop_at_once(kind)
    stack.callback(os.close, empty)
    return Tested(name, entries, program, kind, empty)


def _prepare(workspace: Workspace, commands: Commands, stage: Sequence[str], addresses: Addresses) -> None:
    """Set the rules that the paths of a stage need."""
    if "blocked" in stage:
        path = workspace.folder / "blocked"
        path.write_text("\n".join(addresses.blocked()), encoding="ascii")
        commands("block", "-", "--force", stdin=path)
    if "allowed" in stage:
        commands("allow", *ALLOWED.values())
        commands("block", "--port", f"{CLOSED_PORT}/tcp", "--force")


def _counted(tested: Tested, way: Way) -> int:
    return tested.commands.counted(tested.link)[way.reason] if tested.commands else 0
