# SPDX-License-Identifier: GPL-2.0
"""Turn one interface's samples, a second apart, into the log lines of a flood. Makes no access to the kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from xdpguard.telemetry.tracking import Tuple
from xdpguard.units import counted

_PROGRESS = 10.0  # seconds between two lines while a flood lasts
_QUIET = 2.0  # seconds without flood after which it is over: a flood may pause
_REAL = 0.5  # share of returned cookies from which the SYNs count as real
_ONE = 0.5  # share of the SYNs from which one source counts as the only one


class Sample(NamedTuple):
    """The flood statistics of one interface at one moment (``at``: monotonic, s), counted since it was attached."""

    at: float
    active: bool
    cause: str
    port: int
    acts: str  # what the guard does with SYNs in a flood, as text
    syns: int
    cookies: int
    valid: int
    bad: int
    unmatched: int  # segments of no connection
    limited: int


class Flood:
    """Follows the floods of one interface. `feed` yields the lines to log, a few for each flood."""

    def __init__(self, interface: str) -> None:
        self._name = interface
        self._first: Sample | None = None  # the last sample before the running flood
        self._last: Sample | None = None  # the previous sample
        self._begun: Sample | None = None  # the first sample of the flood
        self._said = 0.0
        self._quiet_since = 0.0
        self._judged = False

    @property
    def running(self) -> bool:
        """Whether a flood is going on, or paused a moment ago."""
        return self._first is not None

    def wants_tuples(self) -> bool:
        """Return whether the flood is not assessed yet: `feed` does it, given the tuples counted meanwhile."""
        return self._first is not None and not self._judged

    def feed(self, sample: Sample, tuples: Counter[Tuple] | None = None) -> Iterator[str]:
        """Process the next sample and yield the lines to log. ``tuples``: SYNs by tuple since the flood began."""
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
            yield f"{self._name}: the flood continues: {_rate(before, sample)}"

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
            f"{self._name}: the flood is over after {seconds:.0f} s: {counted(sample.syns - first.syns, 'SYN')},"
            f" {counted(sample.cookies - first.cookies, 'cookie')} sent,"
            f" {sample.valid - first.valid:,} came back valid, {sample.bad - first.bad:,} not;"
            f" {counted(sample.unmatched - first.unmatched, 'segment')} of no connection"
            f" and {counted(sample.limited - first.limited, 'SYN')} over a rate limit dropped"
        )


def judge(cookies: int, valid: int, sources: Counter[str]) -> str:
    """Return whether the sources are real, as text with the evidence."""
    total = sources.total()
    seen = f"{counted(len(sources), 'source')} in a sample of {counted(total, 'SYN')}"
    if not cookies:
        return f"no cookies were sent that could identify real sources; {seen}"
    share = valid / cookies
    if share >= _REAL:
        return f"a rush of real clients: {share:.0%} of the cookies came back"
    evidence = f"{valid:,} of {counted(cookies, 'cookie')} came back"
    if total and sources.most_common(1)[0][1] / total >= _ONE:
        return f"one source, or somebody who spoofs its address: {evidence}"
    return f"spoofed sources: {evidence}, {seen}"


def _rate(before: Sample, now: Sample) -> str:
    seconds = max(now.at - before.at, 0.001)
    text = f"{(now.syns - before.syns) / seconds:,.0f} SYN/s"
    unmatched = now.unmatched - before.unmatched
    unknown = counted(round(unmatched / seconds), "segment")
    return text + (f" and {unknown} of no connection a second" if unmatched else "")
