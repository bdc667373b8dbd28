# SPDX-License-Identifier: GPL-2.0
"""Limits of filters: rates and bursts on a clock of the test's own, who shares them, and what a flood takes."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from support.bench import Bench, one_cpu

from xdpguard.control.filter_set import FilterSet
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.tables.classifier import ClassifierFilter, compiled
from xdpguard.dataplane.tables.filters import FilterTables
from xdpguard.policy.limit import Limit, parse_limit
from xdpguard.policy.matching.model import Match

DROP, PASS = 1, 2
SECOND = 1_000_000_000
HOME = 0xC6336407  # 198.51.100.7
NEIGHBOUR, FAR = HOME + 1, HOME + (1 << 20)


def frame(source: int = HOME, length: int = 100, port: int = 53, version: int = 4) -> bytes:
    """A UDP packet of so many bytes, the Ethernet header included."""
    head = 14 + (20 if version == 4 else 40)
    body = struct.pack("!HHHH", 4000, port, length - head, 0).ljust(length - head, b"x")
    ether = bytes.fromhex("020000000001020000000002") + (b"\x08\x00" if version == 4 else b"\x86\xdd")
    if version == 6:
        return ether + struct.pack("!IHBB", 6 << 28, len(body), 17, 64) + source.to_bytes(16, "big") + bytes(16) + body
    return ether + struct.pack("!BBHHHBBHII", 0x45, 0, len(body) + 20, 7, 0, 64, 17, 0, source, 1) + body


class Limited:
    """A bench with one limit, and a clock."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.tables = FilterTables(bench.pins)
        self.now, self._rest = 1000 * SECOND, 0.0

    def limit(self, *limits: Limit | str, shadow: bool = False) -> None:
        """Put limits in force whose buckets are full."""
        self.now += 100_000 * SECOND
        self.bench.set_clock(self.now)
        chosen = [parse_limit(it) if isinstance(it, str) else it for it in limits]
        mode = "shadow" if shadow else "enforce"
        self.tables.clear_hits(range(len(chosen)))
        filters = [ClassifierFilter(Match(), "limit", mode, 0, slot, it) for slot, it in enumerate(chosen)]  # type: ignore[arg-type]
        self.tables.replace(*compiled(filters, self.now))

    def passes(self, data: bytes, times: int = 1) -> int:
        """How many of so many packets at this moment pass."""
        return sum(kernel.test_run(self.bench.fd, data).verdict == PASS for _ in range(times))

    def wait(self, nanoseconds: float) -> None:
        self._rest += nanoseconds  # a step may be no whole number
        self.now, self._rest = self.now + int(self._rest), self._rest % 1
        self.bench.set_clock(self.now)


@pytest.fixture(scope="module")
def limited() -> Iterator[Limited]:
    made = Limited(Bench("limited", fake_clock=True))
    yield made
    made.tables.close()
    made.bench.close()


@pytest.mark.parametrize("per", ["filter", "source", "source+port", "source/24"])
@pytest.mark.parametrize("version", [4, 6])
def test_packets_in_a_burst_and_after_it(limited: Limited, per: str, version: int) -> None:
    limited.limit(parse_limit("100/s", "20", per))
    data = frame(version=version)
    assert limited.passes(data, 30) == 20
    limited.wait(SECOND / 100 - 1)
    assert limited.passes(data) == 0
    limited.wait(1)
    assert limited.passes(data, 2) == 1
    limited.wait(SECOND / 10)
    assert limited.passes(data, 20) == 10
    limited.wait(3600 * SECOND)
    assert limited.passes(data, 30) == 20
    hits = limited.tables.hits()(0)
    assert hits == (83, 8300, 32, 3200)


@pytest.mark.parametrize("rate", ["1/d", "1/h", "7/m", "1/s", "333/s", "1000000/s", "10000000/s"])
@pytest.mark.parametrize("per", ["filter", "source"])
def test_rates_of_all_sizes_are_kept(limited: Limited, rate: str, per: str) -> None:
    """Twice the rate is offered for as long as 1,000 packets take: as many and the burst pass, within 1 %."""
    its = parse_limit(rate, "5", per)
    limited.limit(its)
    step = SECOND * its.seconds / its.amount / 2
    data, passed = frame(), 0
    for _ in range(2000):
        passed += limited.passes(data)
        limited.wait(step)
    assert passed == pytest.approx(1000 + 5, rel=0.01)


@pytest.mark.parametrize("rate", ["8kbit/s", "10mbit/s", "1gbit/s", "100gbit/s"])
@pytest.mark.parametrize("per", ["filter", "source"])
@pytest.mark.parametrize("length", [60, 1514])
def test_bits(limited: Limited, rate: str, per: str, length: int) -> None:
    its = parse_limit(rate, "10kbyte", per)
    limited.limit(its)
    data = frame(length=length)
    assert limited.passes(data, 10_240 // length + 20) == pytest.approx(10_000 // length, rel=0.015)
    step = SECOND * length * 8 / its.amount / 2
    passed = 0
    for _ in range(600):
        limited.wait(step)
        passed += limited.passes(data)
    assert passed == pytest.approx(300, rel=0.03)


@pytest.mark.parametrize(
    ("per", "same", "others"),
    [
        ("filter", [(HOME, 53), (NEIGHBOUR, 53), (FAR, 54)], []),
        ("source/24", [(HOME, 53), (NEIGHBOUR, 53), (HOME, 54)], [(FAR, 53)]),
        ("source", [(HOME, 53), (HOME, 54)], [(NEIGHBOUR, 53), (FAR, 53)]),
        ("source+port", [(HOME, 53)], [(HOME, 54), (NEIGHBOUR, 53)]),
    ],
)
def test_who_shares_a_limit(
    limited: Limited, per: str, same: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    limited.limit(parse_limit("1/s", "6", per))
    assert sum(limited.passes(frame(source, port=port), 9) for source, port in same) == 6
    for source, port in others:
        assert limited.passes(frame(source, port=port), 9) == 6


def test_ipv6_sources_are_prefixes_of_64_bits(limited: Limited) -> None:
    limited.limit(parse_limit("1/s", "5", "source"))
    home = 0x20010DB8 << 96
    assert limited.passes(frame(home + 1, version=6), 5) == 5
    assert limited.passes(frame(home + (1 << 63), version=6)) == 0
    assert limited.passes(frame(home + (1 << 64), version=6), 9) == 5


def test_limits_one_after_the_other_and_in_shadow(limited: Limited) -> None:
    limited.limit("10/s", parse_limit("5/s", "6", "source"))
    assert limited.passes(frame(), 20) == 6
    hits = limited.tables.hits()
    assert (hits(0)[2], hits(1)[2]) == (10, 4)
    limited.limit(parse_limit("5/s", "6"), shadow=True)
    assert limited.passes(frame(), 20) == 20
    assert limited.tables.hits()(0) == (20, 2000, 14, 1400)


def test_a_spoofed_flood_takes_nothing_from_a_source_that_stays(limited: Limited) -> None:
    """300,000 sources, a packet each within 3 s; one sends at 90 % of its limit, one at five times."""
    its = parse_limit("100/s", "10", "source")
    limited.limit(its)
    honest, greedy = frame(0x0A000001), frame(0x0A000002)
    passed, sent, of_greedy, spoofed, dropped = 0, 0, 0, 0, 0
    data = bytearray(frame())
    with one_cpu():
        runner = kernel.Runner(limited.bench.fd)
        before = limited.tables.hits()(0)
        for turn in range(2700):
            limited.wait(3 * SECOND / 2700)
            if turn % 10 == 0:
                sent, passed = sent + 1, passed + limited.passes(honest)
            of_greedy += limited.passes(greedy)
            if turn % 2 == 0:
                of_greedy += limited.passes(greedy, 1)
            for number in range(111):
                struct.pack_into("!I", data, 26, 0x20000000 + (spoofed + number) * 2654435761 % (1 << 29))
                runner.run(bytes(data))
            spoofed += 111
        dropped = limited.tables.hits()(0)[2] - before[2]
    assert spoofed == 299_700
    assert passed == sent == 270
    assert of_greedy == pytest.approx(310, abs=20)
    of_flood = dropped - (2700 + 1350 - of_greedy)
    assert of_flood <= 5, "sources that come once are not limited"


def test_a_limit_by_source_goes_on_while_others_come_and_go(limited: Limited) -> None:
    def limits(*slots: int) -> list[ClassifierFilter]:
        its = parse_limit("1/h", "5", "source")
        return [ClassifierFilter(Match(), "limit", "enforce", 0, slot, its) for slot in slots]

    sources = [frame(HOME + number) for number in range(50)]
    with FilterSet(limited.bench.pins) as tables:
        limited.wait(100_000 * SECOND)
        tables.put(limits(7), 1)
        assert [limited.passes(it, 6) for it in sources] == [5] * 50
        for generation, slots in enumerate([(3, 7), (3, 7, 8, 9), (9, 7), (7,), (1, 2, 7)]):
            tables.put(limits(*slots), 2 + generation)
            before = tables.hits()(7)[2]
            assert [limited.passes(it) for it in sources] == [0] * 50
            assert tables.hits()(7)[2] - before == 50, "it is the limit that went on which drops them"
        assert limited.passes(frame(FAR), 9) == 5, "positive control"
        tables.empty()


@pytest.mark.parametrize("per", ["filter", "source"])
def test_what_another_cpu_takes_meanwhile_is_not_lost(per: str) -> None:
    """A packet of 999 bytes finds a full bucket, which another CPU empties before that is written."""
    reads = {"filter": "due = *(volatile u64 *)arrival;", "source": "before = *(volatile u64 *)word;"}[per]
    end = "now + filter->burst"
    taken = {
        "filter": f"*(volatile u64 *)arrival = {end};",
        "source": f"*(volatile u64 *)word = tag << XG_TIME_BITS | (({end}) & XG_TIME_MASK);",
    }[per]

    def edit(text: str) -> str:
        assert text.count(reads) == 1
        return (
            text.replace(reads, f"{reads} if (packet->length == 999) {taken}")
            .replace(
                "xg_limit_shared(const struct xg_filter *filter, u64 now",
                "xg_limit_shared(const struct xg_filtering *packet, const struct xg_filter *filter, u64 now",
            )
            .replace("xg_limit_shared(filter, now", "xg_limit_shared(packet, filter, now")
        )

    bench = Bench(f"delayed{per}", edit, fake_clock=True)
    its = Limited(bench)
    try:
        its.limit(parse_limit("100/s", "20", per))
        assert its.passes(frame(length=999)) == 1
        assert its.passes(frame(), 20) == 0
        its.limit(parse_limit("100/s", "20", per))
        assert its.passes(frame(length=998)) == 1
        assert its.passes(frame(), 20) == 19, "positive control"
    finally:
        its.tables.close()
        bench.close()


def test_two_cpus_share_a_limit() -> None:
    """On the real clock: threads on two CPUs offer more than the limit; what passes is the limit."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("needs two CPUs")
    bench = Bench("twocpus")
    tables = FilterTables(bench.pins)
    try:
        for per in ("filter", "source"):
            limit = parse_limit("2000/s", "2000", per)
            tables.clear_hits([0])
            tables.replace(*compiled([ClassifierFilter(Match(), "limit", "enforce", 0, 0, limit)], 1))
            end = time.monotonic() + 1.5
            began = time.monotonic()

            def offer(cpu: int) -> None:
                os.sched_setaffinity(0, {cpu})
                while time.monotonic() < end:  # noqa: B023
                    kernel.test_run(bench.fd, frame(), 20_000)

            threads = [threading.Thread(target=offer, args=(cpu,)) for cpu in cpus[:2]]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            spent = time.monotonic() - began
            packets, _, over, _ = tables.hits()(0)
            assert over > packets / 4, "positive control: more than the limit was offered"
            assert packets - over == pytest.approx(2000 * spent + 2000, rel=0.03)
    finally:
        tables.close()
        bench.close()
