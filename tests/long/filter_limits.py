# SPDX-License-Identifier: GPL-2.0
"""How exactly limits by source are kept, on the real clock and two CPUs.

Ten sources each send twice their limit, half of it on each CPU: what passes, divided by the limit, each of them. Then
one source sends 90 % of its limit on one CPU, while on the other as many packets come from sources that come once: how
much of it passes.

    sudo env PYTHONPATH=.:tests:netns-lab .venv/bin/python tests/long/filter_limits.py --seconds 10 --spoofed 1000000
"""

from __future__ import annotations

import argparse
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence

from support.bench import Bench

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.tables.classifier import ClassifierFilter, compiled
from xdpguard.dataplane.tables.filters import FilterTables
from xdpguard.policy.limit import parse_limit
from xdpguard.policy.matching.model import Match

RATE, BURST = 500, 20  # packets/s of a source, and at once
SOURCES = 10
HOME, HONEST, SPOOFED = 0xC6336401, 0x0A000001, 0x20000000
PASS = 2  # enum xdp_action
EXACT, LOST = 0.03, 0.05  # wanted at most


def frame(source: int) -> bytes:
    """A UDP packet of 60 bytes."""
    ether = bytes.fromhex("020000000001020000000002") + b"\x08\x00"
    body = struct.pack("!HHHH", 4000, 53, 26, 0) + bytes(18)
    return ether + struct.pack("!BBHHHBBHII", 0x45, 0, 46, 7, 0, 64, 17, 0, source, 1) + body


def sent(fd: int, frames: Sequence[bytes], rate: float, until: Callable[[], bool]) -> list[tuple[int, int]]:
    """Send frames in turn, each at that rate; return how many of each were sent, and passed."""
    found = [(0, 0)] * len(frames)
    began, turn = time.monotonic(), 0
    while not until():
        time.sleep(max(0.0, began + turn / rate - time.monotonic()))
        turn += 1
        for number, data in enumerate(frames):
            count, passed = found[number]
            found[number] = count + 1, passed + (kernel.test_run(fd, data).verdict == PASS)
    return found


def apart(cpu: int, work: Callable[[], list[tuple[int, int]]]) -> Callable[[], list[tuple[int, int]]]:
    """Do work in a process of its own on a CPU; return what waits for its result."""
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.sched_setaffinity(0, {cpu})
        for count, passed in work():
            os.write(writes, struct.pack("=QQ", count, passed))
        os._exit(0)
    os.close(writes)

    def wait() -> list[tuple[int, int]]:
        with os.fdopen(reads, "rb") as pipe:
            raw = pipe.read()
        os.waitpid(child, 0)
        return list(struct.iter_unpack("=QQ", raw))

    return wait


def exact(fd: int, cpus: Sequence[int], seconds: float) -> list[float]:
    """Return what passes of each source that sends twice its limit, in limits."""
    frames = [frame(HOME + number) for number in range(SOURCES)]
    began = time.monotonic()
    waits = [apart(cpu, lambda: sent(fd, frames, RATE, lambda: time.monotonic() - began > seconds)) for cpu in cpus]
    halves = [wait() for wait in waits]
    spent = time.monotonic() - began
    offered = min(one[0] + other[0] for one, other in zip(*halves, strict=True))
    if offered < 1.8 * RATE * spent:
        raise SystemExit(f"only {offered / (RATE * spent):.2f} times the limit was offered: the machine is too busy")
    return [(one[1] + other[1] - BURST) / (RATE * spent) for one, other in zip(*halves, strict=True)]


def honest(fd: int, cpus: Sequence[int], spoofed: int) -> tuple[float, float]:
    """Return which part of an honest source's packets passes during the flood, and the flood's packets/s."""
    over_read, over_write = os.pipe()
    os.set_blocking(over_read, False)

    def over() -> bool:
        try:
            return bool(os.read(over_read, 1))
        except BlockingIOError:
            return False

    wait = apart(cpus[0], lambda: sent(fd, [frame(HONEST)], RATE * 0.9, over))
    os.sched_setaffinity(0, {cpus[1]})
    runner, data, began = kernel.Runner(fd), bytearray(frame(SPOOFED)), time.monotonic()
    for number in range(spoofed):
        struct.pack_into("!I", data, 26, SPOOFED + number * 2654435761 % (1 << 29))
        runner.run(memoryview(data))
    spent = time.monotonic() - began
    os.write(over_write, b".")
    ((count, passed),) = wait()
    return passed / count, spoofed / spent


def main() -> int:
    """Measure both; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of the first part (default: %(default)s)")
    parser.add_argument("--spoofed", type=int, default=1_000_000, help="sources (default: %(default)s)")
    asked = parser.parse_args()
    cpus = sorted(os.sched_getaffinity(0))[:2]
    if len(cpus) < 2:
        raise SystemExit("two CPUs are needed")
    bench = Bench("filterlimits", check_source=False)
    tables = FilterTables(bench.pins)
    try:
        limit = parse_limit(f"{RATE}/s", str(BURST), "source")
        tables.replace(*compiled([ClassifierFilter(Match(), "limit", "enforce", 0, 0, limit)]))
        found = exact(bench.fd, cpus, asked.seconds)
        print(
            f"{SOURCES} sources at twice the limit, 2 CPUs, {asked.seconds:g} s: {min(found):.3f} to {max(found):.3f}"
        )
        part, rate = honest(bench.fd, cpus, asked.spoofed)
        print(f"1 source at 0.9 of its limit, {asked.spoofed:,} spoofed ones ({rate:,.0f}/s): {part:.2%} of it passes")
    finally:
        tables.close()
        bench.close()
    return 0 if all(abs(it - 1) <= EXACT for it in found) and part >= 1 - LOST else 1


if __name__ == "__main__":
    sys.exit(main())
