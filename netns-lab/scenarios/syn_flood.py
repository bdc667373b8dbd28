# SPDX-License-Identifier: GPL-2.0
"""One SYN flood from spoofed sources against four defences, each on the same receive path in a lab of its own.

The server's veth peer has an XDP program (prepared), or none, like a container's (ordinary); or both in sequence.

While it runs, real clients make one connection after the other; then a download goes on, on a connection older than the
flood. Then, with nobody else there and in turn, how many SYNs each answers on one core. Ratios hold where absolute
numbers do not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from scenarios.contest import Contest, Flights, contest, first_flights, handled, throughput
from scenarios.defences import (
    GUARD_RATES,
    KERNEL,
    ORDINARY_RATES,
    Guarded,
    Times,
    Unavailable,
    Watch,
    attach,
    sent_back,
    swapping,
)
from scenarios.peers import REQUEST
from topology import Lab

from xdpguard.net import sysctl

XDPGUARD = "xdpguard"

_LAB = "xgflood"
_ROUNDS = 2  # how often each rate is tried
_CAPACITY = (0, 3_200_000, 4_000_000)  # SYNs/s; 0: as fast as possible
_PEERS = ("prepared", "ordinary")  # the server's peer: with an XDP program, or without
# SYNs/s by default. Over an ordinary lab's bridge frames arrive as socket buffers, of which a core handles fewer.
_RATE = {"prepared": 1_000_000, "ordinary": 200_000}
# Floods, SYNs/s, under which requests of one segment and of two are compared.
_FLIGHT_RATES = {"prepared": (60_000, 200_000, 500_000), "ordinary": (60_000, 100_000)}
_FLIGHT_SIZES = (REQUEST, 1_800)
_EXAMPLES = """\
examples:
  sudo netns-lab/scenarios/syn-flood
  sudo netns-lab/scenarios/syn-flood --rate 500000 --seconds 4 --json
  sudo netns-lab/scenarios/syn-flood --peer both
"""


@dataclass
class Row:
    """One defence. ``handled``: SYNs/s offered, and SYNs/s answered of them."""

    name: str
    skipped: str = ""
    contest: Contest | None = None
    handled: list[tuple[float, float]] = field(default_factory=list)

    @property
    def most(self) -> float:
        """SYNs/s answered at the rate that suits it best."""
        return max((answered for _, answered in self.handled), default=0.0)


@dataclass
class Results:
    """All results."""

    peer: str
    rate: int
    seconds: float
    mode: str = ""  # in which xdpguard was attached
    rows: list[Row] = field(default_factory=list)
    ceiling: Row = field(default_factory=lambda: Row("ceiling, addresses swapped"))
    times: Times | None = None
    flights: list[Flights] = field(default_factory=list)
    throughput: dict[str, float] = field(default_factory=dict)

    def ratios(self) -> dict[str, float]:
        """SYNs/s that xdpguard answers, relative to the others."""
        mine = next((row.most for row in self.rows if row.name == XDPGUARD), 0.0)
        others = [row for row in (*self.rows, self.ceiling) if row.name != XDPGUARD and row.most]
        return {f"{XDPGUARD} / {row.name}": mine / row.most for row in others}


@dataclass(frozen=True)
class Stand:
    """Set up a defence in a lab of its own."""

    row: Row
    lab: Lab
    core: int
    answered: Callable[[], int]
    rates: tuple[int, ...]


def measure(peer: str, rate: int, seconds: float, tell: Callable[[str], None]) -> Results:
    """Measure everything, on a server with such a peer."""
    results = Results(peer, rate, seconds)
    ordinary = peer == "ordinary"
    with tempfile.TemporaryDirectory(prefix="xdpguard-flood-") as folder, ExitStack() as stack:
        tell(
            f"setting up a lab with an {peer} peer for each defence"
            if ordinary
            else "setting up a lab for each defence"
        )
        labs = [
            stack.enter_context(Lab(f"{_LAB}-{number}", owner=os.getpid(), ordinary=ordinary))
            for number in range(len(KERNEL) + 2)
        ]
        for lab in labs:
            # Every client is new: without cookies, the kernel keeps room in the queue for those it has measured before,
            # and whether one of ours gets in before the flood does is chance.
            sysctl.write("net.ipv4.tcp_no_metrics_save", "1", lab.server)
        stands = _kernel_stands(labs, results, tell)
        guarded = stack.enter_context(Guarded(labs[-2], Path(folder)))
        results.mode = guarded.mode()
        core = labs[-2].split_cores()
        results.rows.append(Row(XDPGUARD))
        mine = Stand(results.rows[-1], labs[-2], core, guarded.cookies, ORDINARY_RATES if ordinary else GUARD_RATES)
        capacity = ORDINARY_RATES if ordinary else _CAPACITY
        ceiling = Stand(results.ceiling, labs[-1], attach(labs[-1], swapping()), lambda: sent_back(labs[-1]), capacity)
        with guarded.service():
            watch = Watch(guarded)
            for stand in (*stands, mine):
                tell(f"{stand.row.name}: clients under the flood")
                follow = watch if stand is mine else None
                stand.row.contest = contest(stand.lab, stand.core, rate, seconds, follow)
            results.times = watch.times()
            tell(f"{XDPGUARD}: requests of one segment and of two")
            rates = _FLIGHT_RATES[peer]
            results.flights += first_flights(mine.lab, mine.core, guarded, rates, _FLIGHT_SIZES, seconds / 2)
            # In turn: a shared machine is not equally fast from one minute to the next.
            for number in range(_ROUNDS):
                for stand in (*stands, mine, ceiling):
                    tell(f"{stand.row.name}: how many SYNs it answers ({number + 1} of {_ROUNDS})")
                    stand.row.handled += handled(stand.lab, stand.core, stand.rates, stand.answered)
        tell(f"{XDPGUARD}: throughput of connections set up by cookie")
        results.throughput = throughput(labs[-2], guarded)
    return results


def _kernel_stands(labs: list[Lab], results: Results, tell: Callable[[str], None]) -> list[Stand]:
    found = []
    for defence, lab in zip(KERNEL, labs, strict=False):
        row = Row(defence.name)
        results.rows.append(row)
        try:
            core, answered = defence.set_up(lab)
            found.append(Stand(row, lab, core, answered, ORDINARY_RATES if lab.ordinary else defence.rates))
        except Unavailable as error:
            row.skipped = str(error)
            tell(f"{row.name}: left out; {error}")
    return found


def show(results: Results) -> None:
    """Print the table, and what does not fit into it."""
    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    console.print(f"peer of the server: {results.peer}; xdpguard in {results.mode} mode")
    table.add_column(f"{results.rate:,} spoofed SYNs/s")
    for name in ("SYNs handled/s", "lost", "tried", "succeeded", "median ms", "p99 ms", "download MB/s"):
        table.add_column(name, justify="right")
    for row in results.rows:
        if row.contest is None:
            table.add_row(row.name, "not measured")
            continue
        seen = row.contest.clients
        table.add_row(
            row.name,
            f"{row.most:,.0f}",
            f"{row.contest.lost:.0%}",
            f"{seen.tried:,}",
            f"{seen.succeeded:,}",
            _milliseconds(seen.median),
            _milliseconds(seen.p99),
            f"{row.contest.download:.1f}",
        )
    console.print(table)
    console.print(_flights_table(results))
    for row in results.rows:
        if row.skipped:
            console.print(f"{row.name}: {row.skipped}")
    for name, ratio in results.ratios().items():
        console.print(f"{name}: {ratio:.2f}")
    console.print(f"{results.ceiling.name}: {results.ceiling.most:,.0f} SYNs/s")
    for name in ("download", "upload"):
        console.print(
            f"throughput of a connection set up by cookie, {name}: {results.throughput[f'{name}, ratio']:.2f} of a"
            f" plain one's {results.throughput[f'{name}, plain']:.0f} MB/s (wanted: at least 0.90)"
        )
    if results.times is not None:
        console.print(f"from the first SYN to an active guard: {results.times.to_active * 1e3:.1f} ms")
        console.print(f"from the last SYN to an idle guard: {results.times.to_idle:.1f} s")


def _flights_table(results: Results) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(f"{XDPGUARD}: request")
    for name in ("SYNs/s", "tried", "succeeded", "answered p50 ms", "p99 ms", "cookies back", "cookie_bad"):
        table.add_column(name, justify="right")
    for it in results.flights:
        table.add_row(
            f"{it.request:,} bytes",
            f"{it.rate:,}",
            f"{it.clients.tried:,}",
            f"{it.clients.succeeded:,}",
            _milliseconds(it.clients.answered_median),
            _milliseconds(it.clients.answered_p99),
            f"{it.valid:,}",
            f"{it.bad:,}",
        )
    return table


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _for_machines(results: Results) -> dict[str, Any]:
    rows = {row.name: asdict(row) | {"most": row.most} for row in results.rows}
    return asdict(results) | {"rows": rows, "ratios": results.ratios()}


def main() -> int:
    """Measure; with --json print numbers for machines."""
    parser = argparse.ArgumentParser(
        prog="syn-flood", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peer",
        choices=[*_PEERS, "both"],
        default="prepared",
        help="whether the server's veth peer carries an XDP program (prepared, the default) or none (ordinary)",
    )
    parser.add_argument(
        "--rate", type=int, help="SYNs a second (default: 1000000; 200000 with an ordinary peer, which takes fewer)"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="of clients under the flood (default: 8, up to 30)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    if not 20_000 <= (given.rate or 20_000) <= 100_000_000 or not 1 <= given.seconds <= 30:
        parser.error("--rate goes from 20000, where a flood begins for the guard, and --seconds from 1 to 30")
    # The contexts clean up namespaces, processes and programs, but SIGTERM would not end them otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    found = [
        measure(
            peer,
            given.rate or _RATE[peer],
            given.seconds,
            lambda line: print(line, file=sys.stderr, flush=True),
        )
        for peer in (_PEERS if given.peer == "both" else [given.peer])
    ]
    if given.json:
        machines = [_for_machines(results) for results in found]
        print(json.dumps(machines if given.peer == "both" else machines[0]))
    else:
        for results in found:
            show(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
