# SPDX-License-Identifier: GPL-2.0
"""Every packet of a capture through one program, or through two to compare them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from xdpguard.capture.reader import Capture
from xdpguard.dataplane.build.probe import cut
from xdpguard.dataplane.sys import abi
from xdpguard.explain.subject import Subject
from xdpguard.explain.tally import Batch, Difference, Expectation, Expected, Tally
from xdpguard.net import netns


@dataclass
class Result:
    """What became of the packets: of the program that is judged, and what it changes against the one before it."""

    tally: Tally
    difference: Difference | None
    expectation: Expectation | None
    shortened: int = 0  # packets whose payload was cut
    sent: int = 0  # that the capturing host sent itself
    seconds: float = 0.0
    packets: int = 0
    before: Tally = field(default_factory=Tally)  # of the program it is compared with


def replay(capture: Capture, judged: Subject, before: Subject | None, expected: Expected | None) -> Result:
    """Runs a capture through ``judged``, and through ``before`` to say what changes against it."""
    result = Result(Tally(), Difference() if before else None, Expectation(expected) if expected else None)
    subjects = [judged, *([before] if before else [])]
    begin = time.monotonic()
    with netns.entered(judged.netns):
        numbers: list[int] = []
        lengths: list[int] = []
        there: list[int] = []
        asks = [subject.probe.ask for subject in subjects]
        for number, data, length, sent in capture:
            for ask in asks:
                ask(data, length)
            numbers.append(number)
            lengths.append(length)
            there.append(len(data))
            result.sent += sent
            if len(numbers) == abi.PROBE_BATCH:
                _take(result, subjects, numbers, lengths, there)
        _take(result, subjects, numbers, lengths, there)
    result.seconds = time.monotonic() - begin
    return result


def _take(result: Result, subjects: list[Subject], numbers: list[int], lengths: list[int], there: list[int]) -> None:
    """Adds up what was asked, and empties the lists."""
    own, octets = np.array(there, np.int64), np.array(lengths, np.int64)
    answers = [subject.probe.take() for subject in subjects]
    # What was cut is so for both: it is a matter of the headers.
    batch = Batch(np.array(numbers, np.int64), octets, cut(answers[0], own, octets))
    reasons = result.tally.add(answers[0], batch)
    if result.expectation:
        result.expectation.add(reasons, answers[0], batch)
    if result.difference:
        result.difference.add((result.before.add(answers[1], batch), answers[1]), (reasons, answers[0]), batch)
    result.packets += len(numbers)
    result.shortened += int((own < octets).sum())
    for column in (numbers, lengths, there):
        column.clear()
