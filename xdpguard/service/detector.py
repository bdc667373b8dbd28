# SPDX-License-Identifier: GPL-2.0
"""What a flood is: one interface's samples, a second apart, turned into the lines of the log. No kernel in here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from xdpguard.telemetry.tracking import Tuple

_PROGRESS = 10.0  # seconds between two lines while a flood goes on
_QUIET = 2.0  # seconds it must have been over before that is said: a flood may pause
_REAL = 0.5  # share of cookies that came back from which the SYNs were honest
_ONE = 0.5  # share of the SYNs from which one source stands out


class Sample(NamedTuple):
    """One interface at one moment (seconds, monotonic). Counts since it was attached."""

    at: float
    active: bool
    cause: str
    port: int
    acts: str  # what the guard does with SYNs in a flood, in words
    syns: int
    cookies: int
    valid: int
    bad: int
    strangers: int
    limited: int


class Flood:
    """Follows one interface. ``feed`` gives the lines to log, at most a few a flood."""

    def __init__(self, interface: str) -> None:
        self._name = interface
        self._first: Sample | None = None  # of the running flood
        self._last: Sample | None = None  # the sample before
        self._begun: Sample | None = None  # the first sample in it
        self._said = 0.0
        self._quiet_since = 0.0
        self._judged = False

    @property
    def running(self) -> bool:
        """Whether a flood is going on, or has just paused."""
        return self._first is not None

    def wants_tuples(self) -> bool:
        """Whether the next ``feed`` will judge the flood, for which it needs the tuples tried meanwhile."""
        return self._first is not None and not self._judged

    def feed(self, sample: Sample, tuples: Counter[Tuple] | None = None) -> Iterator[str]:
        """Takes the next sample; yields what is to be said. ``tuples``: SYNs by tuple since the flood began."""
        before, self._last = self._last, sample
        if sample.active:
            self._quiet_since = 0.0
        if self._first is None:
            if sample.active:
                self._first = before or sample
                self._begun = sample
                self._said = sample.at
                self._judged = False
                yield f"{self._name}: a flood begins: {sample.cause}, port {sample.port}; {sample.acts}"
            return
        if not sample.active:
            self._quiet_since = self._quiet_since or sample.at
            if sample.at - self._quiet_since >= _QUIET:
                yield self._end(sample)
                self._first = None
            return
        if not self._judged and tuples is not None:
            self._judged = True
            yield self._judgement(sample, tuples)
        elif before is not None and sample.at - self._said >= _PROGRESS and sample.syns > before.syns:
            self._said = sample.at
            yield f"{self._name}: the flood goes on: {_rate(before, sample)}"

    def _judgement(self, sample: Sample, tuples: Counter[Tuple]) -> str:
        assert self._first is not None
        ports: Counter[int] = Counter()
        sources: Counter[str] = Counter()
        for place, count in tuples.items():
            ports[place.destination_port] += count
            sources[place.source] += count
        port = ports.most_common(1)[0][0] if ports else sample.port
        top = ", ".join(f"{source} ({count:,})" for source, count in sources.most_common(3)) or "none seen"
        verdict = judge(sample.cookies - self._first.cookies, sample.valid - self._first.valid, sources)
        rate = _rate(self._begun or self._first, sample)
        return f"{self._name}: {rate} to port {port}; {verdict}; top sources of a sample: {top}"

    def _end(self, sample: Sample) -> str:
        first = self._first
        assert first is not None
        seconds = self._quiet_since - first.at
        return (
            f"{self._name}: the flood is over after {seconds:.0f} s: {sample.syns - first.syns:,} SYNs,"
            f" {sample.cookies - first.cookies:,} cookies sent, {sample.valid - first.valid:,} came back valid,"
            f" {sample.bad - first.bad:,} not; {sample.strangers - first.strangers:,} segments of no connection and"
            f" {sample.limited - first.limited:,} SYNs over a rate dropped"
        )


def judge(cookies: int, valid: int, sources: Counter[str]) -> str:
    """Whether the sources are real, in words, with what says so."""
    total = sources.total()
    if not cookies:
        return (
            f"no cookie was sent that could tell real sources; {len(sources):,} sources in a sample of {total:,} SYNs"
        )
    share = valid / cookies
    if share >= _REAL:
        return f"a rush of real clients: {share:.0%} of the cookies came back"
    evidence = f"{valid:,} of {cookies:,} cookies came back"
    if total and sources.most_common(1)[0][1] / total >= _ONE:
        return f"one source, or somebody who writes its address: {evidence}"
    return f"spoofed sources: {evidence}, {len(sources):,} sources in a sample of {total:,} SYNs"


def _rate(before: Sample, now: Sample) -> str:
    seconds = max(now.at - before.at, 0.001)
    text = f"{(now.syns - before.syns) / seconds:,.0f} SYN/s"
    strangers = now.strangers - before.strangers
    return text + (f" and {strangers / seconds:,.0f} segments of no connection a second" if strangers else "")
