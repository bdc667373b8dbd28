# SPDX-License-Identifier: GPL-2.0
"""Every packet of a capture through one program, or through two to compare them.

Limits of filters go by the times of the capture, from full buckets on.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from xdpguard.capture.direction import How
from xdpguard.capture.reader import Capture
from xdpguard.dataplane.build.probe import cut
from xdpguard.dataplane.sys import abi
from xdpguard.explain.subject import Subject
from xdpguard.explain.tally import Batch, Difference, Expectation, Expected, Tally
from xdpguard.net import netns

_LONGEST = 1 << 58  # ns that a capture may last as far as limits are concerned: nine years


@dataclass
class Result:
    """The outcome of the packets under the judged program, and what it changes from the one it is compared with."""

    tally: Tally
    difference: Difference | None
    expectation: Expectation | None
    shortened: int = 0  # packets that the capture holds only in part
    # Packets that the capturing host sent itself, by how that is known
    every: bool = False  # these were run too, as if they came in
    sent: Counter[How] = field(default_factory=Counter)
    seconds: float = 0.0
    packets: int = 0
    before: Tally = field(default_factory=Tally)  # under the program it is compared with


def replay(capture: Capture, judged: Subject, before: Subject | None, expected: Expected | None, every: bool) -> Result:
    """Run a capture through ``judged``, and through ``before`` to tell what changes from it.

    ``every``: outgoing packets too, as if they came in.
    """
    result = Result(Tally(), Difference() if before else None, Expectation(expected) if expected else None, every=every)
    subjects = [judged, *([before] if before else [])]
    begin = time.monotonic()
    with netns.entered(judged.netns):
        numbers: list[int] = []
        lengths: list[int] = []
        there: list[int] = []
        asks = [subject.probe.ask for subject in subjects]
        clock, first = 1, 0
        for number, data, length, sent, at in capture:
            if sent:
                result.sent[sent] += 1
                if not every:
                    continue
            first = first or at
            clock = max(clock, min(at - first + 1, _LONGEST))
            for subject in subjects:
                subject.probe.set_clock(clock)
            for ask in asks:
                ask(data, length)
            numbers.append(number)
            lengths.append(length)
            there.append(len(data))
            if len(numbers) == abi.PROBE_BATCH:
                _take(result, subjects, numbers, lengths, there)
        _take(result, subjects, numbers, lengths, there)
    for subject, tally in zip(subjects, (result.tally, result.before), strict=False):
        tally.name_filters(subject.ruleset.filters.alive(), subject.probe.matched())
    if result.difference:
        result.difference.slots = result.before.slots, result.tally.slots
    result.seconds = time.monotonic() - begin
    return result


def _take(result: Result, subjects: list[Subject], numbers: list[int], lengths: list[int], there: list[int]) -> None:
    """Tally the answers of a batch, and empty its lists."""
    held, full = np.array(there, np.int64), np.array(lengths, np.int64)
    answers = [subject.probe.take() for subject in subjects]
    # What was cut too early is so for both programs: it depends on the headers only.
    batch = Batch(np.array(numbers, np.int64), full, cut(answers[0], held, full))
    reasons = result.tally.add(answers[0], batch)
    if result.expectation:
        result.expectation.add(reasons, answers[0], batch)
    if result.difference:
        result.difference.add((result.before.add(answers[1], batch), answers[1]), (reasons, answers[0]), batch)
    result.packets += len(numbers)
    result.shortened += int((held < full).sum())
    for column in (numbers, lengths, there):
        column.clear()
