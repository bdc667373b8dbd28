# SPDX-License-Identifier: GPL-2.0
"""Verdict tables for every stage behind parsing: one line a case."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw
from support.bench import Bench
from support.oracle import classify

from xdpguard.policy.rule import Rule
from xdpguard.policy.target import KINDS, parse_prefix

ETHER = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")


def _tcp(fields: dict[str, Any]) -> Packet:
    wanted: dict[str, Any] = {"flags": "A", "dport": 80} | fields
    return TCP(**wanted)


def v4(source: str, **tcp: Any) -> bytes:
    return bytes(ETHER / IP(src=source, dst="203.0.113.1") / _tcp(tcp))


def v6(source: str, **tcp: Any) -> bytes:
    return bytes(ETHER / IPv6(src=source, dst="2001:db8:1::1") / _tcp(tcp))


def put(bench: Bench, text: str, expires: float | None = None) -> Rule:
    """Puts a rule written as `block 198.51.100.7` in force."""
    kind, target = text.split()
    assert kind in KINDS
    return bench.rule(kind, target, expires)


class Case(NamedTuple):
    id: str
    rules: Sequence[str]
    frame: bytes
    reason: str
    hit: int | None  # index of the rule that takes the hit


CASES = [
    Case("no rules", [], v4("198.51.100.7"), "pass", None),
    Case("address", ["block 198.51.100.7"], v4("198.51.100.7"), "deny", 0),
    Case("its neighbour in the same /24", ["block 198.51.100.7"], v4("198.51.100.8"), "pass", None),
    Case("address in another /24", ["block 198.51.100.7"], v4("198.51.101.7"), "pass", None),
    Case("prefix", ["block 198.51.100.0/24"], v4("198.51.100.255"), "deny", 0),
    Case("outside the prefix", ["block 198.51.100.0/24"], v4("198.51.101.0"), "pass", None),
    Case("prefix longer than /24", ["block 198.51.100.64/26"], v4("198.51.100.127"), "deny", 0),
    Case("beside it in the /24", ["block 198.51.100.64/26"], v4("198.51.100.128"), "pass", None),
    Case("/23 first half", ["block 198.51.100.0/23"], v4("198.51.100.9"), "deny", 0),
    Case("/23 second half", ["block 198.51.100.0/23"], v4("198.51.101.9"), "deny", 0),
    Case("/8", ["block 198.0.0.0/8"], v4("198.255.1.1"), "deny", 0),
    Case("/0", ["block 0.0.0.0/0"], v4("8.8.8.8"), "deny", 0),
    Case("/1 lower half", ["block 0.0.0.0/1"], v4("126.255.255.255"), "deny", 0),
    Case("/1 upper half", ["block 0.0.0.0/1"], v4("128.0.0.0"), "pass", None),
    Case("/0 is IPv4 only", ["block 0.0.0.0/0"], v6("2001:db8::1"), "pass", None),
    Case("the longest names it", ["block 198.51.0.0/16", "block 198.51.100.0/24"], v4("198.51.100.1"), "deny", 1),
    Case("address before prefix", ["block 198.51.100.0/24", "block 198.51.100.7"], v4("198.51.100.7"), "deny", 1),
    Case("v6 address", ["block 2001:db8::7"], v6("2001:db8::7"), "deny", 0),
    Case("v6 neighbour", ["block 2001:db8::7"], v6("2001:db8::8"), "pass", None),
    Case("v6 /64", ["block 2001:db8:0:1::/64"], v6("2001:db8:0:1::9"), "deny", 0),
    Case("beside the v6 /64", ["block 2001:db8:0:1::/64"], v6("2001:db8:0:2::9"), "pass", None),
    Case("v6 /0", ["block ::/0"], v6("2001:db8::1"), "deny", 0),
    Case("v6 /0 is IPv6 only", ["block ::/0"], v4("198.51.100.7"), "pass", None),
    Case("mapped address means IPv4", ["block ::ffff:198.51.100.7"], v4("198.51.100.7"), "deny", 0),
    Case("allow", ["allow 198.51.100.7"], v4("198.51.100.7"), "allow", 0),
    Case("allow inside deny", ["block 198.51.100.0/24", "allow 198.51.100.7"], v4("198.51.100.7"), "allow", 1),
    Case("beside the allowed", ["block 198.51.100.0/24", "allow 198.51.100.7"], v4("198.51.100.8"), "deny", 0),
    Case("deny inside allow", ["allow 198.51.100.0/24", "block 198.51.100.7"], v4("198.51.100.7"), "allow", 0),
    Case("v6 allow inside deny", ["block 2001:db8::/32", "allow 2001:db8::/64"], v6("2001:db8::1"), "allow", 1),
    Case("allow beats a port", ["port 80/tcp", "allow 198.51.100.7"], v4("198.51.100.7"), "allow", 1),
    Case("allow beats sanity", ["allow 198.51.100.7"], v4("198.51.100.7", flags="FSR"), "allow", 0),
    Case("port", ["port 80/tcp"], v4("198.51.100.7"), "closed_port", 0),
    Case("port, v6", ["port 80/tcp"], v6("2001:db8::7"), "closed_port", 0),
    Case("other port", ["port 81/tcp"], v4("198.51.100.7"), "pass", None),
    Case("source port is not asked", ["port 80/tcp"], v4("198.51.100.7", sport=80, dport=81), "pass", None),
    Case("other protocol", ["port 80/udp"], v4("198.51.100.7"), "pass", None),
    Case("highest port", ["port 65535/tcp"], v4("198.51.100.7", dport=65535), "closed_port", 0),
    Case("port 1", ["port 1/tcp"], v4("198.51.100.7", dport=1), "closed_port", 0),
    Case("deny before port", ["port 80/tcp", "block 198.51.100.7"], v4("198.51.100.7"), "deny", 1),
    Case("port before sanity", ["port 80/tcp"], v4("198.51.100.7", flags="FS"), "closed_port", 0),
]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_lists_and_ports(bench: Bench, case: Case) -> None:
    before = bench.send(case.frame)
    assert before.reason == classify(case.frame).reason  # positive control: what it is without rules
    rules = [put(bench, text) for text in case.rules]
    answer = bench.send(case.frame)
    expected = "DROP" if case.reason in ("deny", "closed_port") else "PASS"
    assert (answer.verdict, answer.reason) == (expected, case.reason)
    for place, rule in enumerate(rules):
        assert bench.hits(rule) == ((1, len(case.frame)) if place == case.hit else (0, 0))
    for rule in rules:
        bench.remove(rule)
    assert bench.send(case.frame).reason == before.reason


UDP_FRAME = bytes(ETHER / IP(src="198.51.100.7", dst="203.0.113.1") / UDP(sport=9, dport=53) / Raw(b"x"))


def test_udp_port(bench: Bench) -> None:
    assert bench.send(UDP_FRAME).reason == "pass"
    rule = bench.rule("port", "53/udp")
    assert bench.send(UDP_FRAME).reason == "closed_port"
    assert bench.hits(rule) == (1, len(UDP_FRAME))


@pytest.mark.parametrize("tags", [Dot1Q(vlan=3), Dot1AD(vlan=3) / Dot1Q(vlan=4)], ids=["vlan", "qinq"])
def test_rules_reach_into_vlans(bench: Bench, tags: Packet) -> None:
    frame = bytes(ETHER / tags / IP(src="198.51.100.7", dst="203.0.113.1") / TCP(flags="A", dport=80))
    assert bench.send(frame).reason == "pass"
    bench.rule("block", "198.51.100.7")
    assert bench.send(frame).reason == "deny"
    bench.reset()
    bench.rule("port", "80/tcp")
    assert bench.send(frame).reason == "closed_port"


def test_a_later_fragment_has_addresses_but_no_ports(bench: Bench) -> None:
    frame = bytes(ETHER / IP(src="198.51.100.7", dst="203.0.113.1", frag=40, proto=17) / Raw(bytes(24)))
    bench.rule("port", "1/udp")
    assert bench.send(frame).reason == "fragment"
    bench.rule("block", "198.51.100.7")
    assert bench.send(frame).reason == "deny"
    bench.rule("allow", "198.51.100.0/24")
    assert bench.send(frame).reason == "allow"


@pytest.mark.parametrize("flags", range(256))
def test_every_flag_byte(bench: Bench, flags: int) -> None:
    for frame in (v4("198.51.100.7", flags=flags), v6("2001:db8::7", flags=flags)):
        answer = bench.send(frame)
        assert answer.reason == classify(frame).reason
        assert answer.flags == flags


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("224.0.0.0", "bad_source"),
        ("239.255.255.255", "bad_source"),
        ("223.255.255.255", "pass"),
        ("240.0.0.1", "pass"),
        ("255.255.255.255", "bad_source"),
        ("255.255.255.254", "pass"),
        ("127.0.0.1", "bad_source"),
        ("126.255.255.255", "pass"),
        ("0.0.0.0", "pass"),
        ("ff02::1", "bad_source"),
        ("::1", "bad_source"),
        ("::2", "pass"),
        ("::", "pass"),
        ("::ffff:198.51.100.7", "bad_source"),
        ("fe80::1", "pass"),
    ],
)
def test_sources_that_cannot_be(bench: Bench, source: str, reason: str) -> None:
    for segment in (TCP(flags="A"), UDP()):
        ip = IPv6(src=source) if ":" in source else IP(src=source)
        frame = bytes(ETHER / ip / segment)
        assert bench.send(frame).reason == reason
        assert classify(frame).reason == reason


def test_switches_leave_checks_out() -> None:
    bench = Bench("lenient", check_flags=False, check_source=False)
    try:
        assert bench.send(v4("198.51.100.7", flags="FS")).reason == "pass"
        assert bench.send(v4("127.0.0.1")).reason == "pass"
    finally:
        bench.close()


def test_loopback_interfaces_have_loopback_sources() -> None:
    bench = Bench("loopback", loopback=True)
    try:
        assert bench.send(v4("127.0.0.1")).reason == "pass"
        assert bench.send(v6("::1")).reason == "pass"
        assert bench.send(v4("224.0.0.1")).reason == "bad_source"
    finally:
        bench.close()


OBSERVED = [
    ("malformed", [], v4("198.51.100.7")[:40]),
    ("deny", ["block 198.51.100.7"], v4("198.51.100.7")),
    ("closed_port", ["port 80/tcp"], v4("198.51.100.7")),
    ("bad_flags", [], v4("198.51.100.7", flags="FS")),
    ("bad_source", [], v4("127.0.0.1")),
]


@pytest.mark.parametrize(("reason", "rules", "frame"), OBSERVED, ids=[case[0] for case in OBSERVED])
def test_observing_drops_nothing_and_counts_what_it_would(
    observing: Bench, bench: Bench, reason: str, rules: Sequence[str], frame: bytes
) -> None:
    for text in rules:
        put(observing, text)
        put(bench, text)
    answer = observing.send(frame)
    assert (answer.verdict, answer.reason, answer.observed) == ("PASS", reason, True)
    answer = bench.send(frame)  # positive control: without --observe the same packet is dropped
    assert (answer.verdict, answer.reason, answer.observed) == ("DROP", reason, False)


def test_observing_leaves_passing_packets_in_their_column(observing: Bench) -> None:
    observing.rule("allow", "192.0.2.0/24")
    for frame, reason in ((v4("198.51.100.7"), "pass"), (v4("192.0.2.9"), "allow")):
        answer = observing.send(frame)
        assert (answer.verdict, answer.reason, answer.observed) == ("PASS", reason, False)


class Ending(NamedTuple):
    id: str
    rules: Sequence[tuple[str, float]]  # rule, seconds until its end (0: none)
    frame: bytes
    reason: str


ENDINGS = [
    Ending("ended", [("block 198.51.100.7", -1)], v4("198.51.100.7"), "pass"),
    Ending("not yet", [("block 198.51.100.7", 60)], v4("198.51.100.7"), "deny"),
    Ending("ended prefix", [("block 198.51.100.0/24", -1)], v4("198.51.100.7"), "pass"),
    Ending("ended port", [("port 80/tcp", -1)], v4("198.51.100.7"), "pass"),
    Ending("port not yet", [("port 80/tcp", 60)], v4("198.51.100.7"), "closed_port"),
    Ending("ended allow", [("allow 198.51.100.7", -1), ("block 198.51.100.0/24", 0)], v4("198.51.100.7"), "deny"),
    Ending("around the ended", [("block 198.51.100.0/24", -1), ("block 198.51.0.0/16", 0)], v4("198.51.100.7"), "deny"),
    Ending(
        "around two ended",
        [("block 198.51.100.0/24", -1), ("block 198.51.0.0/16", -1), ("block 198.0.0.0/8", 9)],
        v4("198.51.100.7"),
        "deny",
    ),
    Ending("address ended, prefix not", [("block 198.51.100.7", -1), ("block 198.51.100.0/24", 0)],
           v4("198.51.100.7"), "deny"),
    Ending("/0 around", [("block 198.51.100.0/24", -1), ("block 0.0.0.0/0", 0)], v4("198.51.100.7"), "deny"),
    Ending("all ended", [("block 198.51.100.0/24", -1), ("block 0.0.0.0/0", -1)], v4("198.51.100.7"), "pass"),
    Ending("v6 around", [("block 2001:db8::/64", -1), ("block 2001:db8::/32", 0)], v6("2001:db8::7"), "deny"),
    Ending("v6 all ended", [("block 2001:db8::/64", -1), ("block ::/0", -1)], v6("2001:db8::7"), "pass"),
    Ending("v6 allow around", [("allow 2001:db8::/64", -1), ("allow 2001:db8::/32", 0), ("block ::/0", 0)],
           v6("2001:db8::7"), "allow"),
]  # fmt: skip


@pytest.mark.parametrize("case", ENDINGS, ids=[case.id for case in ENDINGS])
def test_the_kernel_ends_rules_by_itself(bench: Bench, case: Ending) -> None:
    now = time.time()
    for text, life in case.rules:
        put(bench, text, now + life if life else None)
    assert bench.send(case.frame).reason == case.reason


def test_every_expired_prefix_length_lets_the_next_one_answer(bench: Bench) -> None:
    now = time.time()
    for length in range(1, 33):
        bench.rule("block", str(ipaddress.ip_network(f"198.51.100.7/{length}", strict=False)), expires=now - 1)
    assert bench.send(v4("198.51.100.7")).reason == "pass"
    rule = bench.rule("block", "0.0.0.0/0")
    assert bench.send(v4("198.51.100.7")).reason == "deny"
    assert bench.hits(rule)[0] == 1


def test_icmp_is_under_the_lists(bench: Bench) -> None:
    frame = bytes(ETHER / IP(src="198.51.100.7", dst="203.0.113.1") / ICMP() / Raw(bytes(8)))
    assert bench.send(frame).reason == "pass"
    bench.rule("block", "198.51.100.7")
    assert bench.send(frame).reason == "deny"


def test_a_slot_in_which_another_rule_has_counted(bench: Bench) -> None:
    """As after a change that was killed: the store gives the slot to its old rule, and the hits are not its own."""
    old = bench.rule("block", "192.0.2.1")
    kept = bench.rule("block", "192.0.2.2")
    stray = old._replace(target=parse_prefix("198.51.100.7")[0])
    bench.tables.sync([kept, stray])
    bench.send(UDP_FRAME)
    assert bench.hits(stray) == (1, len(UDP_FRAME)), "positive control"
    bench.tables.sync([old, kept])
    assert bench.hits(old) == (0, 0)
    bench.tables.sync([old, kept, stray._replace(slot=5)])
    bench.send(UDP_FRAME)
    bench.tables.sync([old, kept])
    assert bench.tables.hits()(5).packets == 1, "what belongs to no rule is set to zero when it is given to one"
