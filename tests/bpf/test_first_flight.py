# SPDX-License-Identifier: GPL-2.0
"""What a client sends right after its proof, before the kernel has a socket for it; and what counts as a proof."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from scapy.layers.inet import TCP
from support.bench import Bench
from support.guard import PORT, QUIET, GuardBench, guarding, segment, syn, sysctls
from support.patience import patient
from topology import INTERFACE, OUTSIDE4, OUTSIDE6, Lab

from xdpguard.net.netns import entered


@pytest.fixture(scope="module")
def _bench() -> Iterator[Bench]:
    made = Bench("flight", fake_clock=True)
    yield made
    made.close()


@pytest.fixture
def guarded(_bench: Bench, lab: Lab) -> Iterator[GuardBench]:
    """An active guard on one CPU, with a listener on PORT."""
    with guarding(_bench, lab) as made:
        made.policy(**QUIET)
        yield made


def handshake(guarded: GuardBench, family: int, sport: int = 4000) -> dict[str, Any]:
    """Asks for a cookie; the fields of the ACK that brings it back."""
    _, answer = guarded.send(syn(family, sport=sport))
    return {"sport": sport, "seq": 1001, "ack": (answer[TCP].seq + 1) % (1 << 32)}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("flags", ["PA", "FA", "A", "RA", "R"])
def test_what_follows_the_proof_passes(guarded: GuardBench, family: int, flags: str) -> None:
    """A request of two segments; a FIN right after a short one; a client that gives up."""
    proof = handshake(guarded, family)
    later = {**proof, "seq": 1001 + 1448}
    if flags != "R":
        assert guarded.reason(segment(flags, family, **later)) in ("cookie_bad", "ack_unknown"), "nothing is proved yet"
    assert guarded.reason(segment("A", family, **proof)) == "pass"
    assert guarded.reason(segment(flags, family, **later)) == "pass"
    guarded.clock(100.9)
    assert guarded.reason(segment(flags, family, **later)) == "pass"
    guarded.clock(101.1)
    assert guarded.reason(segment(flags, family, **later)) in ("cookie_bad", "ack_unknown"), "a second later"


@pytest.mark.parametrize("family", [4, 6])
def test_a_burst_of_ack_and_data(guarded: GuardBench, family: int) -> None:
    """The first segment with data carries the proof as well as a bare ACK does."""
    proof = handshake(guarded, family)
    sizes = [1448, 1448, 600]
    at = 1001
    for size in sizes:
        assert guarded.reason(segment("PA", family, **{**proof, "seq": at})) == "pass", at
        at += size
    assert guarded.bench.counters().cookies_valid == 1


def test_another_tuple_is_not_proved_by_it(guarded: GuardBench) -> None:
    proof = handshake(guarded, 4)
    assert guarded.reason(segment("A", **proof)) == "pass"
    later = {**proof, "seq": 9000}
    assert guarded.reason(segment("PA", **later)) == "pass"
    assert guarded.reason(segment("PA", **{**later, "sport": 4001})) == "cookie_bad"
    assert guarded.reason(segment("PA", source="16.1.2.4", **later)) == "cookie_bad"
    assert guarded.reason(segment("PA", port=PORT + 1, **later)) == "ack_unknown"


def test_many_flights_beside_each_other(guarded: GuardBench) -> None:
    """A thousand clients, each with a second segment behind its proof."""
    for number in range(1000):
        proof = handshake(guarded, 4, sport=2000 + number)
        assert guarded.reason(segment("A", **proof)) == "pass"
        assert guarded.reason(segment("FA", **{**proof, "seq": 2449})) == "pass"
    assert guarded.bench.counters().cookies_valid == 1000


def signs(guarded: GuardBench) -> tuple[int, int]:
    """SYNs and proofs that the guard has counted, after as many SYNs as make it add them up."""
    for number in range(64):
        guarded.reason(syn(source=f"16.99.{number}.1"))
    state = guarded.state()
    return state.syns, state.proved


@pytest.mark.parametrize("family", [4, 6])
def test_only_the_acknowledgement_of_the_kernels_own_number_proves(guarded: GuardBench, lab: Lab, family: int) -> None:
    """One half-open handshake, begun before the flood, and whatever else is sent on its tuple beside the flood."""
    tuple_: dict[str, Any] = {"source": OUTSIDE4 if family == 4 else OUTSIDE6, "sport": 5000}
    with half_open(lab, family, 5000) as isn:
        right: dict[str, Any] = {"seq": 1001, "ack": (isn + 1) % (1 << 32)}
        for _ in range(200):
            assert guarded.reason(syn(family, **tuple_)) == "pass", "the kernel knows this tuple"
            assert guarded.reason(segment("A", family, seq=1001, ack=77, **tuple_)) == "pass"
            assert guarded.reason(segment("RA", family, **right, **tuple_)) == "pass"
        assert signs(guarded)[1] == 0
        for _ in range(20):
            assert guarded.reason(segment("A", family, **right, **tuple_)) == "pass"
        assert signs(guarded)[1] == 1, "an honest one, counted once"


def test_a_repeated_syn_does_not_make_the_guard_idle(guarded: GuardBench, lab: Lab) -> None:
    """Beside a flood, for longer than the guard holds, one spoofed tuple that is half-open at the kernel."""
    guarded.policy(active=False, **QUIET)
    for number in range(2000):
        guarded.reason(syn(source=f"16.{number >> 8}.{number & 255}.1"))
    assert guarded.state().until
    repeated = syn(source=OUTSIDE4, sport=5001)
    with half_open(lab, 4, 5001):
        for second in range(1, 15):
            guarded.clock(100 + second)
            for number in range(150):
                assert guarded.reason(syn(source=f"16.8.{number}.1")) == "cookie_sent"
                assert guarded.reason(repeated) == "pass"
    assert guarded.state().until, "the flood goes on, and so does the guard"


@pytest.mark.parametrize("family", [4, 6])
def test_repeating_a_half_open_tuple_is_a_flood_like_any_other(guarded: GuardBench, lab: Lab, family: int) -> None:
    """The kernel knows the tuple, but a SYN is no part of a connection: it is watched, and limited in a flood."""
    guarded.policy(active=False, unknown_rate=20, burst="1s", **QUIET)
    repeated = syn(family, source=OUTSIDE4 if family == 4 else OUTSIDE6, sport=5002)
    with half_open(lab, family, 5002):
        assert guarded.reason(repeated) == "pass"
        assert not guarded.state().until
        guarded.run(repeated, 2000)
        assert guarded.state().until
        reasons = [guarded.reason(repeated) for _ in range(60)]
        assert reasons.count("pass") <= 22
        assert set(reasons) <= {"pass", "syn_rate"}
        guarded.clock(102)
        assert guarded.reason(repeated) == "pass", "an honest repetition, seconds later"


@contextmanager
def half_open(lab: Lab, family: int, sport: int) -> Iterator[int]:
    """A real SYN on the wire, whose answer nobody acknowledges; yields the number in the kernel's SYN-ACK."""
    # The outside end would reset what it did not ask for: it drops the answers, after the wire has shown them.
    lab.run(lab.outside, ["sh", "-c", _SILENT % sport])
    try:
        with (
            sysctls(lab, tcp_syncookies=0),
            entered(lab.outside),
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire,
        ):
            wire.bind((INTERFACE, 0))
            wire.settimeout(patient(10))
            wire.send(syn(family, source=OUTSIDE4 if family == 4 else OUTSIDE6, sport=sport))
            at, found = 34 if family == 4 else 54, b""
            while not (found[at + 13 : at + 14] == b"\x12" and found[at + 2 : at + 4] == sport.to_bytes(2, "big")):
                found = wire.recv(2048)
        yield int.from_bytes(found[at + 4 : at + 8], "big")
    finally:
        lab.run(lab.outside, ["nft", "delete", "table", "inet", "silent"])


_SILENT = (
    "nft add table inet silent && nft 'add chain inet silent in { type filter hook input priority 0; }'"
    " && nft add rule inet silent in tcp dport %d drop"
)
