# SPDX-License-Identifier: GPL-2.0
"""A fleet of real hosts and of many simulated ones: how soon a ban is in force everywhere, and what joining takes.

Real hosts are namespaces with a data plane and `xdpguard run` each. Simulated ones are everything but the kernel and
the store. All share this machine with their server, so that times are upper bounds. With --chaos, random faults: after
each of them all hosts must agree again, and bans end in time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from scenarios.fleet_chaos import Bounds, chaos
from scenarios.fleet_hosts import Simulated
from scenarios.fleet_load import join
from scenarios.fleet_parts import Figure, Real, Rested, Server, block, key_of, wait_for

from xdpguard.fleet import snapshot
from xdpguard.fleet.client import Connection
from xdpguard.fleet.state import Message, State

_REAL = 3
_CHAOS = 20  # simulated hosts that share the faults
_PROCESSES = 4
_IDLE = 20.0  # seconds in which an idle host is watched
_EXAMPLES = """\
examples:
  sudo netns-lab/scenarios/fleet
  sudo netns-lab/scenarios/fleet --hosts 100 --entries 10000 --json
  sudo netns-lab/scenarios/fleet --chaos 200
"""


def percentile(values: list[float], share: float) -> float:
    """Such a one of a list."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def idle(host: Real, server: Server) -> list[Figure]:
    """What belonging to a fleet costs a host in which nothing happens: the service without it, then with it."""
    figures = []
    for joins in (False, True):
        if joins:
            host.join(server.url, server.folder / "hosts" / f"{host.name}.toml")
            wait_for(host.follows, f"{host.name} connects")
        wait_for(Rested(host.looked_at), f"{host.name} has started")  # what that takes is not what is measured
        before = host.processor()
        time.sleep(_IDLE)
        figures.append(((host.processor() - before) / _IDLE, host.memory()))
    (alone, small), (joined, large) = figures
    share, memory = joined - alone, large - small
    return [
        Figure("idle host: share of a core, by the fleet", "< 0.5 %", f"{share:.2%} of {joined:.2%}", share < 0.005),
        Figure(
            "idle host: memory, by the fleet", "< 40 MB", f"{memory / 1e6:.0f} MB ({large / 1e6:.0f} MB)", memory < 40e6
        ),
    ]


def in_kernels(server: Server, real: list[Real], count: int) -> list[Figure]:
    """Bans, one after the other: when they are in force on the real hosts, which have the machine to themselves."""
    took = []
    for number in range(count):
        address = f"198.51.{number // 250}.{number % 250}"
        start = time.monotonic()
        server.put({key_of("operator", address): block(address)})
        wait_for(partial(_all_drop, real, address), f"{address} is in force")
        took.append(max(it.in_force(address) or 0.0 for it in real) - start)
    return [_latency(f"ban in force on {len(real)} real hosts, 99th percentile of {count}", took, 0.1)]


def to_all(server: Server, simulated: Simulated, count: int, hosts: int) -> list[Figure]:
    """Bans, one after the other: when they have reached the last of the simulated hosts."""
    took = []
    for number in range(count):
        address = f"198.51.{100 + number // 250}.{number % 250}"
        key, start = key_of("operator", address), time.monotonic()
        server.put({key: block(address)})
        reached: list[float] = []

        def all_have_it(key: str = key, reached: list[float] = reached) -> bool:
            reached[:] = [at for answer in simulated.ask(f"reached {key}") for at in answer]
            return len(reached) == hosts

        wait_for(all_have_it, f"{address} reaches all")
        took.append(max(reached) - start)
    return [_latency(f"ban reaches the last of {hosts:,} hosts, 99th percentile of {count}", took, 1.0)]


def _latency(name: str, took: list[float], most: float) -> Figure:
    late = percentile(took, 0.99)
    words = f"{late * 1000:.0f} ms (median {statistics.median(took) * 1000:.0f})"
    return Figure(name, f"{most * 1000:,.0f} ms", words, late <= most)


def _all_drop(real: list[Real], address: str) -> bool:
    return all(it.in_force(address) for it in real)


def fill(server: Server, entries: int) -> float:
    """Publishes so many entries, of as many addresses; returns seconds."""
    start = time.monotonic()
    addresses = [f"{20 + number // 65_025}.{number // 255 % 255}.{number % 255}.1" for number in range(entries)]
    server.put({key_of("operator", it): block(it, 86_400) for it in addresses})
    return time.monotonic() - start


def storm(server: Server, real: Real, hosts: int, entries: int) -> list[Figure]:
    """So many hosts join at once where there are so many entries."""
    took = fill(server, entries)
    wanted = server.wanted()
    waited = wait_for(lambda: real.status()["here"]["wanted"] == len(wanted), "a real host knows all", 300)
    last = server.ask(lambda it: it.place()).last
    kept = wait_for(lambda: (it := server.ask(snapshot.head)) and it.last == last, "there is a snapshot of all")
    start = time.monotonic()
    one_by_one = server.ask(lambda it: it.read())
    alone = time.monotonic() - start
    start = time.monotonic()
    found = server.ask(_read_all)
    read = time.monotonic() - start
    start = time.monotonic()
    state = State()
    state.become(found)
    understood = time.monotonic() - start
    if len(found) != len(one_by_one) or state.digest != wanted.digest:
        raise RuntimeError("the snapshot is not what the bucket holds")
    seconds, size, newer = join(server.url, server.folder, hosts, _PROCESSES)
    memory = server.memory()
    here = real.status()["here"]
    return [
        Figure(f"publishing {entries:,} entries", "", f"{took:.1f} s"),
        Figure("a real host holds them in its kernel", "", f"{here['held']:,}, {waited:.1f} s after the last came"),
        Figure("a snapshot of them is there", "", f"{kept:.1f} s later, {size / 1e6:.1f} MB"),
        Figure("one host reads them one by one", "", f"{alone:.1f} s"),
        Figure("one host reads and unpacks the snapshot", "", f"{read:.1f} s"),
        Figure("one host understands them: state and digest", "", f"{understood:.1f} s"),
        Figure(
            f"{hosts:,} hosts join at once: the last has all, and one has understood it",
            "60 s",
            f"{seconds:.0f} s and {understood:.1f} s ({newer:,} entries after the snapshot)",
            seconds + understood <= 60,
        ),
        Figure("memory of the server, the most", "< 1 GB", f"{memory / 1e6:,.0f} MB", memory < 1e9),
    ]


async def _read_all(connection: Connection) -> list[Message]:
    def refused(why: str) -> None:
        raise RuntimeError(why)

    return await snapshot.read_all(connection, await connection.place(), refused)


def measure(arguments: argparse.Namespace, folder: Path, stack: ExitStack) -> list[Figure]:
    """Everything that was asked for."""
    names = [f"sim{number}" for number in range(arguments.hosts)]
    real = [Real(f"web{number}", folder / "hosts") for number in range(_REAL)]
    server = Server(folder / "server", [*names, *(it.name for it in real)])
    stack.callback(server.kill)
    server.start()
    server.ask(lambda it: it.make())
    for it in real:
        stack.callback(it.down)
        if arguments.chaos:
            it.ahead(0)
        it.up()
    if arguments.chaos:
        bounds = Bounds(arguments.chaos, arguments.seconds, arguments.seed)
        return chaos(server, real, min(arguments.hosts, _CHAOS), bounds, stack)
    _tell("watching an idle host")
    figures = idle(real[0], server)
    real[-1].keep(server.folder / "operator.toml")
    for it in real[1:]:
        it.join(server.url, server.folder / "hosts" / f"{it.name}.toml")
    for it in real:
        wait_for(it.follows, f"{it.name} connects")
    _tell(f"{arguments.bans} bans on real hosts")
    figures += in_kernels(server, real, arguments.bans)
    _tell(f"{arguments.hosts:,} hosts join")
    start = time.monotonic()
    simulated = Simulated(server.url, server.folder, arguments.hosts, _PROCESSES)
    stack.callback(simulated.end)
    wait_for(lambda: simulated.digests() == {server.wanted().digest}, "all hosts have joined", 300)
    joined = time.monotonic() - start
    figures.append(Figure(f"{arguments.hosts:,} simulated hosts start and join", "", f"{joined:.0f} s"))
    _tell(f"{arguments.bans} bans to all")
    figures += to_all(server, simulated, arguments.bans, arguments.hosts)
    simulated.end()
    if arguments.entries:
        _tell(f"{arguments.entries:,} entries")
        figures += storm(server, real[0], arguments.hosts, arguments.entries)
    return figures


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Measure; return the exit code: 1 if something wanted was not reached. ``words``: default: the command line's."""
    parser = argparse.ArgumentParser(
        prog="fleet", description=__doc__, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=1000, help="simulated hosts (default: 1000)")
    parser.add_argument("--bans", type=int, default=100, help="bans whose way is measured (default: 100)")
    parser.add_argument("--entries", type=int, default=100_000, help="entries that all hosts read; 0: none")
    parser.add_argument("--chaos", type=int, default=0, metavar="N", help="so many random faults instead")
    parser.add_argument("--seconds", type=float, default=7200, help="no fault begins after that (default: 7200)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults (default: 1)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args(words)
    if os.geteuid():
        parser.error("root is needed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="xdpguard-fleet-") as folder, ExitStack() as stack:
        figures = measure(arguments, Path(folder), stack)
    if arguments.json:
        print(json.dumps([it._asdict() for it in figures]))
    else:
        table = Table("", "wanted", "measured", "", box=box.SIMPLE)
        for it in figures:
            table.add_row(it.name, it.wanted, it.measured, {True: "ok", False: "NOT REACHED", None: ""}[it.met])
        Console(width=140).print(table)
    return int(any(it.met is False for it in figures))


if __name__ == "__main__":
    sys.exit(main())
