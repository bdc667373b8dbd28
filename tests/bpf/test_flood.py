# SPDX-License-Identifier: GPL-2.0
"""When the guard becomes active and when it lets go, with a clock that a test moves; its rates; scans that prove."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from scapy.layers.inet import TCP
from support.bench import Bench
from support.guard import PORT, QUIET, GuardBench, guarding, listen, segment, syn, sysctls
from support.patience import patient
from topology import INTERFACE, Lab

from xdpguard.dataplane.tables import guard
from xdpguard.net.netns import entered
from xdpguard.telemetry.events import FLOOD_BEGINS, FLOOD_ENDS, SCAN, Event, Events

CLOSED = PORT + 1000
SAMPLE = 64  # XG_SYN_SAMPLE of bpf/stages/wanted.h: of so many SYNs an idle guard looks at one, at random
GAP = 2 * SAMPLE - 1  # among so many there is one that it looks at


@pytest.fixture(scope="module")
def _bench() -> Iterator[Bench]:
    made = Bench("flood", fake_clock=True)
    yield made
    made.close()


@pytest.fixture
def guarded(_bench: Bench, lab: Lab) -> Iterator[GuardBench]:
    """An idle guard on one CPU, with cookies allowed and a listener on PORT."""
    with guarding(_bench, lab) as made:
        made.policy(active=False, **QUIET)
        list(events(_bench))
        yield made


def events(bench: Bench) -> list[Event]:
    with Events(bench.pins) as ring:
        return list(ring.read())


def kinds(bench: Bench) -> list[int]:
    return [event.kind for event in events(bench)]


def send_syns(guarded: GuardBench, count: int, source: str = "", port: int = PORT) -> list[str]:
    return [guarded.reason(syn(source=source or f"16.{n >> 8}.{n & 255}.1", port=port)) for n in range(count)]


def test_a_rate_of_syns_begins_a_flood_and_silence_ends_it(guarded: GuardBench) -> None:
    assert set(send_syns(guarded, 400)) == {"pass"}
    assert not guarded.state().until
    reasons = send_syns(guarded, 1600)
    assert reasons[0] == "pass"
    assert reasons[-1] == "cookie_sent"
    assert guard.CAUSES[guarded.state().cause] == "SYN rate"
    assert guarded.state().port == PORT
    # One more SYN before the end may be the one with which a window is judged, and the flood goes on.
    assert guarded.state().until == 105 * 10**9
    guarded.clock(105.1)
    assert guarded.reason(syn()) == "pass"
    assert not guarded.state().until
    assert kinds(guarded.bench) == [FLOOD_BEGINS, FLOOD_ENDS]


def test_the_rate_is_one_a_second(guarded: GuardBench) -> None:
    """As many SYNs in two windows are no flood."""
    for second in range(3):
        guarded.clock(100 + 1.1 * second)
        assert set(send_syns(guarded, 400)) == {"pass"}
    assert not guarded.state().until


def test_a_flood_without_proof_goes_on(guarded: GuardBench) -> None:
    guarded.run(syn(), 2000)
    for second in range(1, 12):
        guarded.clock(100 + second)
        assert set(send_syns(guarded, 200)) == {"cookie_sent"}
    assert guarded.state().until > 108e9
    assert guarded.state().floods == 1


def test_background_noise_does_not_keep_it_up(guarded: GuardBench) -> None:
    """A few unproved SYNs a second, however long they take to be a batch, are not the flood."""
    guarded.run(syn(), 2000)
    assert guarded.state().until
    for step in range(1, 61):
        guarded.clock(100 + step / 4)
        send_syns(guarded, 2)
    assert not guarded.state().until
    assert guarded.state().floods == 1


def test_a_rush_of_clients_that_prove_themselves_ends_it_and_raises_the_bar(guarded: GuardBench) -> None:
    def rush(count: int) -> None:
        valid = guarded.bench.counters().cookies_valid
        answered = guarded.connect(range(1024, 1024 + count))
        assert guarded.bench.counters().cookies_valid - valid == answered

    rush(2000)
    assert guarded.state().until
    for second in range(2, 10, 2):
        guarded.clock(100 + second)
        rush(1200)
    assert not guarded.state().until, "nothing was left unproved"
    assert guarded.state().floods == 1, "as many as have turned out to be honest are no flood any more"
    guarded.run(syn(), 3600)
    assert guarded.state().until, "twice as many are"


def test_a_full_queue_begins_a_flood(guarded: GuardBench, lab: Lab) -> None:
    """The kernel's own criterion: SYNs whose answers nobody acknowledges, in a listener that holds few."""
    with sysctls(lab, tcp_syncookies=0), listen(lab, PORT + 1, backlog=4):
        for number in range(4 * SAMPLE):
            assert guarded.reason(syn(port=PORT + 1, sport=1 + number)) == "pass"
        assert not guarded.state().until, "positive control: the bench's SYNs do not reach the queue"
        fill_queue(lab, PORT + 1, 8)
        for number in range(GAP):
            guarded.reason(syn(port=PORT + 1, sport=1000 + number))
        assert guard.CAUSES[guarded.state().cause] == "a listener's queue is full"
        assert guarded.state().until


def fill_queue(lab: Lab, port: int, count: int) -> None:
    """Real half-open connections: SYNs on the wire from sources that do not exist."""
    with entered(lab.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((INTERFACE, 0))
        for number in range(1, count + 1):
            wire.send(syn(source=f"16.9.9.{number}", port=port, sport=2000 + number))


@pytest.mark.parametrize("flags", ["A", "R", "SA", "FA", "RA"])
def test_segments_of_nothing_begin_a_flood(guarded: GuardBench, flags: str) -> None:
    stray = segment(flags, port=CLOSED)
    assert guarded.reason(stray) == "pass"
    guarded.run(stray, 3000)
    assert guarded.reason(stray) == "ack_unknown"
    assert guard.CAUSES[guarded.state().cause] == "segments of no connection"


def test_segments_of_a_connection_never_do(guarded: GuardBench, lab: Lab) -> None:
    with entered(lab.outside):
        client = socket.create_connection(("198.18.0.1", PORT), timeout=patient(5))
    with client:
        mine = client.getsockname()
        for _ in range(3000):
            assert guarded.reason(segment("A", source=mine[0], sport=mine[1])) == "pass"
        assert not guarded.state().until
        guarded.policy(**QUIET)
        assert guarded.reason(segment("A", source=mine[0], sport=mine[1])) == "pass", "the guard is active now"
        assert guarded.reason(segment("A", source=mine[0], sport=mine[1] ^ 1)) == "cookie_bad"


@pytest.mark.parametrize("mode", ["off", "observe"])
def test_modes_that_let_everything_pass(guarded: GuardBench, mode: str) -> None:
    guarded.policy(active=False, **(QUIET | {"mode": mode}))
    for n in range(2400):
        seen, _ = guarded.send_raw(syn(source=f"16.{n >> 8}.{n & 255}.1"))
        assert seen.verdict == "PASS"
    assert bool(guarded.state().until) == (mode == "observe")
    assert (seen.reason, seen.observed) == (("cookie_sent", True) if mode == "observe" else ("pass", False))


@pytest.mark.parametrize("family", [4, 6])
def test_closed_ports_answer_at_a_bounded_rate(guarded: GuardBench, family: int) -> None:
    """By source prefix, and for all together; a quiet second later there is room again."""
    guarded.policy(syn_rate=10, reset_rate=30, burst="1s", **QUIET)
    one = "16.1.1.1" if family == 4 else "2001:db8:1::1"
    reasons = [guarded.reason(syn(family, source=one, port=CLOSED)) for _ in range(50)]
    assert 10 <= reasons.count("pass") <= 12
    assert set(reasons) == {"pass", "syn_rate"}
    others = [f"16.2.2.{n}" if family == 4 else f"2001:db8:2:{n:x}::1" for n in range(60)]
    reasons = [guarded.reason(syn(family, source=other, port=CLOSED)) for other in others]
    assert 19 <= reasons.count("pass") <= 22
    guarded.clock(101)
    reasons = [guarded.reason(syn(family, source=one, port=CLOSED)) for _ in range(50)]
    assert 10 <= reasons.count("pass") <= 12


def test_a_prefix_shares_its_rate(guarded: GuardBench) -> None:
    guarded.policy(syn_rate=10, burst="1s", prefix4=24, **QUIET)
    reasons = [guarded.reason(syn(source=f"16.1.1.{n}", port=CLOSED)) for n in range(50)]
    assert 10 <= reasons.count("pass") <= 12
    assert guarded.reason(syn(source="16.1.2.1", port=CLOSED)) == "pass"
    guarded.forget_buckets()
    reasons = [guarded.reason(syn(6, source=f"2001:db8:7::{n:x}", port=CLOSED)) for n in range(50)]
    assert 10 <= reasons.count("pass") <= 12, "a /64 by default"


def test_answers_and_connections_have_rates_of_their_own(guarded: GuardBench) -> None:
    guarded.policy(answer_rate=10, burst="1s", **QUIET)
    reasons = send_syns(guarded, 30, source="16.1.1.1")
    assert 10 <= reasons.count("cookie_sent") <= 12
    assert reasons[-1] == "syn_rate"
    assert guarded.reason(syn(source="16.1.1.2")) == "cookie_sent"
    guarded.policy(connection_rate=5, burst="1s", **QUIET)
    guarded.forget_buckets()
    _, answer = guarded.send(syn(source="16.1.1.3"))
    ack = segment("A", source="16.1.1.3", seq=1001, ack=(answer[TCP].seq + 1) % (1 << 32))
    acks = [ack]
    for number in range(19):
        _, answer = guarded.send(syn(source="16.1.1.3", sport=5000 + number))
        number_after = (answer[TCP].seq + 1) % (1 << 32)
        acks.append(segment("A", source="16.1.1.3", sport=5000 + number, seq=1001, ack=number_after))
    reasons = [guarded.reason(it) for it in acks]
    assert 5 <= reasons.count("pass") <= 7
    assert reasons[-1] == "syn_rate"
    assert guarded.reason(acks[0]) == "pass", "what has been let in goes on"


@pytest.mark.parametrize("family", [4, 6])
def test_a_scan_is_proved_by_an_answered_question(guarded: GuardBench, family: int) -> None:
    guarded.policy(active=False, **(QUIET | {"scan_ports": 10}))
    source = "16.7.7.7" if family == 4 else "2001:db8:77::7"
    reasons, asked = [], None
    for number in range(12):
        seen, answer = guarded.send(syn(family, source=source, port=CLOSED + number))
        reasons.append(seen.reason)
        asked = answer if seen.reason == "cookie_sent" else asked
    assert reasons[:5] == ["pass"] * 5, "a few ports are nothing"
    assert reasons[-1] == "cookie_sent", "and then it is asked"
    assert asked is not None
    assert guarded.reason(syn(family, source=source)) == "pass", "a port somebody listens on is no question"
    assert events(guarded.bench) == []
    assert guarded.reason(segment("A", family, source=source, port=CLOSED + 11, seq=1001, ack=5)) == "pass"
    assert events(guarded.bench) == [], "not the answer"
    ack = (asked[TCP].seq + 1) % (1 << 32)
    assert guarded.reason(segment("A", family, source=source, port=CLOSED + 11, seq=1001, ack=ack)) == "pass"
    (event,) = events(guarded.bench)
    assert (event.kind, event.port) == (SCAN, CLOSED + 11)
    assert event.source == socket.inet_pton(socket.AF_INET if family == 4 else socket.AF_INET6, source)
    guarded.clock(165)
    assert guarded.reason(syn(family, source=source, port=CLOSED + 11)) == "pass", "it is forgotten"
    assert guarded.reason(syn(family, source=source, port=CLOSED + 40)) == "pass", "a minute later it begins anew"


def test_nobody_is_asked_when_nobody_waits_for_it(guarded: GuardBench) -> None:
    reasons = [guarded.reason(syn(source="16.7.7.7", port=CLOSED + number)) for number in range(20)]
    assert set(reasons) == {"pass"}


def test_the_ring_counts_what_it_could_not_hold(guarded: GuardBench) -> None:
    guarded.policy(active=False, **(QUIET | {"flood_rate": 1}))
    first, reset = syn(source="16.1.1.1"), segment("R")
    for n in range(900):
        guarded.clock(1000 + 10 * n)
        guarded.run(first, GAP)
        guarded.clock(1006 + 10 * n)
        guarded.run(reset, 1)
    state = guarded.state()
    assert state.floods >= 900
    lost = guarded.bench.counters().events_lost
    found = kinds(guarded.bench)
    assert lost > 0
    assert len(found) + lost == 2 * state.floods - bool(state.until)
    assert found[:2] == [FLOOD_BEGINS, FLOOD_ENDS]
    assert kinds(guarded.bench) == []
