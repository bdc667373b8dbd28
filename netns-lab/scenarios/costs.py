# SPDX-License-Identifier: GPL-2.0
"""Costs: commands as whole processes, packets by BPF_PROG_TEST_RUN above an empty program, drop rate in the lab.

Every packet figure is the median of interleaved rounds, less the cost of a program that drops at once: the price of the
measurement itself. Ratios hold where absolute times do not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from topology import CLIENTS4, INTERFACE, SERVER4, Lab

from xdpguard.dataplane import kernel
from xdpguard.net.links import Links

_XDP_DROP = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)  # r0 = XDP_DROP; exit
_ROUNDS = 21
_REPEAT = 100_000
_COMMAND_ROUNDS = 5
_MANY = 100_000
_FLOOD = Path(__file__).parents[1] / "flood.py"
_DENIED, _CLEAN = CLIENTS4[0], "203.0.113.50"


class Limit(NamedTuple):
    """A figure, what it should be at most (or at least), and its unit."""

    name: str
    value: float
    bound: float
    at_least: bool = False
    unit: str = ""

    @property
    def held(self) -> bool:
        """Whether the figure is within its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


class Guard:
    """xdpguard commands with an instance of their own."""

    def __init__(self, state: Path) -> None:
        self._environment = os.environ | {"XDPGUARD_STATE_DIR": str(state), "XDPGUARD_INSTANCE": "costs"}

    def __call__(self, *arguments: str, stdin: str | None = None) -> float:
        """Runs a command; returns its whole time in seconds."""
        begin = time.perf_counter()
        subprocess.run(
            [str(Path(sys.executable).parent / "xdpguard"), *arguments],
            env=self._environment,
            input=stdin,
            stdout=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        return time.perf_counter() - begin

    def deny_count(self) -> int:
        """Packets dropped as denied, on the lab's interface."""
        text = subprocess.check_output(
            [str(Path(sys.executable).parent / "xdpguard"), "stats", "--json"], env=self._environment, text=True
        )
        return int(json.loads(text)["interfaces"][INTERFACE]["reasons"]["deny"]["packets"])


def commands(guard: Guard, lab: Lab) -> list[Limit]:
    """Whole-process times of attach, block, and a hundred thousand blocks."""
    attach, block = [], []
    for number in range(_COMMAND_ROUNDS):
        attach.append(guard("attach", INTERFACE, "--netns", lab.server))
        block.append(guard("block", f"192.0.2.{number + 50}"))
        guard("detach", "--all")
    guard("attach", INTERFACE, "--netns", lab.server)
    source = random.Random(1)
    addresses = {f"{source.randrange(1, 200)}.{source.randrange(256)}.{source.randrange(256)}.9" for _ in range(_MANY)}
    while len(addresses) < _MANY:
        addresses.add(f"{source.randrange(1, 200)}.{source.randrange(256)}.{source.randrange(256)}.8")
    text = "\n".join(sorted(addresses))
    bulk = guard("block", "-", "--force", stdin=text)
    guard("unblock", "-", stdin=text)
    return [
        Limit("attach, cold, compile included", statistics.median(attach), 1.5, unit="s"),
        Limit("block ADDRESS, whole process", statistics.median(block), 0.25, unit="s"),
        Limit(f"block -, {_MANY:,} addresses", bulk, 5.0, unit="s"),
        Limit("  a rule", bulk / _MANY * 1e6, 50.0, unit="us"),
    ]


def frames() -> dict[str, bytes]:
    """The packets to be timed, Ethernet to payload, 60 octets or more."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    ethernet = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
    built = {
        "denied": ethernet / IP(src=_DENIED, dst=SERVER4) / TCP(flags="A", dport=80),
        "ACK": ethernet / IP(src=_CLEAN, dst=SERVER4) / TCP(flags="A", dport=80),
        "SYN": ethernet / IP(src=_CLEAN, dst=SERVER4) / TCP(flags="S", dport=80),
        "ACK, IPv6": ethernet / IPv6(src="2001:db8::9", dst="2001:db8::1") / TCP(flags="A", dport=80),
        "SYN, IPv6": ethernet / IPv6(src="2001:db8::9", dst="2001:db8::1") / TCP(flags="S", dport=80),
    }
    return {name: bytes(frame).ljust(60, b"\0") for name, frame in built.items()}


def packets(programs: dict[str, int]) -> dict[str, dict[str, float]]:
    """Median cost of each packet in each program above the empty one, ns: {program: {packet: ns}}."""
    empty = kernel.load_xdp(_XDP_DROP, "empty")
    times: dict[tuple[str, str], list[int]] = {}
    for _ in range(_ROUNDS):
        for packet, frame in frames().items():
            for name, program in {"": empty, **programs}.items():
                times.setdefault((name, packet), []).append(kernel.test_run(program, frame, _REPEAT).duration)
    os.close(empty)
    middle = {key: statistics.median(values) for key, values in times.items()}
    return {name: {packet: middle[name, packet] - middle["", packet] for packet in frames()} for name in programs}


@contextmanager
def xdp_filter(lab: Lab) -> Iterator[int]:
    """xdp-filter with ipv4, tcp and udp on the server's interface; yields its program."""
    # `ip netns exec` hides the BPF file system, so it gets one of its own; the pins in it end with this one shell.
    mount, load = "mount -t bpf bpf /sys/fs/bpf", f"xdp-filter load -f ipv4,tcp,udp {INTERFACE}"
    lab.run(lab.server, ["sh", "-c", f"{mount} && {load} && xdp-filter ip -m src {_DENIED}"])
    xdp = Links().get(INTERFACE, lab.server).xdp
    assert xdp is not None
    descriptor = kernel.program_by_id(xdp.prog_id)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        _off(lab)


def _off(lab: Lab) -> None:
    for mode in ("xdpdrv", "xdpgeneric"):
        lab.run(lab.server, ["ip", "link", "set", "dev", INTERFACE, mode, "off"], check=False)


def flood(lab: Lab, core: int, seconds: float = 3.0) -> dict[str, float]:
    """One blocked source at full speed, from the given core."""
    line = [sys.executable, str(_FLOOD), "syn", "--source", _DENIED, "--seconds", str(seconds)]
    text = subprocess.check_output(
        [*line, "--netns", lab.outside, "--json"], text=True, preexec_fn=lambda: os.sched_setaffinity(0, {core})
    )
    return dict(json.loads(text))


def _received(lab: Lab) -> int:
    """Packets the server's interface handed to XDP, of whatever verdict."""
    text = lab.run(lab.server, ["ethtool", "-S", INTERFACE]).stdout
    return sum(int(number) for number in re.findall(r"rx_queue_\d+_xdp_packets: (\d+)", text))


def drop_rates(guard: Guard, lab: Lab) -> dict[str, float]:
    """Packets dropped a second on the receiver's core, in millions: median of three, taken in turn."""
    rates: dict[str, list[float]] = {"xdpguard": [], "xdp-filter": []}
    for _ in range(3):
        guard("attach", INTERFACE, "--netns", lab.server)
        core = lab.split_cores()
        before = guard.deny_count()
        sent = flood(lab, core)
        rates["xdpguard"].append((guard.deny_count() - before) / sent["seconds"] / 1e6)
        guard("detach", "--all")
        if shutil.which("xdp-filter"):
            with xdp_filter(lab):
                core = lab.split_cores()
                before = _received(lab)
                sent = flood(lab, core)
                rates["xdp-filter"].append((_received(lab) - before) / sent["seconds"] / 1e6)
    return {name: statistics.median(values) for name, values in rates.items() if values}


def measure(lab: Lab, guard: Guard) -> tuple[list[Limit], dict[str, dict[str, float]], dict[str, float]]:
    """Everything."""
    limits = commands(guard, lab)
    guard("block", _DENIED, "--force")
    # Packets as fast as a test run makes them are a flood: a rate out of reach keeps the SYN guard idle.
    guard("guard", "set", "flood_rate=100000000")
    xdp = Links().get(INTERFACE, lab.server).xdp
    assert xdp is not None
    programs = {"xdpguard": kernel.program_by_id(xdp.prog_id)}
    guard("detach", "--all")
    # The program lives on by its descriptor, with its rule.
    if shutil.which("xdp-filter"):
        with xdp_filter(lab) as other:
            programs["xdp-filter"] = other
            costs = packets(programs)
    else:
        costs = packets(programs)
    os.close(programs["xdpguard"])
    if "xdp-filter" in costs:
        ours, theirs = costs["xdpguard"], costs["xdp-filter"]
        limits += [
            Limit("denied / xdp-filter's drop", ours["denied"] / theirs["denied"], 0.6),
            Limit("ACK passed / xdp-filter's pass", ours["ACK"] / theirs["ACK"], 0.9),
            Limit("SYN passed / xdp-filter's pass", ours["SYN"] / theirs["SYN"], 1.1),
        ]
    rates = drop_rates(guard, lab)
    if "xdp-filter" in rates:
        limits.append(Limit("lab drop rate / xdp-filter's", rates["xdpguard"] / rates["xdp-filter"], 1.0, True))
    return limits, costs, rates


def show(limits: list[Limit], costs: dict[str, dict[str, float]], rates: dict[str, float]) -> None:
    """The tables."""
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    table = Table("figure", "measured", "wanted", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for limit in limits:
        sign = ">=" if limit.at_least else "<="
        wanted = f"{sign} {limit.bound:g} {limit.unit}"
        table.add_row(limit.name, f"{limit.value:.2f} {limit.unit}", wanted, "ok" if limit.held else "not reached")
    console.print(table)
    table = Table("ns above the empty program", *costs, box=box.SIMPLE_HEAD, pad_edge=False)
    for packet in frames():
        table.add_row(packet, *(f"{costs[program][packet]:.0f}" for program in costs))
    console.print(table)
    for name, rate in rates.items():
        console.print(f"{name}: {rate:.2f} M packets/s dropped on one core")


def main() -> int:
    """Measures; with --json prints numbers for machines."""
    parser = argparse.ArgumentParser(prog="costs", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="xdpguard-costs-") as folder, Lab("xgcosts", owner=os.getpid()) as lab:
        guard = Guard(Path(folder))
        try:
            limits, costs, rates = measure(lab, guard)
        finally:
            guard("detach", "--all")
    if given.json:
        figures = {
            limit.name.strip(): {"value": limit.value, "bound": limit.bound, "held": limit.held} for limit in limits
        }
        sys.stdout.write(json.dumps({"figures": figures, "ns": costs, "rates": rates}) + "\n")
    else:
        show(limits, costs, rates)
    return 0


if __name__ == "__main__":
    sys.exit(main())
