# SPDX-License-Identifier: GPL-2.0
"""The data plane on a bench: packets in by BPF_PROG_TEST_RUN, out come the verdict and the counters that moved."""

from __future__ import annotations

import operator
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from xdpguard.dataplane.build.cache import Cache
from xdpguard.dataplane.build.cflags import Switches
from xdpguard.dataplane.build.compiler import Compiled
from xdpguard.dataplane.sys import abi, btf, kernel
from xdpguard.dataplane.sys.bpffs import ensure_bpffs
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guardpolicy
from xdpguard.dataplane.tables.rules import Tables
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Kind, Port, Prefix, parse_ports, parse_prefix
from xdpguard.telemetry import counters
from xdpguard.telemetry.counters import Counters, ReasonCounts

BPFFS = Path("/sys/fs/bpf")
FLIGHTS = 4096  # XG_FLIGHTS of bpf/maps.h
LINK = ("bench", "")  # its interface, which there is not
KEPT = Path(sys.prefix) / "compiled-benches"  # not with those of commands: such a folder holds only so many
VERDICTS = {0: "ABORTED", 1: "DROP", 2: "PASS", 3: "TX"}


@contextmanager
def one_cpu() -> Iterator[None]:
    """Keeps to one CPU: what the program remembers, samples and counts down, it does on each CPU for itself."""
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)


class Answer(NamedTuple):
    """What became of one packet. ``observed``: it was counted in that column; flags is its flag octet, if counted."""

    verdict: str
    reason: str
    protocol: str | None
    flags: int | None
    octets: int
    observed: bool


class Bench:
    """One loaded program with maps of its own. Close it."""

    def __init__(self, name: str, edit: Callable[[str], str] | None = None, **switches: int | bool) -> None:
        """``edit`` changes the program's text; without it, what was compiled before is not compiled again."""
        ensure_bpffs(BPFFS)
        self.pins = Pins(BPFFS, f"bench-{os.getpid()}-{name}")
        self.pins.prepare("bench", "")
        base = Switches(
            pins=str(self.pins.folder),
            link_pins=str(self.pins.link_folder("bench", "")),
            max_cpus=kernel.present_cpus(),
            max_rules=4096,
            sources=4096,
            tuples=4096,
            btf=btf.switches(),
        )
        self.switches = replace(base, **switches)  # type: ignore[arg-type]
        try:
            self.fd = self._load(edit)
            self.tables = Tables(self.pins)
            self.tables.seed()
        except BaseException:
            self.pins.remove_all()
            raise
        self._rules: list[Rule] = []
        self._counters = kernel.open_pin(str(self.pins.link_folder(*LINK) / "counters"))
        self._cpus = kernel.possible_cpus()

    def _load(self, edit: Callable[[str], str] | None) -> int:
        if edit is not None:
            with Compiled(self.switches, edit) as compiled:
                return compiled.load()
        cache = Cache(KEPT)
        found = cache.load(self.switches, self.pins, LINK)
        if found is not None:
            return found[0]
        with Compiled(self.switches) as compiled:
            program = compiled.load()
            cache.keep(self.switches, self.pins, LINK, compiled)
        return program

    def close(self) -> None:
        """Frees everything."""
        self.tables.close()
        os.close(self._counters)
        os.close(self.fd)
        self.pins.remove_all()

    def reset(self) -> None:
        """No rules, no counts."""
        self._rules = []
        self.tables.sync([])
        self.tables.clear_hits(range(64))
        self._clear("counters", (abi.COUNTERS.size + 7 & ~7) * kernel.possible_cpus())
        self._clear("guard", abi.GUARD.size)
        self._clear("flights", abi.FLIGHT.size * kernel.possible_cpus(), FLIGHTS)
        guardpolicy.write(self.pins, bytes(abi.GUARD_POLICY.size))
        for name, key, value in (
            ("sources4", abi.SOURCE4, abi.SOURCE_COUNTS),
            ("sources6", abi.SOURCE6, abi.SOURCE_COUNTS),
            ("tuples4", abi.TUPLE_KEY, abi.TUPLE4),
            ("tuples6", abi.TUPLE_KEY, abi.TUPLE6),
        ):
            descriptor = self.pins.open(name, key.size, value.size)
            keys, _, count = kernel.entries(descriptor, key.size, value.size)
            for i in range(count):
                kernel.delete(descriptor, keys[i * key.size : (i + 1) * key.size])
            os.close(descriptor)

    def _clear(self, name: str, size: int, places: int = 1) -> None:
        descriptor = kernel.open_pin(str(self.pins.link_folder("bench", "") / name))
        keys = b"".join(place.to_bytes(4, "little") for place in range(places))
        kernel.update_batch(descriptor, keys, bytes(size * places), places)
        os.close(descriptor)

    def rule(self, kind: Kind, text: str, expires: float | None = None, source: str = "test") -> Rule:
        """Puts a rule in force; returns it."""
        target: Prefix | Port = parse_ports(text)[0] if kind == "port" else parse_prefix(text)[0]
        found = Rule(len(self._rules) + 1, kind, target, "", source, 0.0, expires, len(self._rules), 0, 0)
        self._rules.append(found)
        self.tables.add([found])
        return found

    def remove(self, rule: Rule) -> None:
        """Takes a rule out again."""
        self._rules.remove(rule)
        self.tables.remove([rule], self._touched, lambda: self._rules)

    def _touched(self, net: Prefix) -> bool:
        blocks = [rule.target for rule in self._rules if rule.kind == "block" and isinstance(rule.target, Prefix)]
        return any(target.covers(net) or net.covers(target) for target in blocks)

    def hits(self, rule: Rule) -> tuple[int, int]:
        """Packets and octets of a rule."""
        return tuple(self.tables.hits()(rule.slot))  # type: ignore[return-value]

    def counters(self) -> Counters:
        """The interface's counters."""
        return counters.read(self.pins, "bench", "")

    def set_clock(self, now: int) -> None:
        """Sets the fake clock, ns."""
        descriptor = self.pins.open("fake_clock", 4, 8)
        kernel.update(descriptor, bytes(4), now.to_bytes(8, "little"))
        os.close(descriptor)

    def send(self, frame: bytes, times: int = 1) -> Answer:
        """Runs one frame through the program, and says which counters moved: exactly one reason, always."""
        with self.counted(times) as answer:
            run = kernel.test_run(self.fd, frame, times)
        return answer(run)

    @contextmanager
    def counted(self, times: int = 1) -> Iterator[Callable[[kernel.TestRun], Answer]]:
        """Around a run of one frame: what is yielded says afterwards what became of it, by the counters that moved."""
        before = self._raw()
        moved: list[int] = [0] * len(before[0])
        yield lambda run: _answer(counters.decode(moved), VERDICTS[run.verdict], times)
        for old, new in zip(before, self._raw(), strict=True):
            if old != new:
                moved[:] = map(operator.add, moved, map(operator.sub, new, old))

    def _raw(self) -> list[tuple[int, ...]]:
        """The numbers of struct xg_counters, of each CPU."""
        width = abi.COUNTERS.size + 7 & ~7
        raw = kernel.lookup(self._counters, bytes(4), width * self._cpus)
        assert raw is not None
        return [abi.COUNTERS.unpack_from(raw, width * cpu) for cpu in range(self._cpus)]

    def send_all(self, frames: Iterable[bytes]) -> None:
        """Runs frames through the program, one after the other."""
        for frame in frames:
            kernel.test_run(self.fd, frame)


def _answer(moved: Counters, verdict: str, times: int) -> Answer:
    """What so many packets have moved: exactly one reason."""
    names = [name for name, count in moved.reasons.items() if count != ReasonCounts()]
    assert len(names) == 1, f"one reason should count a packet, moved: {names}"
    assert moved.packets == times
    protocols = [name for name, count in moved.protocols.items() if count]
    assert len(protocols) <= 1
    assert len(moved.flag_sets) <= 1
    return Answer(
        verdict,
        names[0],
        protocols[0] if protocols else None,
        next(iter(moved.flag_sets), None),
        moved.bytes // times,
        moved.reasons[names[0]].observed_packets > 0,
    )


Factory = Callable[..., Bench]
