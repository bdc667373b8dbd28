# SPDX-License-Identifier: GPL-2.0
"""Measure a defence in the SYN-flood scenario: clients under the flood, SYNs answered, throughput."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from scenarios.defences import Guarded, Watch, wait_for
from scenarios.peers import PATIENCE, PORT, REQUEST, TIMEOUT, Clients, Peer, move, open_bulk
from topology import INTERFACE, Lab

from xdpguard.net import sysctl
from xdpguard.net.netns import entered

_FLOOD = Path(__file__).parents[1] / "flood.py"
_RUN = 1.0  # seconds at each rate
_STRAY = 100  # packets that clients of before the flood may still send: late ACKs
_DOWNLOAD = 3.0  # seconds
_TRANSFER, _TRANSFERS = 0.8, 5  # seconds each, and how many of each kind


@dataclass(frozen=True)
class Contest:
    """One defence under the flood. ``download``: MB/s. ``offered``: packets/s sent to it while there were clients;
    ``lost``: the fraction of them lost because the receiver's ring was full."""

    clients: Clients
    download: float
    offered: float
    lost: float


@dataclass(frozen=True)
class Flights:
    """Clients under a flood of ``rate`` SYNs/s, with requests of ``request`` bytes. ``bad``: their segments that the
    guard dropped because of an invalid cookie; the flood sends none.
    """

    rate: int
    request: int
    clients: Clients
    valid: int
    bad: int


@dataclass(frozen=True)
class Short:
    """One short flood against xdpguard."""

    tried: int
    succeeded: int
    median: float | None
    cookies: int
    to_active: float
    to_idle: float


# The flood.


def _flood_line(lab: Lab, core: int, rate: int, seconds: float) -> list[str]:
    line = ["taskset", "-c", str(core), sys.executable, str(_FLOOD), "syn", "--port", str(PORT)]
    return [*line, "--netns", lab.outside, "--rate", str(rate), "--seconds", str(seconds), "--json"]


@contextmanager
def _flooding(lab: Lab, core: int, rate: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Run the flood in the background, ended with the block."""
    with subprocess.Popen(_flood_line(lab, core, rate, seconds), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


class _Traffic(NamedTuple):
    """Packets an interface has received, and frames it could not pass on, at a moment (seconds, monotonic)."""

    at: float
    received: int
    lost: int


@contextmanager
def _traffic(namespace: str) -> Iterator[Callable[[], _Traffic]]:
    """Reads an interface's counters repeatedly."""
    with entered(namespace):
        table = os.open("/proc/thread-self/net/dev", os.O_RDONLY | os.O_CLOEXEC)  # stays in this namespace

    def read() -> _Traffic:
        for line in os.pread(table, 65_536, 0).decode("ascii").splitlines():
            name, _, numbers = line.strip().partition(":")
            if name == INTERFACE:
                found = [int(number) for number in numbers.split()]
                return _Traffic(time.monotonic(), found[1], found[11])  # rx packets, tx drop
        raise SystemExit(f"syn-flood: {INTERFACE} has gone from {namespace}")

    try:
        yield read
    finally:
        os.close(table)


def contest(lab: Lab, core: int, rate: int, seconds: float, watch: Watch | None = None) -> Contest:
    """Run clients for a while and then a download, under one flood that outlasts them."""
    with (
        _traffic(lab.server) as server,
        _traffic(lab.outside) as outside,
        Peer("serve", lab.server),
        Peer("connect", lab.outside, seconds, REQUEST) as clients,
        Peer("download", lab.outside, _DOWNLOAD) as download,
    ):
        start = server()
        with _flooding(lab, core, rate, seconds + TIMEOUT + _DOWNLOAD + PATIENCE) as flood:
            if watch is None:
                wait_for(lambda: server().received > start.received + _STRAY, "the flood")
            else:
                watch.begin()
            before, lost = server(), outside().lost
            clients.go()
            if watch is not None:
                watch.active()
            seen = Clients(**clients.answer())
            after, lost = server(), outside().lost - lost
            # In sequence: a download at full speed fills the receiver's ring, which would harm the clients.
            download.go()
            moved = float(download.answer())
            if flood.poll() is not None:
                raise SystemExit("syn-flood: the flood ended early; its message is above")
        if watch is not None:
            watch.end()
    came = after.received - before.received
    return Contest(seen, moved, (came + lost) / (after.at - before.at), lost / max(1, came + lost))


def _answers(guarded: Guarded) -> Callable[[], bool]:
    """Return whether the guard has answered SYNs since this was created."""
    sent = guarded.cookies()
    return lambda: guarded.cookies() > sent + _STRAY


def first_flights(
    lab: Lab, core: int, guarded: Guarded, rates: Sequence[int], sizes: Sequence[int], seconds: float
) -> Iterator[Flights]:
    """Run clients of the guard under floods, with requests of these sizes: what follows a client's first segment
    immediately reaches the host before the kernel has a socket for it.
    """
    for rate, size in itertools.product(rates, sizes):
        with (
            Peer("serve", lab.server),
            Peer("connect", lab.outside, seconds, size) as clients,
            _flooding(lab, core, rate, seconds + TIMEOUT + PATIENCE),
        ):
            wait_for(_answers(guarded), "the guard's answers")
            before = guarded.counters()
            clients.go()
            seen = Clients(**clients.answer())
            after = guarded.counters()
        bad = after.reasons["cookie_bad"].packets - before.reasons["cookie_bad"].packets
        yield Flights(rate, size, seen, after.cookies_valid - before.cookies_valid, bad)


def handled(lab: Lab, core: int, rates: tuple[int, ...], answered: Callable[[], int]) -> list[tuple[float, float]]:
    """Return the SYNs/s offered, and the SYNs/s answered, with no other traffic."""
    found = []
    with Peer("serve", lab.server):
        for rate in rates:
            before = answered()
            sent = json.loads(subprocess.check_output(_flood_line(lab, core, rate, _RUN), text=True))
            found.append((sent["rate"], (answered() - before) / sent["seconds"]))
    return found


def run_short(lab: Lab, state: Path, seconds: float = 4.0, rate: int = 1_000_000) -> Short:
    """Run a short flood against xdpguard and its service on a bare lab. ``state``: an empty directory."""
    with Guarded(lab, state) as guarded:
        core = lab.split_cores()
        with guarded.service():
            watch = Watch(guarded)
            clients = contest(lab, core, rate, seconds, watch).clients
            times = watch.times()
            cookies = guarded.cookies()
    return Short(clients.tried, clients.succeeded, clients.median, cookies, times.to_active, times.to_idle)


def throughput(lab: Lab, guarded: Guarded) -> dict[str, float]:
    """Compare connections set up by cookie with others, without a flood: medians in MB/s and their ratio, both ways."""
    for name in ("tcp_syncookies", "tcp_timestamps"):  # as the service sets them during a flood
        sysctl.write(f"net.ipv4.{name}", "2", lab.server)
    rates: dict[tuple[str, str], list[float]] = {}
    with Peer("serve", lab.server):
        for _ in range(_TRANSFERS):
            for mode in ("off", "always"):
                guarded("guard", "set", f"mode={mode}")
                for name, direction in (("download", "d"), ("upload", "u")):
                    before = guarded.counters().cookies_valid
                    with entered(lab.outside):
                        connection = open_bulk()
                    proved = guarded.counters().cookies_valid - before
                    if proved != (mode == "always"):
                        raise SystemExit(f"syn-flood: {proved} cookies came back with the guard {mode}")
                    rates.setdefault((name, mode), []).append(move(connection, direction, _TRANSFER))
    guarded("guard", "set", "mode=default")
    found: dict[str, float] = {}
    for name in ("download", "upload"):
        plain, cookie = (statistics.median(rates[name, mode]) for mode in ("off", "always"))
        found |= {f"{name}, plain": plain, f"{name}, by cookie": cookie, f"{name}, ratio": cookie / plain}
    return found
