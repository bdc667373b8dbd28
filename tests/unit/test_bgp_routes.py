# SPDX-License-Identifier: GPL-2.0
"""Routes of BGP neighbors: how long they live, what they become, what goes upstream. No daemon, no kernel."""

from __future__ import annotations

import json
import os

import pytest

from xdpguard.bridges.bgp import announcing
from xdpguard.bridges.bgp.exabgp import Ended, ExaBGP
from xdpguard.bridges.bgp.gobgp import GoBGP
from xdpguard.bridges.bgp.plan import Bounds, Planner, left_over
from xdpguard.bridges.bgp.routes import SETTLING, Routes, blackhole, faulty, flow
from xdpguard.errors import UsageError
from xdpguard.policy.filter import Filter, NewFilter
from xdpguard.policy.filters import FilterEntry, new_filter
from xdpguard.policy.flowspec import gobgp
from xdpguard.policy.flowspec.rule import Actions, Component, Op, Rule
from xdpguard.policy.rule import NewRule
from xdpguard.policy.rule import Rule as Block
from xdpguard.policy.target import parse_prefix

ADD = "gobgp global rib -a ipv4-flowspec add match"
HOLD = 300.0


def rule(text: str) -> Rule:
    return gobgp.read(f"{ADD} {text}")


DNS = flow(rule("destination 192.0.2.1/32 protocol ==17 destination-port ==53 then discard"))
WEB = flow(rule("destination 192.0.2.1/32 protocol ==6 destination-port ==80 then rate-limit 1000"))


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def routes(clock: Clock) -> Routes:
    made = Routes(HOLD, clock)
    made.established("a", 1000.0)
    made.announced("a", DNS)
    return made


def test_what_is_withdrawn_goes_at_once(routes: Routes) -> None:
    assert routes.wanted() == [DNS]
    routes.withdrawn("a", DNS.key)
    assert routes.wanted() == []


def test_a_key_tells_packets_and_not_what_is_done(routes: Routes) -> None:
    other = flow(rule("destination 192.0.2.1/32 protocol ==17 destination-port ==53 then rate-limit 5"))
    assert other.key == DNS.key
    routes.announced("a", other)
    assert routes.wanted() == [other]
    six = gobgp.read("gobgp global rib -a ipv6-flowspec add match protocol ==17 then discard")
    assert flow(six).key != flow(rule("protocol ==17 then discard")).key


def test_a_session_that_ends_leaves_its_routes_for_a_while(routes: Routes, clock: Clock) -> None:
    routes.ended("a")
    clock.at += HOLD / 2
    routes.ended("a")
    assert routes.lapse() == []
    assert (routes.wanted(), routes.held(), routes.up) == ([DNS], 1, 0)
    assert routes.due() == 1000.0 + HOLD
    clock.at = 1000.0 + HOLD
    assert routes.lapse() == [DNS.key]
    assert routes.wanted() == []


def test_a_session_that_is_back_has_to_announce_again(routes: Routes, clock: Clock) -> None:
    routes.announced("a", WEB)
    routes.ended("a")
    clock.at += 10
    routes.established("a")
    assert not routes.settled()
    routes.announced("a", WEB)
    clock.at += SETTLING
    assert routes.settled()
    assert routes.lapse() == [DNS.key]
    assert routes.wanted() == [WEB]


def test_tables_that_are_read(routes: Routes, clock: Clock) -> None:
    routes.became("a", {WEB.key: WEB})
    assert routes.wanted() == [WEB], "the session is there: the other one was withdrawn"
    routes.ended("a")
    routes.became("a", {})
    assert routes.wanted() == [WEB]
    clock.at += 5
    routes.established("a", 2.0)
    routes.became("a", {DNS.key: DNS})
    assert set(routes.wanted()) == {DNS, WEB}, "it may still come"
    routes.became("a", {})
    assert routes.wanted() == [WEB], "announced over this session, and withdrawn"
    clock.at += SETTLING
    routes.lapse()
    assert routes.wanted() == []


def test_a_session_that_was_replaced_between_two_looks(routes: Routes, clock: Clock) -> None:
    clock.at += 2
    routes.established("a", 0.0)
    routes.became("a", {})
    assert routes.wanted() == [DNS], "not withdrawn: the new session has not come to it"
    clock.at += SETTLING
    assert routes.lapse() == [DNS.key]


def test_two_neighbors(routes: Routes, clock: Clock) -> None:
    routes.established("b", 1000.0)
    other = flow(rule("destination 192.0.2.1/32 protocol ==17 destination-port ==53 then rate-limit 5"))
    routes.announced("b", other)
    assert routes.wanted() == [DNS], "the first by name"
    routes.ended("a")
    assert routes.wanted() == [other], "what is announced comes before what is held"
    clock.at += HOLD
    routes.lapse()
    assert routes.wanted() == [other]


def planned(*routes: object, left: tuple[NewFilter, ...] = (), **bounds: object) -> tuple[list[str], list[str]]:
    plan = Planner(Bounds(**bounds)).plan(list(routes), left, 5000.0)  # type: ignore[arg-type]
    assert all(it.expires == 5000.0 for it in plan.entries if it not in left)
    words = [
        f"{it.does} {it.text}" if isinstance(it, NewFilter) else f"{it.kind} {it.target}"
        for it in plan.entries
        if isinstance(it, (NewFilter, NewRule))
    ]
    return words, [str(it) for it in plan.refused]


def test_order_and_names_do_not_depend_on_arrival() -> None:
    wide = flow(rule("destination 192.0.2.0/24 then discard"))
    hole = blackhole(parse_prefix("2001:db8::1")[0])
    expected = [
        "drop ip6 daddr 2001:db8::1",
        "limit 8kbit/s ip daddr 192.0.2.1 tcp dport 80",
        "pass ip daddr 192.0.2.1 tcp dport 80",
        "drop ip daddr 192.0.2.1 udp dport 53",
        "drop ip daddr 192.0.2.0/24",
    ]
    for order in ([wide, hole, DNS, WEB], [WEB, DNS, hole, wide]):
        assert planned(*order) == (expected, [])
    planner = Planner(Bounds())
    names = [it.name for it in planner.plan([wide, DNS], [], 1.0).entries if isinstance(it, NewFilter)]
    again = [it.name for it in planner.plan([DNS, wide, WEB], [], 2.0).entries if isinstance(it, NewFilter)]
    assert set(names) < set(again)
    assert all(it.startswith("bgp.fs-") for it in again)


def test_what_is_refused() -> None:
    ten = blackhole(parse_prefix("10.0.0.0/8")[0])
    everything = flow(rule("destination 0.0.0.0/0 then discard"))
    narrow = flow(rule("destination 0.0.0.0/0 protocol ==17 then discard"))
    words, refused = planned(ten, everything, narrow, faulty("x", "no meaning"))
    assert words == ["drop ip protocol udp"]
    assert len(refused) == 3
    assert any("faulty x: no meaning" in it for it in refused)
    assert any("10.0.0.0/8: its prefix is shorter than /16" in it for it in refused)
    assert planned(ten, shortest4=8)[0] == ["drop ip daddr 10.0.0.0/8"]
    words, refused = planned(DNS, WEB, max_filters=2)
    assert len(words) == 2
    assert ["may have 2 filters" in it for it in refused] == [True]


def test_what_may_not_accept_shields_nothing_and_nothing_is_dropped_instead() -> None:
    friend = flow(rule("destination 192.0.2.1/32 source 198.51.100.0/24 then accept"))
    wide = flow(rule("destination 192.0.2.0/24 then discard"))
    elsewhere = flow(rule("destination 203.0.113.0/24 then discard"))
    words, refused = planned(friend, wide, elsewhere, accept=False)
    assert words == ["drop ip daddr 203.0.113.0/24"]
    assert any("it would drop what bgp.fs-" in it for it in refused), refused


def test_sources_of_blackholes_by_choice() -> None:
    hole = blackhole(parse_prefix("192.0.2.0/24")[0])
    assert planned(hole) == (["drop ip daddr 192.0.2.0/24"], [])
    assert planned(hole, sources=True)[0] == ["drop ip daddr 192.0.2.0/24", "block 192.0.2.0/24"]


def stored(name: str, match: str, source: str = "cli", limit: str = "", action: str = "drop") -> Filter:
    entry = FilterEntry(name, match, "" if limit else action, limit)
    return new_filter(entry, source, 0.0, 900.0 if source == "bgp" else None).stored(0, 0)


def test_filters_of_an_earlier_run_keep_their_place_and_end_soon() -> None:
    filters = [stored("bgp.fs-1", "ip daddr 192.0.2.0/24", "bgp"), stored("mine", "udp dport 1")]
    (left,) = left_over(filters, 100.0, 300.0)
    assert left.expires == 400.0
    wider = flow(rule("destination 192.0.0.0/16 then discard"))
    words, _ = planned(wider, DNS, left=(left,))
    assert words == [
        "drop ip daddr 192.0.2.1 udp dport 53",
        "drop ip daddr 192.0.2.0/24",
        "drop ip daddr 192.0.0.0/16",
    ]
    assert left_over(filters, 1000.0, 300.0) == []


def test_whatever_a_neighbor_sends_stops_nothing() -> None:
    odd = [
        Rule(4, ((kind, (Op(False, operator, 70_000),)),), Actions(rate=0))
        for kind in Component
        for operator in range(8)
        if kind > 2
    ]
    left = stored("bgp.fs-2", "@nh,96,24 & 0xfffff == 7", "bgp").as_new()
    words, refused = planned(*map(flow, odd), DNS, left=(left,), max_filters=1024)
    assert "drop ip daddr 192.0.2.1 udp dport 53" in words
    assert words[-1] == f"drop {left.text}", "what FlowSpec cannot place is asked last"
    assert refused


OWN = announcing.own_prefixes(["192.0.2.0/24", "2001:db8::/32"])


def said(rules: list[Rule]) -> list[str]:
    return [gobgp.written(it).partition(" match ")[2] for it in rules]


def block(target: str, source: str, expires: float | None = None) -> Block:
    return NewRule("block", parse_prefix(target)[0], "", source, 0.0, expires).stored(0, "enforce")


def test_only_what_the_guard_has_proved_goes_upstream() -> None:
    blocks = [block("198.51.100.7", "guard", 500.0), block("198.51.100.8", "cli"), block("198.51.100.9", "guard", 50.0)]
    assert said(announcing.of_bans(blocks, OWN, 100.0)) == [
        "destination 192.0.2.0/24 source 198.51.100.7/32 then discard"
    ]


def test_filters_go_upstream_for_own_destinations_and_without_sources() -> None:
    filters = [
        stored("friend", "udp sport 123 udp dport 123", action="pass"),
        stored("source", "ip saddr 198.51.100.0/24 udp dport 53"),
        stored("elsewhere", "ip daddr 203.0.113.1 udp dport 53"),
        stored("narrow", "ip daddr 192.0.2.7 udp dport 53"),
        stored("ntp", "udp sport 123"),
        stored("both", "ip protocol tcp tcp dport 22", limit="8mbit/s"),
        stored("theirs", "udp dport 99", "bgp"),
        stored("unsaid", "ip ttl 5"),
        stored("counted", "udp dport 98", action="count"),
    ]
    assert said(announcing.of_filters(filters, OWN, 100.0)) == [
        "destination 192.0.2.7/32 protocol ==17 destination-port ==53 then discard",
        "destination 192.0.2.0/24 protocol ==6 destination-port ==22 then rate-limit 1000000 action terminal",
    ]


def test_caps_a_least_life_and_a_second_look_before_withdrawing() -> None:
    first, second, third = (rule(f"destination 192.0.2.{it}/32 protocol ==17 then discard") for it in (1, 2, 3))
    its = announcing.Announcing(announcing.Terms("bans", OWN, most=2, least=60.0), {})
    steps = its.steps([first, second, third], set(), 0.0)
    assert (steps.announce, steps.withdraw, steps.over) == ([first, second], [], 1)
    for one in steps.announce:
        its.announced(one, 0.0)
    there = set(its.held)
    assert its.steps([second], there, 10.0) == ([], [], 0), "not yet a minute"
    assert its.steps([second], there, 61.0) == ([], [first], 0)
    its.withdrawn(first)
    there = set(its.held)
    assert its.steps([second, third], there, 62.0).announce == [third], "there is room"
    assert its.steps([], there, 100.0).withdraw == [], "seen once"
    assert its.steps([second], there, 102.0).withdraw == [], "and it is wanted again"
    assert its.steps([], there, 104.0).withdraw == []
    assert its.steps([second], set(), 105.0).announce == [second], "the daemon has lost it"


def test_own_prefixes() -> None:
    for texts, words in (([], "--own"), (["0.0.0.0/0"], "cannot be your own")):
        with pytest.raises(UsageError, match=words):
            announcing.own_prefixes(texts)


class Fed:
    """An ExaBGP of pipes."""

    def __init__(self) -> None:
        fed, self.feed = os.pipe()
        self.told, telling = os.pipe()
        self.its = ExaBGP(fed, telling)
        self._own = (fed, self.feed, self.told, telling)

    def close(self) -> None:
        for number in self._own:
            os.close(number)

    def says(self, routes: Routes, *values: object) -> None:
        for value in values:
            text = value if isinstance(value, str) else json.dumps(value)
            os.write(self.feed, f"{text}\n".encode())
        self.its.heard()
        self.its.look(routes)

    def heard(self) -> list[str]:
        return os.read(self.told, 4096).decode().splitlines()


def event(kind: str, **its: object) -> dict[str, object]:
    return {"exabgp": "4.0.1", "type": kind, "neighbor": {"address": {"peer": "10.99.0.1"}, **its}}


def test_events_of_exabgp(clock: Clock) -> None:
    fed, routes = Fed(), Routes(HOLD, clock)
    hole = {"announce": {"ipv4 unicast": {"10.99.0.1": [{"nlri": "192.0.2.9/32"}]}}}
    community = {"attribute": {"community": [[100, 20], [65535, 666]]}}
    text = "flow destination-ipv4 10.99.0.2/32 protocol =udp destination-port =7000"
    bad = "flow destination-ipv4 10.99.0.2/32 bogus =1"
    drop = {"attribute": {"extended-community": [{"value": 9225060886715039744}]}}
    rules = {**drop, "announce": {"ipv4 flow": {"no-nexthop": [{"string": bad}, {"string": text}]}}}
    try:
        assert fed.heard() == ["show neighbor summary"]
        fed.says(routes, "Peer AS", "10.99.0.1 65001 0:00:10 established", "done", "10.99.0.9 is no answer now")
        assert fed.heard() == ["neighbor 10.99.0.1 teardown 4"]
        fed.says(routes, event("state", state="up"), "{broken", event("nonsense"), event("update", message=7))
        assert routes.up == 1
        fed.says(routes, event("update", message={"update": {**community, **hole}}))
        fed.says(routes, event("update", message={"update": rules}), event("update", message={"eor": {}}))
        assert [it.key for it in routes.wanted() if not it.fault] == [
            "blackhole 192.0.2.9",
            "4 destination 10.99.0.2/32; protocol =17; destination-port =7000",
        ]
        assert [it.fault != "" for it in routes.wanted()].count(True) == 1, "one that is wrong takes no other with it"
        fed.says(routes, event("update", message={"update": hole}))
        assert not any(it.key.startswith("blackhole") for it in routes.wanted()), "announced without the community"
        fed.says(routes, event("update", message={"update": {"withdraw": {"ipv4 flow": [{"string": text}]}}}))
        assert [it for it in routes.wanted() if not it.fault] == []
        fed.says(routes, event("state", state="down"))
        assert routes.up == 0
        fed.its.announce(rule("destination 192.0.2.1/32 protocol ==17 then discard"))
        (line,) = fed.heard()
        assert line.startswith("announce flow route xdpguard { match { destination 192.0.2.1/32;")
        os.close(fed.feed)
        with pytest.raises(Ended):
            fed.its.heard()
        fed.feed = os.open(os.devnull, os.O_RDONLY)
    finally:
        fed._own = (fed._own[0], fed.feed, fed._own[2], fed._own[3])
        fed.close()


def test_a_table_of_the_whole_internet_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def answer(*words: str) -> object:
        asked.append(words)
        return {"num_destination": 900_000 if words[-1] == "ipv4" else 3} if "summary" in words else None

    monkeypatch.setattr("shutil.which", lambda name: name)
    its = GoBGP("127.0.0.1:1")
    monkeypatch.setattr(its, "_asked", answer)
    monkeypatch.setattr(its, "_watch", lambda now: None)
    assert its.look(Routes(HOLD))
    assert [it[-1] for it in asked if "summary" not in it] == ["ipv4-flowspec", "ipv6-flowspec", "ipv6", "neighbor"]
    assert "the ipv4 table of GoBGP has 900,000 routes" in its.fault
