# SPDX-License-Identifier: GPL-2.0
"""FlowSpec rules in the JSON that ExaBGP tells its processes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec.rule import Does
from xdpguard.policy.flowspec.text import read
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.matching.writing import written as match_text

DISCARD = {"value": 0x8006000000000000, "string": "rate-limit:0"}
LIMIT = {"value": 0x8006000047C35000, "string": "rate-limit:100000"}
PACKETS = {"value": 0x800C0000447A0000, "string": ""}  # 1000 a second
TERMINAL = {"value": 0x8007000000000001, "string": "action terminal"}
SAMPLE = {"value": 0x8007000000000003, "string": "action sample-terminal"}
TARGET = {"value": 0x0002FDE800000001, "string": "target:65000:1"}
REDIRECT = {"value": 0x8008000A0000000A, "string": "redirect:10:10"}
DNS = "flow source-ipv4 192.0.2.0/24 protocol =udp source-port =53 packet-length >512"

WEB = "tcp dport { 80, 8000-8010 } tcp flags & (syn | ack) == syn"


def event(*rules: str, actions: Sequence[object] = (DISCARD,), family: str = "ipv4 flow", gone: bool = False) -> str:
    """An update as ExaBGP 4.2.21 tells it."""
    nlris = [{"string": it} for it in rules]
    update = {
        "attribute": {"origin": "igp", "local-preference": 100, "extended-community": list(actions)},
        **({"withdraw": {family: nlris}} if gone else {"announce": {family: {"no-nexthop": nlris}}}),
    }
    neighbor = {"asn": {"local": 65000, "peer": 65001}, "direction": "receive", "message": {"update": update}}
    return json.dumps({"exabgp": "4.0.1", "time": 1795892646.0, "type": "update", "neighbor": neighbor})


STATE = json.dumps({"exabgp": "4.0.1", "type": "state", "neighbor": {"state": "up"}})
END = json.dumps({"exabgp": "4.0.1", "type": "update", "neighbor": {"message": {"eor": {"afi": "ipv4"}}}})
# The text of rules is what ExaBGP 4.2.21 writes for the bytes of a received one.
CASES = [
    (event(DNS), [("ip saddr 192.0.2.0/24 udp sport 53 meta length > 512", Does("drop"))]),
    (
        event("flow protocol =tcp destination-port [ =80 >=8000&<=8010 ] tcp-flags [ =syn&!ack ]", actions=[PACKETS]),
        [(f"ip protocol tcp {WEB}", Does("limit", 1000, "packets")), (f"ip protocol tcp {WEB}", Does("pass"))],
    ),
    (
        event("flow tcp-flags =syn+ack", actions=[LIMIT, TERMINAL, TARGET]),
        [("ip protocol tcp tcp flags & (syn | ack) == syn | ack", Does("limit", 100_000, "bytes"))],
    ),
    (event("flow fragment !is-fragment"), [("meta nfproto ipv4 fragment { no, first }", Does("drop"))]),
    (
        event("flow protocol =icmp icmp-type [ =unreachable =echo-request ] icmp-code =3", actions=[SAMPLE]),
        [("icmp type { 3, 8 } icmp code 3", Does("count"))],
    ),
    (
        event("flow next-header =unknown protocol type 58 icmp-type =unknown icmp type type 128", family="ipv6 flow"),
        [("icmpv6 type 128", Does("drop"))],
    ),
    (
        event("flow source-ipv6 2001:db8::/32/0 next-header =udp", actions=[], family="ipv6 flow"),
        [("ip6 saddr 2001:db8::/32 ip6 nexthdr udp", Does("pass"))],
    ),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_what_exabgp_tells_is_read(text: str, expected: list[tuple[str, Does]]) -> None:
    found = [(match_text(it.match), it.does) for it in read(text, "events")]
    assert found == [(match_text(parse(words)), does) for words, does in expected]


def test_what_is_withdrawn_is_left_out_and_other_events_are_none_of_rules() -> None:
    web = "flow protocol =tcp destination-port =80"
    unicast = event("192.0.2.0/24", family="ipv4 unicast")
    stream = [STATE, event(DNS, web), unicast, END, event(web, gone=True), event(DNS, actions=[SAMPLE])]
    (found,) = read("\n".join(stream), "events")
    assert (match_text(found.match), found.does) == (
        "ip saddr 192.0.2.0/24 udp sport 53 meta length > 512",
        Does("count"),
    )
    with pytest.raises(UsageError, match="events: no FlowSpec rule in it"):
        read("\n".join(stream[:1]), "events")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (STATE + event(DNS, actions=[REDIRECT]), "event 2: the action of community 0x8008000a0000000a"),
        (event(DNS, actions=[{"value": 0x80090000000000FF}]), "event 1: the action of community 0x8009"),
        (event(DNS, actions=[{"value": 1 << 64}]), "not a community of 8 bytes"),
        (event(DNS, actions=[{"value": 0x80060000FFFFFFFF}]), "not a rate"),
        (event(DNS, family="ipv4 flow-vpn"), "rules of a VPN"),
        (event(DNS, family="ipv6 flow"), "IPv4 and IPv6 in one rule"),
        (event("flow colour =red"), "'colour' is not a component"),
        (event("flow protocol"), "a component without a value"),
        (event("192.0.2.0/24"), "not a rule: '192.0.2.0/24'"),
        (STATE + "[]", "event 2: not one of ExaBGP"),
        (STATE + "{", "not valid JSON"),
        (json.dumps({"exabgp": "4.0.1", "type": "update", "neighbor": 5}), "not an update of ExaBGP"),
    ],
)
def test_events_that_have_no_meaning_here_are_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read(text, "events")
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1


WORDS = "flow source-ipv4 192.0.2.0/24 protocol =udp source-port [ =53 >1 ] tcp-flags !ack fragment x"
PIECES = st.sampled_from(WORDS.split())
COMMUNITY: st.SearchStrategy[object] = (st.integers(0, 1 << 65) | st.just(0x8006 << 48)).map(lambda it: {"value": it})


@given(st.lists(PIECES, max_size=8).map(" ".join), st.lists(COMMUNITY, max_size=3))
def test_any_event_is_rules_or_an_error(rule: str, communities: list[object]) -> None:
    with contextlib.suppress(UsageError):
        read(event(rule, actions=communities), "events")
