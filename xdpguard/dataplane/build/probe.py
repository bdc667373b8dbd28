# SPDX-License-Identifier: GPL-2.0
"""The program as a probe (bpf/probe/probe.h): what it would do with frames that never came.

It is compiled like the one that is attached, reads the same pinned maps and writes to none of them.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xdpguard.closeable import Closeable, opened
from xdpguard.dataplane.build.cache import Cache
from xdpguard.dataplane.build.cflags import Switches
from xdpguard.dataplane.build.compiler import Compiled
from xdpguard.dataplane.build.program import Target, switches
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.layouts.arrays import dtype
from xdpguard.dataplane.sys.layouts.counts import ProbeAnswer, ProbeState
from xdpguard.dataplane.sys.names import PROGRAMS_MAP
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.guard import ALWAYS, State
from xdpguard.policy.filter import FilterHits
from xdpguard.policy.model import Limits, Policy

SHORTEST = 14  # octets of the shortest frame: an Ethernet header
VERDICTS = ("", "DROP", "PASS", "TX")  # enum xdp_action
RULE, LIST, FILTER = 1, 2, 3  # enum xg_probe_entry
MALFORMED = 3  # its number in reasons.def
LONGEST = kernel.Runner.LONGEST

ANSWER = dtype(ProbeAnswer)
Answers = NDArray[np.void]

_KEY = bytes(4)
# Maps that are asked and told; and the kernel empties a map of programs that nobody in user space holds any more.
_OWN = ("probe_state", "probe_answers", "probe_filters", "guards", PROGRAMS_MAP)


class Probe(Closeable):
    """A loaded probe. Use as a context manager; nothing of it stays.

    Frames that come from an interface are to be asked about in that interface's network namespace.
    """

    def __init__(self, chosen: Switches, pins: Pins, link: tuple[str, str], cache: Path, ifindex: int = 0) -> None:
        """``chosen`` and ``pins`` are those of the interface ``link`` (name, namespace), ``cache`` is the folder of
        programs compiled before, and ``ifindex`` the interface the frames seem to come from; 0: none in particular.
        """
        self._maps: dict[str, int] = {}
        self.program = -1
        chosen, kept = replace(chosen, probe=True), Cache(cache)
        found = kept.load(chosen, pins, link, _OWN)
        if found:
            self.program, self._maps = found
        else:
            self._compile(chosen, pins, link, kept)
        self._runner = kernel.Runner(self.program, ifindex)
        self._asked = ProbeState.from_buffer(self._mapped("probe_state", abi.PROBE_STATE.size))
        self._answers = np.frombuffer(
            self._mapped("probe_answers", abi.PROBE_BATCH * ANSWER.itemsize), ANSWER, abi.PROBE_BATCH
        )
        self._filters = self._mapped("probe_filters", abi.FILTER_SLOTS * abi.FILTER_HITS.size)
        self._begin(None)

    def _compile(self, chosen: Switches, pins: Pins, link: tuple[str, str], kept: Cache) -> None:
        with Compiled(chosen) as compiled:
            try:
                self._maps = {name: os.dup(compiled.map_fd(name)) for name in _OWN}
                self.program = compiled.load()
            except BaseException:
                self.close()
                raise
            kept.keep(chosen, pins, link, compiled)

    def close(self) -> None:
        """Free the program and its maps."""
        for descriptor in self._maps.values():
            os.close(descriptor)
        self._maps.clear()
        if self.program >= 0:
            os.close(self.program)
            self.program = -1

    def set_guard(self, state: State) -> None:
        """Give it a guard as that of an interface is now, and as it stays: no flood begins or ends while it works."""
        until = state.until if state.until == ALWAYS else ALWAYS - 1 if state.until > time.monotonic_ns() else 0
        kernel.update(self._maps["guards"], _KEY, abi.GUARD.pack(*state._replace(until=until)))

    def ask(self, frame: bytes | memoryview, length: int) -> None:
        """Ask about a frame of at least SHORTEST octets, or about what there is of one that had ``length`` octets.

        The answers are to be taken before there are more than abi.PROBE_BATCH of them.
        """
        if len(frame) > LONGEST:
            frame = frame[:LONGEST]
        if len(frame) == length:
            self._runner.run(frame)
            return
        self._asked.length = length
        self._runner.run(frame)
        self._asked.length = 0

    def set_clock(self, at: int) -> None:
        """Let the limits of filters count from here on, in buckets of the probe's own, as if it were ``at`` (ns): 1 to
        1 << 59, and not less than before.

        Otherwise they say what those in force would do, and take nothing from them.
        """
        self._asked.clock = at

    def matched(self) -> dict[int, FilterHits]:
        """Return what each filter has matched since the last `ask_one`, by slot; only those that matched anything."""
        rows = (
            (slot, FilterHits(*abi.FILTER_HITS.unpack_from(self._filters, slot * abi.FILTER_HITS.size)))
            for slot in range(abi.FILTER_SLOTS)
        )
        return {slot: hits for slot, hits in rows if hits.packets}

    def take(self) -> Answers:
        """Return the answers, in the order of asking, which then begin anew."""
        found = self._answers[: self._asked.place].copy()
        self._begin(None)
        return found

    def ask_one(self, frame: bytes, length: int, without: tuple[int, int] | None = None) -> Answers:
        """Return the answer for one frame; ``without``: RULE or FILTER and a slot, or LIST and a number, to be left
        out.
        """
        self._begin(without)
        self._filters[:] = bytes(len(self._filters))
        self.ask(frame, length)
        return self.take()

    def _begin(self, without: tuple[int, int] | None) -> None:
        # The program writes only what it comes to know of a frame.
        self._answers[:] = np.zeros((), ANSWER)
        self._asked.place = self._asked.length = 0
        self._asked.without, self._asked.number = without or (0, 0)

    def _mapped(self, name: str, size: int) -> mmap.mmap:
        return mmap.mmap(self._maps[name], -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)


def of_instance(pins: Pins, target: Target, policy: Policy, cache: Path, ifindex: int) -> Probe:
    """Return a probe that reads an instance's own maps, of whatever sizes. The maps must exist."""
    before = pins.names()
    try:
        sized = _sized(pins, policy)
        return Probe(switches(pins, target, sized), pins, (target.name, target.netns), cache, ifindex)
    except BaseException:
        pins.remove(pins.names() - before)
        raise


def _sized(pins: Pins, policy: Policy) -> Policy:
    limits = Limits(
        rules=_entries(pins, "deny4", abi.ADDRESS4.size, abi.RULE.size),
        sources=_entries(pins, "sources4", abi.SOURCE4.size, abi.SOURCE_COUNTS.size),
        tuples=_entries(pins, "tuples4", abi.TUPLE_KEY.size, abi.TUPLE4.size),
    )
    return Policy(limits, policy.sanity, policy.rules, policy.guard, policy.lists)


def _entries(pins: Pins, name: str, key: int, value: int) -> int:
    with opened(pins.open(name, key, value)) as descriptor:
        return kernel.map_info(descriptor).max_entries


def cut(answers: Answers, linear: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which frames were cut too early to be judged: within their headers."""
    found: NDArray[np.bool_] = (answers["reason"] == MALFORMED) & (np.minimum(linear, LONGEST) < lengths)
    return found
