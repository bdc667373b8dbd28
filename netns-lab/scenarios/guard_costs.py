# SPDX-License-Identifier: GPL-2.0
"""The SYN guard's cost per packet, by BPF_PROG_TEST_RUN above an empty program, with a new source for every packet.

An answered packet is no longer a SYN, so a packet maker in front rewrites each frame; the empty program has it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table
from topology import INTERFACE, OUTSIDE_MAC, SERVER4, SERVER6, SERVER_MAC, Lab

from xdpguard.dataplane.build.cflags import Switches
from xdpguard.dataplane.build.compiler import Compiled
from xdpguard.dataplane.sys import btf, kernel
from xdpguard.dataplane.sys.bpffs import ensure_bpffs
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard, guardpolicy
from xdpguard.dataplane.tables.rules import Tables
from xdpguard.net.netns import entered
from xdpguard.policy.model import Guard

_ROUNDS, _REPEAT = 11, 300_000
# New entries of the tracking tables per run: what the default policy lets each of two CPUs create for that many packets
# of a flood of a million per second. Two runs of a program are more than a second apart.
_NEW_ENTRIES = 1_500
_PORT = 80
_BPFFS = Path("/sys/fs/bpf")
_MAIN = "int xdpguard(struct xdp_md *ctx)"
_WANTED = "if (!XG_LOOPBACK && xg_guard_wanted(packet, counters))"
# Writes the frame, with random bits in the source where `random` is set.
_MAKER = """
static __always_inline int bench_make(struct xdp_md *ctx)
{
	u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + %(size)d > end)
		return 0;
	%(writes)s
	if (%(random)d) {
		*(u32 *)(data + %(source)d) ^= bpf_get_prandom_u32() << 8;
		*(u16 *)(data + %(port)d) ^= bpf_get_prandom_u32();
	}
	return 1;
}

int xdpguard(struct xdp_md *ctx)
{
	return bench_make(ctx) ? %(then)s : XDP_ABORTED;
}
"""


class Case(NamedTuple):
    """A packet and the guard's state towards it. ``bound`` in ns, above the empty program; 0: none."""

    name: str
    flags: str
    mode: str
    port: int = _PORT
    family: int = 4
    random: bool = True
    bound: float = 0.0


CASES = (
    Case("SYN answered with a cookie, listener looked up", "S", "always", bound=400.0),
    Case("SYN answered, IPv6", "S", "always", family=6, bound=400.0),
    Case("SYN counted and passed, guard idle", "S", "auto", bound=150.0),
    Case("SYN counted and passed, IPv6, guard idle", "S", "auto", family=6, bound=150.0),
    Case("SYN to a closed port, over its rate", "S", "always", port=9),
    Case("ACK of nobody dropped, guard active", "A", "always", port=9),
    Case("ACK with a wrong cookie dropped", "A", "always"),
    Case("ACK of one source passed, guard idle", "A", "auto", random=False),
)


def frame(case: Case) -> bytes:
    """Return the frame the maker writes: as long as its answer, so that each run gets a frame of the same length."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether

    below = IP(src="16.1.2.3", dst=SERVER4) if case.family == 4 else IPv6(src="2001:db8::77", dst=SERVER6)
    made = Ether(src=OUTSIDE_MAC, dst=SERVER_MAC) / below / TCP(sport=4000, dport=case.port, flags=case.flags)
    return bytes(made).ljust(60 if case.family == 4 else 78, b"\0")


def _writes(octets: bytes, family: int) -> Iterator[str]:
    """Return stores as wide as the later loads: a load that spans two stores would stall, unlike in a real frame."""
    at = 0
    while at < len(octets):
        size = 2 if at == 0 else 8 if family == 6 and 22 <= at < 54 else 4
        size = min(size, len(octets) - at)
        yield f"*(u{8 * size} *)(data + {at}) = {int.from_bytes(octets[at : at + size], 'little')}ull;"
        at += size


def _edit(case: Case, empty: bool, guarded: bool) -> Callable[[str], str]:
    octets = frame(case)
    text = _MAKER % {
        "size": len(octets),
        "writes": "\n\t".join(_writes(octets, case.family)),
        "random": int(case.random),
        "source": 26 if case.family == 4 else 34,
        "port": 34 if case.family == 4 else 54,
        "then": "XDP_DROP" if empty else "bench_guarded(ctx)",
    }

    def edit(bundle: str) -> str:
        assert _MAIN in bundle
        assert _WANTED in bundle
        if not guarded:
            bundle = bundle.replace(_WANTED, "if (0)")
        return bundle.replace(_MAIN, "static __always_inline int bench_guarded(struct xdp_md *ctx)") + text

    return edit


class Program(NamedTuple):
    """A loaded variant of a case: its name, its frame, and the corresponding empty program."""

    name: str
    case: Case
    fd: int
    empty: int


def measure(lab: Lab) -> dict[str, float]:
    """Return the median cost of each case above the empty program, ns; and of the idle ACK without a guard.

    All are run in turn, so that a busy moment of the machine affects all.
    """
    ensure_bpffs(_BPFFS)
    with ExitStack() as stack, entered(lab.server):
        for name in ("tcp_syncookies", "tcp_timestamps"):
            Path("/proc/sys/net/ipv4", name).write_text("2", encoding="ascii")
        stack.enter_context(socket.create_server(("::", _PORT), family=socket.AF_INET6, dualstack_ipv6=True))
        ifindex = socket.if_nametoindex(INTERFACE)
        programs: list[Program] = []
        for number, case in enumerate(CASES):
            print(f"compiling: {case.name}", file=sys.stderr)
            pins = Pins(_BPFFS, f"bench-{os.getpid()}-{number}")
            stack.callback(pins.remove_all)
            programs += _build(case, pins)
        times: dict[int, list[int]] = {}
        print("measuring", file=sys.stderr)
        for _ in range(_ROUNDS):
            for program in programs:
                for descriptor in (program.empty, program.fd):
                    run = kernel.test_run(descriptor, frame(program.case), _REPEAT, ifindex)
                    times.setdefault(descriptor, []).append(run.duration)
    middle = {descriptor: statistics.median(values) for descriptor, values in times.items()}
    return {program.name: middle[program.fd] - middle[program.empty] for program in programs}


def _build(case: Case, pins: Pins) -> list[Program]:
    pins.prepare("bench", "")
    switches = Switches(
        pins=str(pins.folder),
        link_pins=str(pins.link_folder("bench", "")),
        max_cpus=kernel.present_cpus(),
        max_rules=4096,
        new_sources_per_second=_NEW_ENTRIES,
        new_tuples_per_second=_NEW_ENTRIES,
        btf=btf.switches(),
    )

    def load(empty: bool, guarded: bool) -> int:
        with Compiled(switches, _edit(case, empty, guarded)) as compiled:
            return compiled.load()

    empty = load(True, True)
    found = [Program(case.name, case, load(False, True), empty)]
    if not case.random:
        found.append(Program("  the same, without a guard", case, load(False, False), empty))
    with Tables(pins) as tables:
        tables.seed()
    # An unreachable flood rate keeps an idle guard idle.
    policy = Guard(mode="always" if case.mode == "always" else "auto", flood_rate=100_000_000)
    guardpolicy.write(pins, guardpolicy.encode(policy, True, False))
    guard.settle(pins, "bench", "", policy.mode, guard.Surroundings(bytes.fromhex(SERVER_MAC.replace(":", ""))))
    return found


def main() -> int:
    """Measure; with --json print numbers for machines."""
    parser = argparse.ArgumentParser(prog="guard-costs", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    with Lab("xgguardcosts", owner=os.getpid()) as lab:
        found = measure(lab)
    if given.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    bounds = {case.name: case.bound for case in CASES}
    table = Table("a packet, new source each time", "ns", "wanted", box=box.SIMPLE_HEAD, pad_edge=False)
    for name, cost in found.items():
        bound = bounds.get(name, 0.0)
        table.add_row(name, f"{cost:.0f}", f"<= {bound:.0f}" if bound else "")
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
