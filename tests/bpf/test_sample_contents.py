# SPDX-License-Identifier: GPL-2.0
"""What a sample of a drop says: the frame, the entry that decided, whether it was only observed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from bpf.test_known import load
from support.bench import KEPT, Bench
from support.dumps import dump
from support.samples import ETHER, FLAGS, MALFORMED, PLACES, SOURCE, Timed, prepare, timed_on, v4, v6

from xdpguard.dataplane.build.probe import Probe
from xdpguard.telemetry.drops import LIST, RULE, Drops, last, sums


@pytest.fixture(scope="module", params=[True, False], ids=["load_bytes", "probe_read"])
def _sampled(request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench("contents", fake_clock=True, load_bytes=request.param)
    yield made
    made.close()


@pytest.fixture
def timed(_sampled: Bench) -> Iterator[Timed]:
    with timed_on(_sampled) as made:
        yield made


def test_the_last_ones_are_kept(timed: Timed) -> None:
    """Eight of a reason and CPU, whatever becomes of other reasons."""
    timed.send(SOURCE)
    for number in range(20):
        timed.window(number)
        timed.send(v4(f"16.1.1.{number}", flags="SF"))
    assert [drop.frame[29] for drop in timed.kept("bad_flags")] == list(range(12, 20))
    (other,) = timed.kept("bad_source")
    assert other.frame == SOURCE
    assert timed.kept()[0].frame == SOURCE, "the oldest first"


@pytest.mark.parametrize("length", [60, 127, 128, 129, 1500, 2900])
def test_the_first_bytes_of_a_frame(timed: Timed, length: int) -> None:
    frame = v4(length=length, flags="SF")
    with Drops(timed.bench.pins, PLACES, 60) as drops:
        timed.send(frame)
        (drop,) = drops.read()
    assert (drop.length, drop.frame) == (length, frame[:128])
    (kept,) = timed.kept()
    assert kept._replace(at=drop.at) == drop
    assert abs(drop.at - time.time_ns()) < 60e9
    short = v4(flags="F")
    timed.window(1)
    timed.send(short)
    assert timed.kept()[-1].frame == short, "nothing of a longer one before it"


def test_a_frame_of_several_buffers() -> None:
    """Of which the program sees the first one; its length is that of all."""
    bench = Bench("pieces", frags=True)
    try:
        prepare(bench)
        frame = v4(length=9000, flags="SF")
        assert bench.send(frame).reason == "bad_flags"
        (drop,) = last(bench.pins, PLACES)
        assert (drop.length, drop.frame) == (9000, frame[:128])
    finally:
        bench.close()


def test_a_wall_clock_that_is_set_meanwhile(timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    real, hour = time.time_ns, 3_600_000_000_000
    with Drops(timed.bench.pins, PLACES, 60) as drops:
        timed.send(FLAGS)
        monkeypatch.setattr(time, "time_ns", lambda: real() + hour)
        timed.send(FLAGS)
        drops.ask()
        timed.send(FLAGS)
        first, second, third = drops.read()
    assert (first.at, third.at) == (second.at, second.at), "read with one offset"
    assert abs(first.at - real() - hour) < 60e9


def test_the_shortest_frame(timed: Timed) -> None:
    frame = bytes(ETHER)[:12] + b"\x08\x00"
    assert timed.send(frame) == "malformed"
    (drop,) = timed.kept()
    assert (drop.length, drop.frame, drop.entry) == (14, frame, 0)


@pytest.mark.parametrize(("rule", "listed"), [("16.1.1.7", "16.2.3.9"), ("2001:db8::7", "2001:db8:2::9")])
@pytest.mark.parametrize("wide", [False, True])
def test_which_entry_denied_it(timed: Timed, rule: str, listed: str, wide: bool) -> None:
    """The first time, and when the source is remembered; another one's in between; none for other reasons."""
    make = v6 if ":" in rule else v4
    around = {"16.2.3.9": "16.2.0.0/16", "2001:db8:2::9": "2001:db8:2::/48"}[listed] if wide else listed
    timed.bench.rule("block", "192.0.2.1")
    made = timed.bench.rule("block", rule)
    load(timed.bench, ["192.0.2.2"], ["192.0.2.3"], [around])
    with Drops(timed.bench.pins, PLACES, 0) as drops:
        for frame in (make(rule), make(rule), make(listed), make(listed), FLAGS, make(rule), make(listed), FLAGS):
            timed.send(frame)
        found = [(drop.reason.name, drop.entry, drop.number) for drop in drops.read()]
    by_rule, by_list, none = ("deny", RULE, made.slot), ("deny", LIST, 2), ("bad_flags", 0, 0)
    assert found == [by_rule, by_rule, by_list, by_list, none, by_rule, by_list, none]
    assert made.slot == 1


def test_a_probe_takes_none(timed: Timed) -> None:
    timed.bench.rule("block", "16.1.1.7")
    pins = timed.bench.pins
    with Probe(timed.bench.switches, pins, PLACES[0], KEPT) as probe, Drops(pins, PLACES, 0) as drops:
        before = dump(pins)
        for frame in (v4("16.1.1.7"), FLAGS, MALFORMED, SOURCE) * 3:
            probe.ask_one(frame, len(frame))
        assert dump(pins) == before
        assert list(drops.read()) == []
        assert timed.kept() == []
        timed.send(FLAGS)
        assert len(list(drops.read())) == 1, "positive control"


def test_an_interface_that_is_not_known_is_not_shown(timed: Timed) -> None:
    with Drops(timed.bench.pins, [("other", "")], 0) as drops:
        timed.send(FLAGS)
        assert list(drops.read()) == []


def test_what_is_only_observed_is_said_to_be(observing: Bench) -> None:
    prepare(observing)
    rule = observing.rule("block", "16.1.1.7")
    with Drops(observing.pins, PLACES, 0) as drops:
        for frame in (FLAGS, v4("16.1.1.7")):
            answer = observing.send(frame)
            assert (answer.verdict, answer.observed) == ("PASS", True)
        first, second = drops.read()
    assert (first.reason.name, first.observed, first.entry) == ("bad_flags", True, 0)
    assert (second.reason.name, second.observed, second.entry) == ("deny", True, RULE)
    assert second.number == rule.slot
    assert sums(observing.pins, PLACES).dropped["deny"] == 1
