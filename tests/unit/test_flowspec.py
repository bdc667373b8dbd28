# SPDX-License-Identifier: GPL-2.0
"""FlowSpec: filters as rules of GoBGP and ExaBGP, back again, and the order in which rules are asked."""

from __future__ import annotations

import contextlib
import functools
import json
import random
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.matching import Sample, matches, sample

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec.operators import bitmask, holds, numeric, ranges_of
from xdpguard.policy.flowspec.rule import Component, Does, Op, encoded
from xdpguard.policy.flowspec.text import FORMS, Form, read, written
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.matching.ranges import joined
from xdpguard.policy.matching.writing import written as match_text

DROP, PASS, COUNT = Does("drop"), Does("pass"), Does("count")
BYTES, PACKETS = Does("limit", 1_250_000, "bytes"), Does("limit", 1000, "packets")
GOBGP4, GOBGP6 = (f"gobgp global rib -a ipv{version}-flowspec add match " for version in (4, 6))

# A match, what is done, and the rules of GoBGP and ExaBGP. GoBGP 3.10 and ExaBGP 4.2.21 accept these lines, and what
# they make of them has the same bytes as `encoded`.
SAID = [
    ("ip saddr 192.0.2.0/24 udp sport 53 meta length > 512", DROP,
     [GOBGP4 + "source 192.0.2.0/24 protocol ==17 source-port ==53 packet-length '>512' then discard"],
     ["route f { match { source 192.0.2.0/24; protocol =17; source-port =53; packet-length >512; } "
      "then { discard; } }"]),
    ("ip protocol tcp tcp dport { 80, 8000-8010 } tcp flags & (syn|ack) == syn", BYTES,
     [GOBGP4 + "protocol ==6 destination-port '==80 >=8000&<=8010' tcp-flags '=S&!A' "
      "then rate-limit 1250000 action terminal"],
     ["route f { match { protocol =6; destination-port [ =80 >=8000&<=8010 ]; tcp-flags =syn&!ack; } "
      "then { rate-limit 1250000; action terminal; } }"]),
    ("ip protocol tcp tcp dport != { 80, 443 } tcp flags ! syn,fin", DROP,
     [GOBGP4 + "protocol ==6 destination-port '!=80&!=443' tcp-flags '!FS' then discard"],
     ["route f { match { protocol =6; destination-port !=80&!=443; tcp-flags !fin+syn; } then { discard; } }"]),
    ("fragment yes", COUNT,
     [GOBGP4 + "fragment is-fragment+first-fragment then action sample-terminal",
      GOBGP6 + "fragment is-fragment+first-fragment then action sample-terminal"],
     ["route f-1 { match { fragment is-fragment+first-fragment; } then { action sample-terminal; } }",
      "route f-2 { match { destination ::/0/0; fragment is-fragment+first-fragment; } "
      "then { action sample-terminal; } }"]),
    ("ip frag-off & 0x3fff == 0", DROP, [GOBGP4 + "fragment '!is-fragment+first-fragment' then discard"],
     ["route f { match { fragment !is-fragment+first-fragment; } then { discard; } }"]),
    ("ip frag-off & 0x4000 != 0", DROP, [GOBGP4 + "fragment dont-fragment then discard"],
     ["route f { match { fragment dont-fragment; } then { discard; } }"]),
    ("ip6 saddr { 2001:db8::/32, fe80::/10 } icmpv6 type 128 icmpv6 code 0", PASS,
     [GOBGP6 + "source 2001:db8::/32 protocol ==58 icmp-type ==128 icmp-code ==0 then accept",
      GOBGP6 + "source fe80::/10 protocol ==58 icmp-type ==128 icmp-code ==0 then accept"],
     ["route f-1 { match { source 2001:db8::/32/0; next-header =58; icmp-type =128; icmp-code =0; } then { accept; } }",
      "route f-2 { match { source fe80::/10/0; next-header =58; icmp-type =128; icmp-code =0; } then { accept; } }"]),
    ("ip6 dscp cs1", DROP, [GOBGP6 + "dscp ==8 then discard"],
     ["route f { match { destination ::/0/0; traffic-class =8; } then { discard; } }"]),
    ("ip protocol tcp tcp flags != syn", DROP, [GOBGP4 + "protocol ==6 tcp-flags '!=S FRPAUEC' then discard"],
     ["route f { match { protocol =6; tcp-flags [ !=syn fin+rst+push+ack+urg+ece+cwr ]; } then { discard; } }"]),
    ("ip protocol udp fragment { no, yes }", DROP, [GOBGP4 + "protocol ==17 then discard"],
     ["route f { match { protocol =17; } then { discard; } }"]),
    ("meta nfproto ipv4", DROP, [GOBGP4 + "destination 0.0.0.0/0 then discard"],
     ["route f { match { destination 0.0.0.0/0; } then { discard; } }"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "does", "gobgp", "exabgp"), SAID, ids=[it[0] for it in SAID])
def test_filters_as_rules(text: str, does: Does, gobgp: list[str], exabgp: list[str]) -> None:
    assert written(parse(text), does, "gobgp", "f").splitlines() == gobgp
    assert written(parse(text), does, "exabgp", "f").splitlines() == exabgp
    for lines in (gobgp, exabgp):
        assert {it.does for it in read("\n".join(lines), "rules")} == {does}


def test_a_small_limit_is_not_written_as_none() -> None:
    """ExaBGP has whole bytes, of which 0 is to discard everything."""
    match = parse("ip protocol udp udp dport 53")
    line = written(match, Does("limit", 0.5, "bytes"), "exabgp")
    assert [it.does for it in read(line, "rules")] == [Does("limit", 1, "bytes")]
    line = written(match, Does("limit", 1.6, "bytes"), "exabgp")
    assert [it.does for it in read(line, "rules")] == [Does("limit", 2, "bytes")], "positive control"


def test_a_limit_in_packets_is_a_community_that_only_exabgp_can_say() -> None:
    match = parse("ip protocol udp udp dport 53")
    with pytest.raises(UsageError, match="GoBGP has no words for a limit in packets"):
        written(match, PACKETS, "gobgp")
    # 0x800c: traffic-rate-packets; 0x447a0000: 1000 as a float of 32 bits.
    line = written(match, PACKETS, "exabgp")
    assert line.endswith("then { extended-community [ 0x800c0000447a0000 ]; action terminal; } }")
    assert [(it.match, it.does) for it in read(line, "rules")] == [(match, PACKETS)]


UNSAID = [
    ("ip ttl 5", DROP, "FlowSpec cannot say ip ttl"),
    ("vlan id 5", DROP, "FlowSpec cannot say vlan id"),
    ("state established", DROP, "FlowSpec cannot say state"),
    ("ip saddr @bogons", DROP, "FlowSpec cannot say the list @bogons"),
    ("@th,0,16 5", DROP, "FlowSpec cannot say bytes at a fixed place"),
    ("ip frag-off != 0", DROP, "FlowSpec cannot say these values of ip frag-off"),
    ("ip frag-off & 0x1fff > 5", DROP, "FlowSpec cannot say these values of ip frag-off"),
    ("ip protocol tcp tcp flags != { syn, ack }", DROP, "FlowSpec cannot say these values of tcp flags"),
    ("udp dport 53", BYTES, "one limit for 2 rules"),
    ("ip saddr { 192.0.2.1, 192.0.2.4 }", PACKETS, "one limit for 2 rules"),
    ("ip saddr { " + ", ".join(f"10.{it}.0.0/24" for it in range(99)) + " }", DROP, "so many addresses"),
    ("meta nfproto ipv4 udp dport 53", Does("limit", 5, "packets", shared=False), "a limit per source"),
]


@pytest.mark.parametrize(("text", "does", "message"), UNSAID, ids=[it[0][:40] for it in UNSAID])
def test_what_flowspec_cannot_say_is_named(text: str, does: Does, message: str) -> None:
    for form in FORMS:
        with pytest.raises(UsageError, match=message) as caught:
            written(parse(text), does, form)
        assert caught.value.remedy


# A rule in the text of others, and the filters that it is read as.
READ = [
    (GOBGP4 + "destination 10.0.0.1 then accept", [("ip daddr 10.0.0.1", PASS)]),
    ("add match source 10.0.0.0/24 protocol tcp then discard", [("ip saddr 10.0.0.0/24 ip protocol tcp", DROP)]),
    (GOBGP6 + "destination 2001::2/128 port '==80' tcp-flags '!=SA&!=U' then discard",
     [("ip6 daddr 2001::2 tcp sport 80 tcp flags & (syn|ack) != syn|ack tcp flags & urg == 0", DROP),
      ("ip6 daddr 2001::2 tcp dport 80 tcp flags & (syn|ack) != syn|ack tcp flags & urg == 0", DROP)]),
    (GOBGP4 + "protocol tcp destination-port '==80' '>=8080&<=8888' fragment '=first-fragment =last-fragment' "
     "then discard",
     [("ip protocol tcp tcp dport { 80, 8080-8888 } ip frag-off & 0x3fff == { 0x2000, 1-0x1fff }", DROP)]),
    (GOBGP4 + "dscp ==8 then rate-limit 125000 as 64512",
     [("ip dscp 8", Does("limit", 125000, "bytes")), ("ip dscp 8", PASS)]),
    ("# in { braces }\n" + GOBGP4 + "dscp ==8 then discard # {", [("ip dscp 8", DROP)]),
    (GOBGP4 + "dscp ==8 then rate-limit 0", [("ip dscp 8", DROP)]),
    (GOBGP4 + "dscp ==8 then action sample", [("ip dscp 8", PASS)]),
    (GOBGP4 + "dscp ==8 then action terminal", [("ip dscp 8", COUNT)]),
    (GOBGP6 + "destination 2001:db8:1:2::/64 32 then discard",
     [("meta nfproto ipv6 @nh,192,128 & 0xffffffff0000000000000000 == 0x000100020000000000000000", DROP)]),
    (GOBGP6 + "label '==5' then discard", [("meta nfproto ipv6 @nh,8,24 & 0x0fffff == 5", DROP)]),
    (GOBGP4 + "protocol 'tcp &=udp icmp >igmp&<5' fragment not-a-fragment then discard",
     [("ip protocol { icmp, 3-4 } fragment no", DROP)]),
    ("flow {\n route give-me-a-name {\n match {\n source 10.0.0.1/32;\n destination 10.0.0.2/32;\n "
     "destination-port =3128;\n protocol tcp;\n }\n then {\n discard;\n community [30740:0 30740:30740];\n }\n }\n}",
     [("ip saddr 10.0.0.1 ip daddr 10.0.0.2 tcp dport 3128", DROP)]),
    ("announce flow route { match { source 0.0.0.0/32; destination-port =3128; protocol tcp; } "
     "then { rate-limit 0; } }",
     [("ip saddr 0.0.0.0 tcp dport 3128", DROP)]),
    ("route a { match { packet-length [ >200&<300 >400&<500 ]; } then { action sample-terminal; } } # a comment",
     [("meta nfproto ipv4 meta length { 201-299, 401-499 }", COUNT)]),
    ("route a { rd 65535:65536; match { source 2001:db8::/32; next-header udp; } then { accept; } }",
     [("ip6 saddr 2001:db8::/32 ip6 nexthdr udp", PASS)]),
    ("route a { match { protocol [ !=tcp ]; tcp-flags [SYN RST&FIN&!=push]; source 10.0.0.1/32; } then { discard; } }",
     None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), READ, ids=[it[0][-60:] for it in READ])
def test_rules_as_filters(text: str, expected: list[tuple[str, Does]] | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="no packet can match this rule: meta l4proto"):
            read(text, "rules")
        return
    found = read(text, "rules")
    assert [(match_text(it.match), it.does) for it in found] == [(match_text(parse(it)), does) for it, does in expected]


WRONG = [
    ("", "rules: no FlowSpec rule in it"),
    ("gobgp global rib", "rules: line 1: no match and then"),
    ("\n" + GOBGP4 + "colour red then discard", "rules: line 2: 'colour' is not a component"),
    (GOBGP4 + "protocol then discard", "a component without a value"),
    (GOBGP4 + "protocol ==256 then discard", "not a value of protocol: '256'"),
    (GOBGP4 + "protocol ==$ then discard", "not a comparison: '==\\$'"),
    (GOBGP4 + "tcp-flags =X then discard", "not bits of tcp_flags: 'X'"),
    (GOBGP4 + "tcp-flags '>S' then discard", "bits are not compared by '>'"),
    (GOBGP4 + "tcp-flags 0x100 then discard", "flags beyond the eight of TCP"),
    (GOBGP4 + "source 10.0.0.0/33 then discard", "not a prefix length: '10.0.0.0/33'"),
    (GOBGP4 + "source 2001:db8::/32 then discard", "IPv4 and IPv6 in one rule"),
    ("add match protocol tcp then discard", "does not say its IP version"),
    (GOBGP4 + "protocol tcp then redirect 10:10", "the action 'redirect' has no meaning here"),
    (GOBGP4 + "protocol tcp then mark 5", "the action 'mark' has no meaning here"),
    (GOBGP4 + "protocol tcp then rate-limit -1", "not a rate: '-1'"),
    (GOBGP4 + "protocol tcp then rate-limit nan", "not a rate: 'nan'"),
    (GOBGP4 + "protocol tcp then action stop", "not an action: 'stop'"),
    (GOBGP4 + "protocol 'tcp then discard", "quotes are not closed"),
    (GOBGP4 + "port 53 then rate-limit 1000", "a limit of the port of either side"),
    (GOBGP4 + "protocol '>255' then discard", "no packet can match this rule"),
    (GOBGP6 + "fragment last-fragment then discard", "cannot be told from others in IPv6"),
    (GOBGP6 + "source ::1/128 protocol tcp protocol udp then discard", "protocol is given twice"),
    (
        f"{GOBGP4}protocol tcp then discard\n{GOBGP4}protocol tcp then accept",
        "line 2: the rule of line 1 again, with other",
    ),
    ("gobgp global rib -a ipv4-flowspec del match protocol tcp then discard", "line 1: a withdrawal is no rule"),
    ("\nwithdraw flow route a { match { source 10.0.0.0/8; } then { discard; } }", "line 2: a withdrawal is no rule"),
    ("neighbor 10.0.0.1 withdraw flow route { match { source 10.0.0.0/8; } }", "line 1: a withdrawal is no rule"),
    ("route a {\n match { source 10.0.0.0/8; }", "line 1: a route without a block that is closed"),
    ("route a { match { source 10.0.0.0/8; } then { redirect 1:1; } }", "line 1: the action 'redirect'"),
    ("\nroute a { matches { source 10.0.0.0/8; } }", "line 2: 'source' has no meaning here"),
    ("route a { match { source 10.0.0.0/8; } then { extended-community [ 0x8006000000000000 ]; } }", "the community"),
    ("route a { match { next-header 6; source 10.0.0.0/8; } then { discard; } }", "IPv4 and IPv6 in one rule"),
    ("route a { match { port [ =80; } then { discard; } }", "line 1: "),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[it[1] for it in WRONG])
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(text, "rules")
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1


def test_rules_are_asked_in_the_order_of_the_rfc() -> None:
    """RFC 8955, 5.1, and RFC 8956, 4: more specific before less, whatever the order of the text."""
    rules = [
        "destination 10.1.2.0/24 protocol tcp",  # a longer prefix before a shorter one
        "destination 10.1.2.0/24",  # more components before fewer
        "destination 10.1.0.0/16",
        "destination 10.9.0.0/24",  # then by address
        "destination 10.9.1.0/24",
        "source 10.0.0.0/24",  # a lower type of component first
        "protocol ==6 destination-port ==80",
        "protocol ==6 source-port ==80",
        "protocol ==17",
        "source-port '==53 ==80'",  # 0x01 53 ...: the bytes of the operators as they are sent
        "source-port ==53",  # 0x81 53
        "source-port ==54",
        "source-port ==1000",  # 0x91: two bytes
    ]
    chosen = random.Random(3)
    for _ in range(20):
        shuffled = chosen.sample(rules, len(rules))
        found = read("\n".join(f"{GOBGP4}{it} then discard" for it in shuffled), "rules")
        assert [shuffled[it.line - 1] for it in found] == rules
    prefixes = ("2001:db8::/64 16", "2001:db8::/32", "2001:db8::/48")
    found = read("\n".join(f"{GOBGP6}destination {it} then discard" for it in prefixes), "rules")
    assert [it.line for it in found] == [3, 2, 1]


def test_components_are_sent_as_the_rfc_says() -> None:
    """The bytes are those that ExaBGP 4.2.21 sends: RFC 8955, 4.2.1, with the example of 4.3.2 for the ports."""
    cases = [
        (Component.DESTINATION_PORT, (Op(False, 1, 80), Op(False, 3, 8000), Op(True, 5, 8010)), "0150131f40d51f4a"),
        (Component.TCP_FLAGS, (Op(False, 1, 2), Op(True, 2, 16)), "0102c210"),
        (Component.PORT, (Op(False, 3, 137), Op(True, 5, 139), Op(False, 1, 8080)), "0389458b911f90"),
        (Component.FLOW_LABEL, (Op(False, 1, 0x10000),), "a100010000"),
    ]
    for _, ops, expected in cases:
        assert encoded(ops).hex() == expected


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=6))
def test_numeric_comparisons_say_the_ranges_that_they_are_made_of(spans: list[tuple[int, int]]) -> None:
    everything = ((0, 255),)
    ranges = joined((min(it), max(it)) for it in spans)
    ops = numeric(ranges, everything)
    assert ops is not None
    assert ranges_of(ops, everything) == ranges


@given(st.sets(st.integers(0, 31), min_size=1))
def test_bitmask_comparisons_hold_for_the_members_that_they_are_made_of(members: set[int]) -> None:
    ops = bitmask(lambda it: it in members, 5)
    if ops is None:
        assert len(members) > 8
        return
    assert {it for it in range(32) if not ops or holds(ops, it)} == members


TESTS = """
    ip saddr 192.0.2.0/24; ip saddr { 192.0.2.1, 198.51.100.0/23 }; ip daddr != 192.0.2.0/24; ip protocol udp;
    ip6 saddr 2001:db8::/32; ip6 daddr 2001:db8::1-2001:db8::7; tcp dport { 22, 80, 8000-8010 }; tcp dport > 1023;
    udp sport != 53; udp dport != { 53, 80 }; tcp flags syn; tcp flags & (syn | ack) == syn; tcp flags != syn;
    tcp flags { syn, ack }; meta length 40-500; meta length < 60; ip dscp { 8, 46 }; ip6 dscp cs1; fragment yes;
    fragment no; fragment != first; ip frag-off & 0x1fff != 0; ip frag-off & 0x2000 != 0; icmp type { 0, 8 };
    icmpv6 type 128 icmpv6 code != 3; meta l4proto != tcp; th dport 53; meta length > 0; ip protocol tcp;
    ip frag-off & 0x5fff == 0x4000
"""
SAYABLE = st.lists(st.sampled_from([it.strip() for it in TESTS.split(";")]), min_size=1, max_size=4, unique=True).map(
    " ".join
)


@functools.cache
def samples() -> list[Sample]:
    chosen = random.Random(5)
    return [sample(chosen, number) for number in range(1500)]


@settings(max_examples=200)
@given(SAYABLE, st.sampled_from(FORMS))
def test_what_is_written_and_read_back_matches_the_same_packets(text: str, form: Form) -> None:
    try:
        rules = written(parse(text), DROP, form)
    except UsageError as error:
        assert "no packet can match" in str(error) or "FlowSpec cannot say" in str(error)
        return
    back = [it.match for it in read(rules, "rules")]
    match = parse(text)
    for it in samples():
        assert matches(match, it) == any(matches(one, it) for one in back), rules


def _path(parts: Sequence[object], *communities: Mapping[str, object], afi: int = 1) -> dict[str, object]:
    """A rule as GoBGP 3.10 shows it, received from ExaBGP 4.2.21."""
    attrs: list[object] = [
        {"type": 1, "value": 0},
        {"type": 16, "value": list(communities)},
        {"type": 14, "afi": afi, "safi": 133},
    ]
    return {"nlri": {"value": parts}, "age": 1795892646, "best": True, "attrs": attrs, "stale": False}


DNS = [
    {"type": 2, "value": {"prefix": "192.0.2.0/24"}},
    {"type": 3, "value": [{"op": 129, "value": 17}]},
    {"type": 6, "value": [{"op": 129, "value": 53}]},
    {"type": 10, "value": [{"op": 146, "value": 512}]},
]
WEB = [
    {"type": 3, "value": [{"op": 129, "value": 6}]},
    {"type": 5, "value": [{"op": 1, "value": 80}, {"op": 19, "value": 8000}, {"op": 213, "value": 8010}]},
    {"type": 9, "value": [{"op": 1, "value": 2}, {"op": 194, "value": 16}]},
]
DISCARD = {"type": 128, "subtype": 6, "as": 0, "rate": 0}
KILO = {"type": 128, "subtype": 12, "value": "DAAARHoAAA=="}  # 1000 packets a second
FURTHER = {"type": 128, "subtype": 7, "terminal": True, "sample": False}
FRAGMENTS = [{"type": 1, "value": {"prefix": "::/0"}, "offset": 0}, {"type": 12, "value": [{"op": 128, "value": 6}]}]


def test_what_gobgp_shows_in_json_is_read() -> None:
    table = {
        "web": [_path(WEB, KILO, FURTHER)],
        "dns": [_path(DNS, {"type": 0, "subtype": 2, "value": "65000:1"}, DISCARD)],
    }
    stream = [_path(FRAGMENTS, afi=2), {**_path(WEB, DISCARD), "withdrawal": True}]
    expected = [
        ("ip saddr 192.0.2.0/24 udp sport 53 meta length > 512", DROP),
        ("meta nfproto ipv4 tcp dport { 80, 8000-8010 } tcp flags & (syn | ack) == syn", PACKETS),
        ("meta nfproto ipv6 fragment yes", PASS),
    ]
    shown = [(match_text(it.match), it.does) for it in read(json.dumps(table), "rules")]
    assert shown == expected[:2]
    shown = [(match_text(it.match), it.does) for it in read(f"{json.dumps(table)}\n{json.dumps(stream)}\n", "rules")]
    assert shown == [expected[0], expected[2]]


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        ('{"a": ', "not valid JSON"),
        ("[1]", "rule 1: not a path of GoBGP: Expected `object`, got `int`"),
        ('{"a": []}', "rule 1: not a path of GoBGP"),
        ([_path(DNS, {"type": 128, "subtype": 8, "value": "65500:12345"})], "rule 1: the action of subtype 8"),
        ([_path([{"type": 14, "value": []}])], "rule 1: a component of type 14"),
        ([_path([{"type": 3, "value": {"prefix": "::/0"}}])], "rule 1: not a value of protocol"),
        ([_path([{"type": 3, "value": [{"op": 129, "value": 1 << 40}]}])], "rule 1: not a value of protocol"),
        ([_path([{"type": 1, "value": {"prefix": "192.0.2.0/99"}}])], "rule 1: not a prefix length"),
        ([_path(WEB, {**KILO, "value": "?"})], "rule 1: not a rate in packets"),
        ([_path(WEB, {**KILO, "value": "é"})], "rule 1: not a rate in packets"),
        ([_path(WEB, {"type": 8, "subtype": 0, "value": "CAAKAAABAAA="})], "rule 1: a redirection to a next hop"),
        (
            [{**_path(WEB), "attrs": [{"type": 16, "value": None}, {"type": 14, "afi": 1}]}],
            "rule 1: not a path of GoBGP: .* got `null`",
        ),
        ([{**_path(WEB), "attrs": [{"type": 14, "afi": [1]}]}], "rule 1: the rule does not say its IP version"),
        ([_path(WEB, afi=3)], "rule 1: the rule does not say its IP version"),
        ([_path(WEB, DISCARD), _path([{"type": 3, "value": []}])], "no packet can match this rule: meta l4proto"),
    ],
)
def test_json_that_is_no_rule(shown: object, message: str) -> None:
    text = shown if isinstance(shown, str) else json.dumps(shown)
    with pytest.raises(UsageError, match=message) as caught:
        read(text, "rules")
    assert caught.value.remedy


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1 << 70) | st.sampled_from(("192.0.2.0/24", "::/0", "x")) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("nlri", "attrs", "value", "type", "op", "prefix", "afi", "subtype")), inner)
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=2) | JSON.map(lambda it: [_path([{"type": 3, "value": [{"op": 1, "value": it}]}])]))
def test_any_json_is_rules_or_an_error(shown: object) -> None:
    with contextlib.suppress(UsageError):
        read(json.dumps(shown), "rules")


WORDS = """
    gobgp add match then destination source protocol port tcp-flags fragment packet-length dscp label route { } ; [ ]
    10.0.0.0/8 2001:db8::/32 =80 >=8000&<=8010 &!A =S is-fragment+first-fragment discard accept rate-limit 5
    action sample
    -a ipv4-flowspec ipv6-flowspec tcp ! & = then extended-community [0x800c0000447a0000] next-header # ' "
"""


@settings(max_examples=400)
@given(st.lists(st.sampled_from(WORDS.split()), max_size=16).map(" ".join) | st.text(max_size=60))
def test_any_text_is_rules_or_an_error(text: str) -> None:
    try:
        found = read(text, "rules")
    except UsageError as error:
        assert error.remedy
        assert len(str(error).splitlines()) == 1
    else:
        assert all(parse(match_text(it.match)) == it.match for it in found)
