# SPDX-License-Identifier: GPL-2.0
"""The program against the oracle: frames without end, under rules of every kind, and whether both say the same."""

from __future__ import annotations

import ctypes
import functools
import os
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from support import oracle
from support.bench import LINK, Bench
from support.mutation import Frames
from support.oracle import Refused, Sound
from support.policies import ALLOWED, BLOCKED, LISTED, PORT, Entry, Policy, Verdict
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.kernel.call import address, issue, prepared
from xdpguard.dataplane.sys.layouts.counts import Counters
from xdpguard.dataplane.tables.classifier import compiled
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.dataplane.tables.filters import FilterTables
from xdpguard.dataplane.tables.index import build
from xdpguard.dataplane.tables.lists import ListMaps
from xdpguard.telemetry import counters, tracking

FRAMES = 1000  # of a round
POLICIES = 10  # of a round: each frame meets all of them
SLOTS = 80  # of hit counters, more than there are rules or filters
DROP, PASS = 1, 2  # enum xdp_action
_LOOKUP, _TEST_RUN = 1, 10  # enum bpf_cmd
_NAMES = {reason.number: reason.name for reason in abi.reasons()}
_NUMBERS = {name: number for number, name in _NAMES.items()}
_DROPPING = {reason.name for reason in abi.reasons() if reason.action == "DROP"}
VARIANTS: dict[str, dict[str, bool]] = {
    "plain": {},
    "observe": {"observe": True},
    "unchecked": {"check_flags": False, "check_source": False},
}


class Difference(Exception):
    """Program and oracle disagree. ``frame``: about this one, if it is about one."""

    def __init__(self, what: str, frame: bytes = b"") -> None:
        super().__init__(f"{what}{': ' + frame.hex() if frame else ''}")
        self.frame = frame


class Asked(NamedTuple):
    """A frame, and what it is."""

    frame: bytes
    found: Sound | Refused


class Runner:
    """Runs the program on frames, and says of each the verdict and the number of its reason."""

    def __init__(self, fd: int, counts: int) -> None:
        """``counts``: the map of counters. To be used on the CPU on which it was made."""
        self._frame = memoryview(bytearray(4096))
        width = abi.COUNTERS.size + 7 & ~7
        self._key, self._value = bytearray(4), bytearray(width * kernel.possible_cpus())
        buffers = [(ctypes.c_char * len(it)).from_buffer(it) for it in (self._frame, self._key, self._value)]
        frame, key, value = map(address, buffers)
        self._run = bytearray(struct.pack("=IIIIQQIIIIQQIII", fd, 0, 0, 0, frame, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0))
        self._look = bytearray(struct.pack("=IIQQQ", counts, 0, key, value, 0))
        self._calls = prepared(_TEST_RUN, self._run), prepared(_LOOKUP, self._look)
        self._answer, self._sizes = struct.Struct("=I"), struct.Struct("=II")
        self._reason_at = min(os.sched_getaffinity(0)) * width + Counters.after.offset

    def run(self, frame: bytes) -> tuple[int, int]:
        """Run the program on a frame of 14 bytes or more: enum xdp_action, number of the reason."""
        length = len(frame)
        self._frame[:length] = frame
        self._sizes.pack_into(self._run, 8, length, 0)
        issue(self._calls[0])
        issue(self._calls[1])
        return self._answer.unpack_from(self._run, 4)[0], self._answer.unpack_from(self._value, self._reason_at)[0]


class Fuzz:
    """The program of a variant, and the oracle. Use as a context manager, on one CPU."""

    def __init__(self, variant: str = "plain", edit: Callable[[str], str] | None = None) -> None:
        """``edit`` changes the program's text, as of `Bench`."""
        switches = VARIANTS[variant]
        self._check, self._observe = switches.get("check_flags", True), switches.get("observe", False)
        no_bound = {"new_sources_per_second": 1 << 30, "new_tuples_per_second": 1 << 30}
        rows = {"sources": 1 << 16, "tuples": 1 << 16}
        self.bench = Bench(f"fuzz-{variant}", edit, fake_clock=True, **switches, **no_bound, **rows)
        self._filters, self._lists = FilterTables(self.bench.pins), ListMaps(self.bench.pins)
        self._counts = kernel.open_pin(str(self.bench.pins.link_folder(*LINK) / "counters"))
        self._runner = Runner(self.bench.fd, self._counts)
        self._generation = 0
        self.shapes: set[str] = set()
        self.reasons: Counter[str] = Counter()

    def __enter__(self) -> Fuzz:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._filters.close()
        self._lists.close()
        os.close(self._counts)
        self.bench.close()

    def round(self, seed: int, corpus: Sequence[bytes] = (), keep: Callable[[bytes], None] = lambda _: None) -> int:
        """Run the packets of a seed; return how many. Raise Difference.

        ``corpus``: frames to begin from; ``keep`` is called with each frame that is built as none before.
        """
        frames, shapes, drawn = Frames(random.Random(seed), corpus), set[str](), []
        for _ in range(FRAMES):
            asked = Asked(frame := frames.draw(), oracle.dissect(frame))
            drawn.append(asked)
            if asked.found.shape not in shapes:
                shapes.add(asked.found.shape)
                frames.learn(frame)
            if asked.found.shape not in self.shapes:
                self.shapes.add(asked.found.shape)
                keep(frame)
        return self.run(drawn, seed)

    def run(self, asked: Sequence[Asked], seed: int) -> int:
        """Run frames under the policies of a seed; return how many packets that were. Raise Difference."""
        self.shapes |= {its.found.shape for its in asked}
        chance, tracked = random.Random(seed), Tracked()
        now = time.time()
        now_ns = int((now + boot_offset()) * 1e9)
        self.bench.reset()
        self.bench.set_clock(now_ns)
        for number in range(POLICIES):
            policy = Policy(chance, now, now_ns, bare=not number)
            try:
                self._put(policy)
                self._compare(policy, asked, tracked)
            except Difference as error:
                error.add_note(f"seed {seed}, policy {number}, in force:\n{policy.describe()}")
                raise
        found = tracking.sources(self.bench.pins)
        _same("sources", {name: (row.packets, row.flags) for name, row in found.items()}, tracked.sources())
        _same("tuples", tracking.tuples(self.bench.pins), tracked.tuples)
        return len(asked) * POLICIES

    def _put(self, policy: Policy) -> None:
        """Put a policy in force in place of the one before."""
        self._generation += 1
        self.bench.tables.sync(policy.rules)
        self.bench.tables.clear_hits(range(SLOTS))
        self._lists.empty()
        if policy.lists:
            index = build(sorted(policy.lists.items()), self._generation)
            self._lists.swap(index.lines, index.nets4, index.nets6, index.wide6)
        self._lists.clear_hits(range(SLOTS))
        self._filters.empty()
        self._filters.clear_hits(range(SLOTS))
        if policy.filters:
            self._filters.replace(*compiled(policy.filters, self._generation))

    def _compare(self, policy: Policy, asked: Sequence[Asked], tracked: Tracked) -> None:
        before, counted = counters.sums(self._counts), Counted()
        run, observe = self._runner.run, self._observe
        for frame, found in asked:
            if isinstance(found, Refused):
                reason = found.reason
            else:
                verdict = policy.judge(frame, found, self._check)
                reason = verdict.reason
                counted.packet(found, verdict, len(frame))
                if reason != "deny":
                    tracked.packet(found)
            dropped = reason in _DROPPING
            counted.reasons[reason, dropped and observe] += 1
            counted.octets[reason, dropped and observe] += len(frame)
            answer = run(frame)
            if answer != (DROP if dropped and not observe else PASS, _NUMBERS[reason]):
                name = _NAMES.get(answer[1], str(answer[1]))
                action = {DROP: "drops", PASS: "passes"}.get(answer[0], f"answers {answer[0]}")
                raise Difference(f"the program {action} it as {name}, the oracle says {reason}", frame)
            self.reasons[reason] += 1
        after = counters.sums(self._counts)
        self._compare_counts(counters.decode([new - old for old, new in zip(before, after, strict=True)]), counted)

    def _compare_counts(self, moved: counters.Counters, counted: Counted) -> None:
        for observed in (False, True):
            packets = {name: its.observed_packets if observed else its.packets for name, its in moved.reasons.items()}
            octets = {name: its.observed_bytes if observed else its.bytes for name, its in moved.reasons.items()}
            _same(f"packets, observed {observed}", packets, _column(counted.reasons, observed))
            _same(f"bytes, observed {observed}", octets, _column(counted.octets, observed))
        _same("protocols", moved.protocols, counted.protocols)
        _same("flag sets", moved.flag_sets, counted.flag_sets)
        _same("what the bound on new entries kept out", {"skipped": moved.sources_skipped + moved.tuples_skipped}, {})
        rules, lists, filters = self.bench.tables.hits(), self._lists.hits(), self._filters.hits()
        for kinds, hits, what in (((ALLOWED, BLOCKED, PORT), rules, "rules"), ((LISTED,), lists, "lists")):
            expected = {number: its for (kind, number), its in counted.entries.items() if kind in kinds}
            _same(f"hits of {what}", {number: tuple(hits(number)) for number in range(SLOTS)}, expected)
        _same("hits of filters", {slot: filters(slot) for slot in range(SLOTS)}, counted.filters)


class Counted:
    """What the counters are to say."""

    def __init__(self) -> None:
        self.reasons: Counter[tuple[str, bool]] = Counter()  # and whether it is only observed
        self.octets: Counter[tuple[str, bool]] = Counter()
        self.protocols: Counter[str] = Counter()
        self.flag_sets: Counter[int] = Counter()
        self.entries: dict[Entry, tuple[int, int]] = {}
        self.filters: dict[int, tuple[int, int, int, int]] = {}

    def packet(self, found: Sound, verdict: Verdict, size: int) -> None:
        """Count a packet with sound headers."""
        self.protocols[found.protocol] += 1
        if found.flags is not None:
            self.flag_sets[found.flags] += 1
        if verdict.entry is not None:
            packets, octets = self.entries.get(verdict.entry, (0, 0))
            self.entries[verdict.entry] = packets + 1, octets + size
        for place in verdict.filters:
            row = self.filters.get(place, (0, 0, 0, 0))
            more = (1, size) if place in verdict.over else (0, 0)
            self.filters[place] = row[0] + 1, row[1] + size, row[2] + more[0], row[3] + more[1]


class Tracked:
    """What the tables of sources and tuples are to hold."""

    def __init__(self) -> None:
        self._flags: Counter[tuple[int, int, int]] = Counter()  # IP version, source, flags
        self.tuples: Counter[tracking.Tuple] = Counter()

    def packet(self, found: Sound) -> None:
        """Count a packet that is not denied."""
        if found.flags is None or found.ports is None:
            return
        self._flags[found.version, found.source, found.flags] += 1
        if found.flags & 0x12 == 0x02:
            source, destination = (_text(found.version, it) for it in (found.source, found.destination))
            self.tuples[tracking.Tuple(source, destination, *found.ports)] += 1

    def sources(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Segments of each source, and how many of them had each flag."""
        made: dict[str, list[int]] = {}
        for (version, source, flags), count in self._flags.items():
            row = made.setdefault(_text(version, source), [0] * 9)
            row[0] += count
            for bit in range(8):
                row[bit + 1] += count * (flags >> bit & 1)
        return {name: (row[0], tuple(row[1:])) for name, row in made.items()}


@functools.cache
def _text(version: int, number: int) -> str:
    family, size = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)
    return socket.inet_ntop(family, number.to_bytes(size, "big"))


def _column(counts: Mapping[tuple[str, bool], int], observed: bool) -> dict[str, int]:
    return {name: count for (name, its), count in counts.items() if its == observed}


def _same(what: str, found: Mapping[Any, Any], expected: Mapping[Any, Any]) -> None:
    """Raise Difference unless both say the same. What is zero may be missing."""
    for key in {*found, *expected}:
        one, other = found.get(key), expected.get(key)
        if one != other and (_some(one) or _some(other)):
            raise Difference(f"{what}: the program has {one} of {key}, the oracle {other}")


def _some(value: Any) -> bool:
    return any(value) if isinstance(value, tuple) else bool(value)
