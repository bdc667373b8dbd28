# SPDX-License-Identifier: GPL-2.0
"""Whose packet it is: what the guard answers for, what it leaves to the kernel, and at what rate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from support.bench import Bench
from support.guard import AROUND, ETHER, PORT, QUIET, GuardBench, guarding, segment, syn
from topology import OUTSIDE_MAC, SERVER4, SERVER6, Lab

from xdpguard.dataplane.tables import guard
from xdpguard.policy.rule import SAFETY
from xdpguard.policy.target import parse_prefix

CLOSED = PORT + 1000
LOCALS = {
    parse_prefix(text)[0]: kind
    for text, kind in (
        (SERVER4, guard.LOCAL),
        ("127.0.0.0/8", guard.LOCAL),
        ("198.18.0.255", guard.BROADCAST),
        ("10.1.0.0/16", guard.LOCAL),
        (SERVER6, guard.LOCAL),
        ("2001:2:0:18::", guard.BROADCAST),
    )
}


@pytest.fixture(scope="module")
def _bench() -> Iterator[Bench]:
    made = Bench("whose", fake_clock=True)
    yield made
    made.close()


@pytest.fixture
def guarded(_bench: Bench, lab: Lab) -> Iterator[GuardBench]:
    """An active guard on one CPU, with a listener on PORT."""
    with guarding(_bench, lab) as made:
        made.policy(**QUIET)
        yield made


def to(destination: str, source: str = "", ether: Ether = ETHER, **tcp: Any) -> bytes:
    fields: dict[str, Any] = {"sport": 4000, "dport": PORT, "flags": "S", "seq": 1000} | tcp
    six = ":" in destination
    below = (
        IPv6(src=source or "2001:db8::77", dst=destination) if six else IP(src=source or "16.1.2.3", dst=destination)
    )
    return bytes(ether / below / TCP(**fields))


OWN = {4: SERVER4, 6: SERVER6}
ELSEWHERE = {4: "198.18.0.99", 6: "2001:2:0:18::99"}


@pytest.mark.parametrize("family", [4, 6])
def test_only_local_destinations_are_answered(guarded: GuardBench, family: int) -> None:
    """With forwarding off, a frame for an address that the host does not have, or has no more, is left alone."""
    assert guarded.reason(to(ELSEWHERE[family])) == "cookie_sent", "every address counts as local until they are known"
    guarded.policy(around=AROUND._replace(locals=LOCALS), **QUIET)
    for destination, reason in (
        (OWN[family], "cookie_sent"),
        (ELSEWHERE[family], "pass"),
        (OWN[family], "cookie_sent"),
    ):
        assert guarded.reason(to(destination)) == reason, destination
        assert guarded.reason(to(destination, dport=CLOSED, flags="A", sport=5)) == (
            "pass" if reason == "pass" else "ack_unknown"
        )
    moved = {prefix: kind for prefix, kind in LOCALS.items() if str(prefix) != OWN[family]}
    guarded.policy(around=AROUND._replace(locals=moved), **QUIET)
    assert guarded.reason(to(OWN[family])) == "pass", "an address that has moved away, although it was the last one"


def test_an_address_that_has_just_come_is_watched(guarded: GuardBench) -> None:
    """Nobody has told the program of it yet: its clients are the kernel's, and a flood to it is seen and limited."""
    around = AROUND._replace(locals=LOCALS)
    guarded.policy(active=False, around=around, unknown_rate=20, burst="1s", **QUIET)
    fresh = to(ELSEWHERE[4])
    guarded.run(fresh, 2000)
    assert guarded.state().until
    reasons = [guarded.reason(fresh) for _ in range(60)]
    assert reasons.count("pass") <= 22
    assert set(reasons) <= {"pass", "syn_rate"}
    assert guarded.reason(to(ELSEWHERE[4], flags="A")) == "pass"


def test_prefixes_and_broadcast(guarded: GuardBench) -> None:
    guarded.policy(around=AROUND._replace(locals=LOCALS), **QUIET)
    assert guarded.reason(to("10.1.200.3")) == "cookie_sent", "a whole prefix can be local"
    assert guarded.reason(to("10.2.0.1")) == "pass"
    assert guarded.reason(to("198.18.0.255")) == "pass", "broadcast"
    assert guarded.reason(to("224.0.0.1")) == "pass", "multicast"
    assert guarded.reason(to("2001:2:0:18::")) == "pass", "the subnet routers' anycast address"


@pytest.mark.parametrize("source", ["0.0.0.0", "0.1.2.3", "198.18.0.255", SERVER4, "10.1.0.9", "::", SERVER6])
def test_sources_the_kernel_would_not_answer(guarded: GuardBench, source: str) -> None:
    guarded.policy(around=AROUND._replace(locals=LOCALS), syn_rate=10, burst="1s", **QUIET)
    own = OWN[6 if ":" in source else 4]
    reasons = [guarded.reason(to(own, source)) for _ in range(30)]
    assert set(reasons) == {"pass", "syn_rate"}, "they go to the kernel, at the rate of their prefix"
    assert 10 <= reasons.count("pass") <= 12
    assert guarded.reason(to(own)) == "cookie_sent", "positive control"


def test_frames_for_devices_above(guarded: GuardBench) -> None:
    bridge, guest = "02:00:00:00:0b:01", "02:00:00:00:0c:01"

    def answered(mac: str) -> str:
        return guarded.reason(to(SERVER4, ether=Ether(src=OUTSIDE_MAC, dst=mac)))

    assert answered(bridge) == "pass"
    macs = frozenset({bytes.fromhex(bridge.replace(":", "")), bytes.fromhex("00005e000107")})
    guarded.policy(around=AROUND._replace(macs=macs), **QUIET)
    assert answered(bridge) == "cookie_sent"
    assert answered("00:00:5e:00:01:07") == "cookie_sent", "VRRP"
    assert answered(guest) == "pass"
    assert guarded.reason(syn()) == "cookie_sent", "its own address still is"
    guarded.policy(**QUIET)
    assert answered(bridge) == "pass", "the device has gone"


def test_where_answers_would_not_arrive_none_is_sent(guarded: GuardBench) -> None:
    """The kernel then serves the clients, within the rate of each; its own cookies are still told from others."""
    assert guarded.reason(syn()) == "cookie_sent"
    guarded.policy(around=AROUND._replace(mute=True), syn_rate=10, burst="1s", **QUIET)
    reasons = [guarded.reason(syn(sport=2000 + number)) for number in range(30)]
    assert set(reasons) == {"pass", "syn_rate"}
    assert 10 <= reasons.count("pass") <= 12
    assert guarded.reason(syn(source="16.9.9.9")) == "pass"
    assert guarded.reason(segment("A", sport=9)) == "cookie_bad"


BOUND: dict[str, list[Any]] = {
    "TCP-MD5": [(19, b"x" * 16)],
    "TCP-AO": [("MSS", 1460), (29, b"\1\1" + b"x" * 12)],
    "MP_JOIN": [("MSS", 1460), ("SAckOK", b""), (30, b"\x10\1" + b"x" * 8)],
}


@pytest.mark.parametrize("kind", BOUND)
def test_what_a_plain_answer_does_not_serve_goes_to_the_kernel(guarded: GuardBench, kind: str) -> None:
    guarded.policy(signed_rate=10, burst="1s", **QUIET)
    reasons = [
        guarded.reason(syn(source=f"16.3.{number}.1", options=[*BOUND[kind], ("NOP", None)])) for number in range(40)
    ]
    assert set(reasons) == {"pass", "syn_rate"}
    assert 10 <= reasons.count("pass") <= 12, "at one rate for all sources, as any of them can write it"
    plain = [("MSS", 1460), (30, b"\x00\1" + b"x" * 8)]
    assert guarded.reason(syn(options=plain)) == "cookie_sent", "MP_CAPABLE goes on as plain TCP"


@pytest.mark.parametrize("family", [4, 6])
def test_a_needed_source_is_let_through_lists_and_no_further(guarded: GuardBench, family: int) -> None:
    """Anybody can write the gateway's address into a packet: that it is needed switches no guard off."""
    own, gateway, wide = (
        (SERVER4, "16.1.2.3", "16.0.0.0/8") if family == 4 else (SERVER6, "2001:db8::77", "2001:db8::/32")
    )
    guarded.bench.rule("block", wide)
    guarded.bench.rule("port", f"{CLOSED}/tcp")
    assert guarded.reason(to(own, gateway)) == "deny"
    kept = guarded.bench.rule("allow", gateway, source=SAFETY)
    assert guarded.reason(to(own, gateway)) == "cookie_sent"
    assert guarded.reason(to(own, gateway, dport=CLOSED, flags="A")) == "ack_unknown", "the port is open to it"
    assert guarded.reason(to(own, gateway, flags="SF")) == "bad_flags"
    assert guarded.bench.hits(kept)[0] == 3
    neighbour = "16.1.2.4" if family == 4 else "2001:db8::78"
    assert guarded.reason(to(own, neighbour)) == "deny"
    guarded.bench.rule("allow", neighbour)
    assert guarded.reason(to(own, neighbour, flags="SF")) == "allow", "what an operator allows passes everything"


@pytest.mark.parametrize("tagged", [False, True])
def test_syns_whose_owner_is_not_seen_are_limited(guarded: GuardBench, tagged: bool) -> None:
    """Translated addresses, or a VLAN whose device a listener is bound to: no port is known to be closed there."""
    ether = ETHER / Dot1Q(vlan=7) if tagged else ETHER
    guarded.policy(translated=not tagged, unknown_rate=20, burst="1s", **QUIET)
    reasons = [guarded.reason(to(SERVER4, f"16.4.{number}.1", ether, dport=CLOSED)) for number in range(60)]
    assert set(reasons) == {"pass", "syn_rate"}
    assert 20 <= reasons.count("pass") <= 22
    for flags in ("A", "R", "FA"):
        assert guarded.reason(to(SERVER4, ether=ether, dport=CLOSED, flags=flags)) == "pass", "it may be another's"
    guarded.clock(101)
    assert guarded.reason(to(SERVER4, "16.4.100.1", ether, dport=CLOSED)) == "pass"


@pytest.mark.parametrize("tagged", [False, True])
def test_syns_whose_owner_is_not_seen_are_watched(guarded: GuardBench, tagged: bool) -> None:
    ether = ETHER / Dot1Q(vlan=7) if tagged else ETHER
    around = AROUND._replace(pass_unknown=not tagged)

    def flood(flags: str, count: int) -> None:
        guarded.run(to(SERVER4, "16.0.0.1", ether, dport=CLOSED, flags=flags), count)

    guarded.policy(active=False, around=around, **QUIET)
    flood("A", 3000)
    assert not guarded.state().until, "somebody's connections are no flood"
    flood("S", 2000)
    assert guarded.state().until
    assert guard.CAUSES[guarded.state().cause] == "SYN rate"
    for second in range(1, 12):
        guarded.clock(100 + second)
        flood("S", 700)
    assert guarded.state().until, "the flood goes on"
    for second in range(12, 24):
        guarded.clock(100 + second)
        flood("S", 100)
    assert not guarded.state().until, "as many clients as this are none"


def test_a_suspect_source_does_not_count_for_many(guarded: GuardBench) -> None:
    """The guard sees all that a source sends that seems to scan, and takes no more than the sample for a sign."""
    guarded.policy(active=False, **QUIET)
    for number in range(300):
        guarded.reason(syn(source="16.7.7.7", port=CLOSED + number % 64, sport=1000 + number))
    assert not guarded.state().until


@pytest.mark.parametrize("place", [0, 1, 62, 63])
def test_the_sample_cannot_be_kept_in_step_with(guarded: GuardBench, place: int) -> None:
    """A sender that puts a packet of no interest wherever one of 64 would be looked at."""
    guarded.policy(active=False, exempt_ports=("9",), **QUIET)
    seen, decoy = syn(), syn(port=9)
    for _ in range(40):
        guarded.run(seen, place)
        guarded.run(decoy, 1)
        guarded.run(seen, 63 - place)
    assert guarded.state().until
