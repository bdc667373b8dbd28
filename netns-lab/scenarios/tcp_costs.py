# SPDX-License-Identifier: GPL-2.0
"""The cost of `xdpguard tcp` at 5,000 connections/s, both ends on this host: CPU time of the command, ns per run of its
programs in the kernel, and what it loses.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from topology import CLIENTS4, SERVER4, Lab

from xdpguard.dataplane.sys import kernel

_STATISTICS = Path("/proc/sys/kernel/bpf_stats_enabled")
_TICKS = os.sysconf("SC_CLK_TCK")
# A connection's transitions: five at the end that connects, four of the kernel's at the other (which closes first), and
# the one from its listener.
_CHANGES = 10

_SERVER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 7000), backlog=4096)
print("listening", flush=True)
while True:
    connection = listener.accept()[0]
    connection.recv(1)
    connection.send(b"!")
    connection.close()
"""
_CLIENT = """
import socket, sys, time
address, rate, seconds = (sys.argv[1], 7000), float(sys.argv[2]), float(sys.argv[3])
begun, number, sources = time.monotonic(), 0, sys.argv[4:]
while (passed := time.monotonic() - begun) < seconds:
    if number >= passed * rate:
        time.sleep(0.0005)
        continue
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
    client.bind((sources[number % len(sources)], 0))
    client.connect(address)
    client.send(b"?")
    while client.recv(10):
        pass
    client.close()
    number += 1
print(number, flush=True)
"""


class Case(NamedTuple):
    """A command, and the maximum share of a core it may take; 0: no bound."""

    arguments: str
    share: float


CASES = (
    Case("trace", 0.5),
    Case("trace --json", 0.5),
    Case("trace --csv", 0.5),
    Case("states --watch 1", 0.05),
    Case("states --watch 1 --json", 0.05),
    Case("rtt", 0.0),
    Case("retrans", 0.0),
    Case("retrans --count", 0.0),
    Case("cwnd --json", 0.0),
)
_NS_A_RUN = 1000.0  # at most


class Cost(NamedTuple):
    """The cost of a case. ``share`` of a core; ``lines`` it wrote; ``notes``: its final output."""

    case: Case
    connections: int
    share: float
    programs: dict[str, float]
    lines: int
    notes: str


def main() -> int:
    """Measure; exit with 1 if a bound is exceeded or something was lost."""
    parser = argparse.ArgumentParser(prog="tcp-costs", description=__doc__)
    parser.add_argument("--rate", type=int, default=5000, help="connections a second (default: 5000)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each command (default: 10)")
    parser.add_argument("--only", default="", help="commands that begin so: trace, states, ...")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    found = []
    with Lab(f"xgtcp{os.getpid()}", owner=os.getpid()) as lab, _statistics():
        _make_room(lab)
        with _process(lab, lab.server, _SERVER, SERVER4) as server:
            _read_line(server)
            for case in CASES:
                if case.arguments.startswith(arguments.only):
                    found.append(_measure(lab, case, arguments.rate, arguments.seconds))
    if arguments.json:
        print(json.dumps([it._asdict() for it in found]))
    else:
        _print(found, arguments.rate, arguments.seconds)
    return 0 if all(_held(it) for it in found) else 1


def _held(cost: Cost) -> bool:
    within = not cost.case.share or cost.share <= cost.case.share
    return (
        within and "lost" not in cost.notes and all(ns <= _NS_A_RUN for ns in cost.programs.values()) and _whole(cost)
    )


def _whole(cost: Cost) -> bool:
    """Return whether a trace has written every transition; one of the lines may be the header."""
    return not cost.case.arguments.startswith("trace") or cost.lines >= cost.connections * _CHANGES


def _measure(lab: Lab, case: Case, rate: int, seconds: float) -> Cost:
    with tempfile.TemporaryFile() as out:
        command = subprocess.Popen(
            [sys.executable, "-m", "xdpguard.cli", "tcp", *case.arguments.split()], stdout=out, stderr=subprocess.PIPE
        )
        try:
            assert command.stderr is not None
            command.stderr.readline()  # it is ready
            programs = _programs(command.pid)
            before, at = _cpu(command.pid), {name: kernel.program_info(fd) for name, fd in programs.items()}
            with _process(lab, lab.outside, _CLIENT, SERVER4, rate, seconds, *CLIENTS4) as client:
                connections = int(_read_line(client))
            share = (_cpu(command.pid) - before) / seconds
            costs = {}
            for name, fd in programs.items():
                now = kernel.program_info(fd)
                if now.runs > at[name].runs:
                    costs[name] = (now.run_time - at[name].run_time) / (now.runs - at[name].runs)
                os.close(fd)
            command.send_signal(signal.SIGINT)
            notes = command.stderr.read().decode().strip()
            command.wait(60)
        finally:
            if command.poll() is None:
                command.kill()
                command.wait()
        out.seek(0)
        lines = sum(1 for line in out if line.strip() != b"")
    return Cost(case, connections, share, costs, lines, notes)


def _programs(pid: int) -> dict[str, int]:
    """Return the descriptors of the programs that a process holds, by the tracepoint they are attached to."""
    found = {}
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith("prog_id:"):
                fd = kernel.program_by_id(int(line.split()[1]))
                found[kernel.program_info(fd).name] = fd
    return found


def _cpu(pid: int) -> float:
    """Return the seconds of CPU time, of the process and of the kernel on its behalf."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def _statistics() -> Iterator[None]:
    """Make the kernel measure its BPF programs meanwhile."""
    before = _STATISTICS.read_text(encoding="ascii")
    _STATISTICS.write_text("1", encoding="ascii")
    try:
        yield
    finally:
        _STATISTICS.write_text(before, encoding="ascii")


def _make_room(lab: Lab) -> None:
    """Create as many sockets in TIME_WAIT as possible."""
    for namespace in (lab.server, lab.outside):
        for name, value in (("tcp_max_tw_buckets", "1000000"), ("ip_local_port_range", "1024 65535")):
            lab.run(namespace, ["sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{name}"])


@contextmanager
def _process(lab: Lab, namespace: str, program: str, *arguments: object) -> Iterator[Any]:
    line = [sys.executable, "-c", program, *map(str, arguments)]
    made = lab.start(namespace, line, stdout=subprocess.PIPE)
    try:
        yield made
    finally:
        made.kill()
        made.wait()
        made.stdout.close()  # type: ignore[union-attr]


def _read_line(process: Any) -> str:
    ready, _, _ = select.select([process.stdout], [], [], 300)
    if not ready:
        raise SystemExit("the lab's traffic does not come")
    return str(process.stdout.readline().strip())


def _print(found: list[Cost], rate: int, seconds: float) -> None:
    table = Table(box=box.SIMPLE_HEAD, title=f"{rate:,} connections/s for {seconds:g} s", title_justify="left")
    for name in ("tcp ...", "connections", "of a core", "at most", "ns a run", "lines", "lost"):
        table.add_column(name, justify="left" if name in ("tcp ...", "lost") else "right")
    for it in found:
        table.add_row(
            it.case.arguments,
            f"{it.connections:,}",
            f"{it.share * 100:.1f} %",
            f"{it.case.share * 100:.0f} %" if it.case.share else "-",
            ", ".join(f"{ns:.0f}" for ns in it.programs.values()),
            f"{it.lines:,}",
            it.notes or ("nothing" if _whole(it) else f"{it.connections * _CHANGES - it.lines:,} lines"),
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    sys.exit(main())
