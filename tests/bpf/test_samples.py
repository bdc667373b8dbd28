# SPDX-License-Identifier: GPL-2.0
"""How many samples of drops there are of each reason, and what becomes of them when nobody or somebody asks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from support.bench import Bench
from support.samples import CLOSED, FLAGS, MALFORMED, PLACES, SOURCE, WINDOW, Timed, timed_on, v4

from xdpguard.dataplane.sys import abi
from xdpguard.telemetry.drops import Drops, sums

IDLE = 2  # samples of a window, XG_IDLE_SAMPLES of bpf/drops.h
RATE, OF_RATE = 60, 8  # samples a second, and in a window
RING = 512 * 1024 // (abi.DROP.size + 8)  # XG_DROP_PAGES of bpf/maps.h


@pytest.fixture(scope="module")
def _sampled() -> Iterator[Bench]:
    made = Bench("samples", fake_clock=True)
    yield made
    made.close()


@pytest.fixture
def timed(_sampled: Bench) -> Iterator[Timed]:
    with timed_on(_sampled) as made:
        yield made


def test_without_a_reader_a_window_gives_two_of_each_reason(timed: Timed) -> None:
    timed.bench.rule("port", "81/tcp")
    for number in range(3):
        timed.window(number)
        for frame in (FLAGS, SOURCE, MALFORMED, CLOSED):
            for _ in range(5):
                timed.send(frame)
    found = Counter(drop.reason.name for drop in timed.kept())
    assert found == dict.fromkeys(("bad_flags", "bad_source", "malformed", "closed_port"), 3 * IDLE)
    assert timed.samples("bad_flags") == 3 * IDLE
    with Drops(timed.bench.pins, PLACES, RATE) as drops:
        assert list(drops.read()) == [], "nobody has asked for them"


def test_what_passes_gives_none(timed: Timed) -> None:
    timed.bench.rule("allow", "16.1.1.1")
    with Drops(timed.bench.pins, PLACES, 0) as drops:
        assert timed.send(FLAGS) == "allow"
        assert timed.send(v4("16.1.1.2")) == "pass"
        assert list(drops.read()) == []
        assert timed.kept() == []
        timed.send(SOURCE)
        assert [drop.reason.name for drop in drops.read()] == ["bad_source"], "positive control"


def test_a_reader_gets_its_rate_of_each_reason_in_each_window(timed: Timed) -> None:
    with Drops(timed.bench.pins, PLACES, RATE) as drops:
        for number in range(3):
            timed.window(number)
            timed.send(FLAGS, 1000)
            timed.send(SOURCE, OF_RATE + 1)
            timed.send(MALFORMED, 3)
            found = Counter(drop.reason.name for drop in drops.read())
            assert found == {"bad_flags": OF_RATE, "bad_source": OF_RATE, "malformed": 3}
            timed.window(number, WINDOW - 1)
            timed.send(SOURCE)
            assert list(drops.read()) == [], "the window is the same until its end"


def test_a_flood_hides_no_rare_reason(timed: Timed) -> None:
    with Drops(timed.bench.pins, PLACES, RATE) as drops:
        for turn in range(50):
            timed.send(FLAGS, 200)
            if turn % 10 == 9:
                timed.send(SOURCE)
        found = Counter(drop.reason.name for drop in drops.read())
    assert found == {"bad_flags": OF_RATE, "bad_source": 5}
    assert timed.bench.counters().reasons["bad_flags"].packets == 10_000


@pytest.mark.parametrize("asked", [True, False])
@pytest.mark.parametrize("before", [3, 10, 5000])
def test_however_many_there_were_the_next_one_of_a_later_window_is_sampled(
    timed: Timed, asked: bool, before: int
) -> None:
    timed.send(FLAGS, before)
    if asked:
        with Drops(timed.bench.pins, PLACES, RATE) as drops:
            for number in range(1, 4):
                timed.window(number)
                timed.send(FLAGS)
                assert len(list(drops.read())) == 1
        return
    for number in range(1, 4):
        taken = timed.samples("bad_flags")
        timed.window(number)
        timed.send(FLAGS)
        assert timed.samples("bad_flags") == taken + 1


def test_rate_zero_is_every_drop(timed: Timed) -> None:
    with Drops(timed.bench.pins, PLACES, 0) as drops:
        timed.send(FLAGS, 1000)
        timed.send(SOURCE, 700)
        found = Counter(drop.reason.name for drop in drops.read())
    assert found == {"bad_flags": 1000, "bad_source": 700}


def test_reasons_nobody_asked_for_neither_fill_the_ring_nor_leave_their_rate(timed: Timed) -> None:
    with Drops(timed.bench.pins, PLACES, 0, {"bad_source"}) as drops:
        timed.send(FLAGS, 5000)
        timed.send(SOURCE, 20)
        timed.send(FLAGS, 5000)
        timed.send(SOURCE, 20)
        assert Counter(drop.reason.name for drop in drops.read()) == {"bad_source": 40}
    found = sums(timed.bench.pins, PLACES)
    assert not any(found.lost.values())
    assert found.samples["bad_flags"] == IDLE, "as when nobody reads"


def test_a_session_begins_a_window_at_once(timed: Timed) -> None:
    """Whatever the one before it has used up, and a reason that is over its rate is looked at again."""
    for session in range(4):
        timed.send(FLAGS, 1000)
        with Drops(timed.bench.pins, PLACES, RATE) as drops:
            timed.send(FLAGS)
            assert len(list(drops.read())) == 1, session
            timed.send(FLAGS, 1000)
            assert len(list(drops.read())) == OF_RATE - 1
    taken = timed.samples("bad_flags")
    timed.send(FLAGS, 1000)
    assert timed.samples("bad_flags") == taken + IDLE, "and when nobody reads any more it is idle's window"


def test_sessions_go_round(timed: Timed) -> None:
    numbers = []
    for _ in range(260):
        with Drops(timed.bench.pins, PLACES, RATE) as drops:
            timed.send(FLAGS)
            assert len(list(drops.read())) == 1
        with timed.asked() as memory:
            numbers.append(abi.READER.unpack_from(memory)[2])
    assert set(numbers) == set(range(1, 256))
    assert all(one != other for one, other in pairwise(numbers))


def test_what_a_reader_before_has_left_is_not_the_next_ones(timed: Timed) -> None:
    with Drops(timed.bench.pins, PLACES, RATE):
        timed.send(FLAGS, 3)
    with Drops(timed.bench.pins, PLACES, RATE) as drops:
        timed.send(SOURCE)
        assert [drop.reason.name for drop in drops.read()] == ["bad_source"]


def test_a_reader_that_asks_no_more_gets_none_after_three_seconds(timed: Timed) -> None:
    """As one that was killed."""
    with Drops(timed.bench.pins, PLACES, 0) as drops:
        with timed.asked() as memory:
            until = abi.READER.unpack_from(memory)[0]
        left = until - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        assert 0 < left <= 3_000_000_000
        timed.bench.set_clock(until - 1)
        timed.send(FLAGS, 5)
        assert len(list(drops.read())) == 5
        timed.bench.set_clock(until)
        timed.send(FLAGS, 5)
        timed.send(SOURCE, 5)
        assert list(drops.read()) == []
        with timed.asked() as memory:
            assert abi.READER.unpack_from(memory)[0] == 0, "what is dropped from now on does not look at the clock"
        assert len(timed.kept("bad_source")) == IDLE, "the last ones are kept as ever"
        timed.bench.set_clock(until + 10 * WINDOW)
        timed.send(FLAGS, 5)
        assert list(drops.read()) == []
        drops.ask()
        timed.window(0)
        timed.send(FLAGS)
        assert len(list(drops.read())) == 1, "one that was only stopped goes on"


def test_a_full_ring_counts_and_changes_no_verdict(timed: Timed) -> None:
    rule = timed.bench.rule("block", "16.1.1.7")
    with Drops(timed.bench.pins, PLACES, 0) as drops:
        for _ in range(10):
            answer = timed.bench.send(v4("16.1.1.7"), 500)
            assert (answer.verdict, answer.reason) == ("DROP", "deny")
        assert timed.bench.send(v4("16.1.1.8")).verdict == "PASS"
        assert timed.bench.hits(rule)[0] == 5000
        lost = sums(timed.bench.pins, PLACES).lost["deny"]
        found = list(drops.read())
        assert len(found) + lost == 5000
        assert RING - 2 <= len(found) <= RING
        timed.send(SOURCE, 5)
        assert len(list(drops.read())) == 5, "what was read makes room"
    assert timed.samples("deny") == 5000
    assert sums(timed.bench.pins, PLACES).lost["deny"] == lost


@pytest.mark.parametrize("rate", [0.1, 1, 7, 1_000_000])
def test_rates(timed: Timed, rate: float) -> None:
    with Drops(timed.bench.pins, PLACES, rate) as drops:
        timed.send(FLAGS, 500)
        assert len(list(drops.read())) == (1 if rate <= 7 else 500)
