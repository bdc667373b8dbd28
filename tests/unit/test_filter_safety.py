# SPDX-License-Identifier: GPL-2.0
"""Which filters would cut off what the host needs, and which would not; and that changes that do are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fake_filters import FakeMaps, made, new
from support.timed import timed

from xdpguard.control import default, needed, needs, promote, safety, undo_checks
from xdpguard.control import filter_order as order
from xdpguard.control.filter_lists import FilterLists
from xdpguard.control.filter_outlook import cutting
from xdpguard.control.outlook import Outlook
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.tables.default import InForce
from xdpguard.errors import XdpguardError
from xdpguard.net import sockets
from xdpguard.net.sockets import Protected, Service
from xdpguard.policy.filter import Filter, NewFilter
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Port, parse_prefix
from xdpguard.store.database import Store
from xdpguard.store.lists import ListStore, NamedList

OPERATOR, GATEWAY = "198.51.100.7", "192.0.2.1"
SSH = Port(22, "tcp")
TUNNEL = Port(51820, "udp")
DNS = Service(Port(53, "udp"), (32_768, 60_999))


@pytest.fixture
def its(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ruleset]:
    """A host with an operator who is logged in, and a gateway."""
    there = [
        Protected(parse_prefix(OPERATOR)[0], "the other end of an SSH session to this host", (SSH,), "sshd process 7"),
        Protected(parse_prefix(GATEWAY)[0], "this host's gateway"),
    ]
    monkeypatch.setattr(needs, "refusing", lambda *_: there)
    monkeypatch.setattr(needs, "now", lambda *_: there)
    with Store(tmp_path / "store.db") as store:
        yield made(store, FakeMaps())


def filters(*wanted: NewFilter) -> list[Filter]:
    held: list[Filter] = []
    for it in wanted:
        held = order.with_new(held, it, "", replace=False)
    return held


def cut(its: Ruleset, held: list[Filter], address: str, *ports: Port) -> list[str]:
    return [it.filter.name for it in cutting(held, FilterLists(its.store), parse_prefix(address)[0], ports)]


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ("tcp dport 22", True),
        ("tcp dport { 80, 22 }", True),
        ("tcp dport 1-1024", True),
        ("ip saddr 198.51.100.0/24", True),
        ("meta l4proto tcp", True),
        ("tcp dport 22 meta length > 1000", True),  # part of it
        ("ip dscp cs1", True),
        ("state established", True),
        ("tcp flags & ack == ack", True),
        ("tcp sport 1024-65535", True),
        ("meta nfproto { ipv4, ipv6 }", True),
        ("ip daddr 203.0.113.1", True),
        ("@th,0,16 0x1234", True),
        ("tcp dport 23", False),
        ("udp dport 22", False),
        ("ip saddr 203.0.113.0/24", False),
        ("ip saddr != 198.51.100.0/24 tcp dport 22", False),
        ("tcp dport 22 tcp flags & (syn | ack) == syn", False),  # nobody is cut off whose connection stands
        ("icmp type echo-request", False),
        ("ip6 saddr ::/0", False),
        ("meta length > 1500", False),
        ("ip frag-off & 0x1fff != 0", False),
        ("tcp sport 0", False),
    ],
)
@pytest.mark.parametrize("action", ["drop", "limit"])
def test_a_login(its: Ruleset, match: str, hit: bool, action: str) -> None:
    one = new("x", match, limit="10/s" if action == "limit" else "")
    assert cut(its, filters(one), OPERATOR, SSH) == ["x"] * hit


@pytest.mark.parametrize(
    ("limit", "per", "does"),
    [
        ("100000/s", "filter", "would drop some of its packets once all that it matches exceeds 100000/s"),
        ("10gbit/s", "source/24", "would drop some of its packets once the network of that address exceeds 10gbit/s"),
        ("10/s", "source", "would drop its packets above 10/s"),
        ("8kbit/s", "source+port", "would drop its packets above 8kbit/s"),
        ("20/s", "source", ""),
        ("1mbit/s", "source+port", ""),
        ("100/m", "source", "would drop its packets above 100/m"),
    ],
)
def test_a_limit_on_the_whole_host(its: Ruleset, limit: str, per: str, does: str) -> None:
    """It cuts off who shares it with a flood, or gets too little; a share of one's own is enough for a login."""
    cap = new("cap", "meta nfproto { ipv4, ipv6 }", limit=limit, per=per)
    for address, ports in ((OPERATOR, [SSH]), (GATEWAY, [])):
        found = list(cutting(filters(cap), FilterLists(its.store), parse_prefix(address)[0], ports))
        assert [it.does for it in found] == [does] * bool(does)
    if does:
        with pytest.raises(XdpguardError, match=f"the filter cap {does}$"):
            safety.check_filters(its.store, filters(cap))
    else:
        safety.check_filters(its.store, filters(cap))


def test_what_is_only_possible_is_said_so(its: Ruleset) -> None:
    with pytest.raises(XdpguardError, match=r"the filter x may drop its packets$"):
        safety.check_filters(its.store, filters(new("x", "tcp dport 22 meta length > 1000")))


def test_an_attach_is_judged_by_the_default_that_it_brings(its: Ruleset) -> None:
    passing, enforced = InForce("pass", False), InForce("enforce", False)
    with its.store.transaction():
        default.record(its.store, enforced)
    safety.check_attach(its.store, {""}, [], default=passing)
    with its.store.transaction():
        default.record(its.store, passing)
    safety.check_attach(its.store, {""}, [])
    with pytest.raises(XdpguardError, match=rf"{OPERATOR} is .*, over 22/tcp, and a new login there belongs"):
        safety.check_attach(its.store, {""}, [], default=enforced)
    configured = order.with_source([], "config", [new("ssh", "tcp dport 22", "pass", source="config")])
    safety.check_attach(its.store, {""}, [], filters=configured, default=enforced)
    assert needed.conflicts(its.store, coming=enforced)
    assert not needed.conflicts(its.store, filters=configured, coming=enforced)


def test_removing_what_admits_a_login(its: Ruleset) -> None:
    """Refused while the default drops; forced, it is said what that cuts off, and `run` does not let it through."""
    its.filters.apply(filters(new("ssh", "tcp dport 22", "pass"), new("x", "udp dport 9")))
    with its.store.transaction():
        default.record(its.store, InForce("enforce", False))
    held = its.filters.stored.all()
    assert safety.lost_by_filters(its.store, order.without(held, ["x"])) == ([], False)
    left = order.without(held, ["ssh"])
    with pytest.raises(XdpguardError, match="a new login there belongs to nothing that the default admits"):
        safety.check_filters(its.store, left)
    (said,), by_default = safety.lost_by_filters(its.store, left)
    assert said.startswith(f"{OPERATOR} is the other end of an SSH session to this host (sshd process 7), over 22/tcp")
    assert by_default


@pytest.mark.parametrize("more", [{"action": "count"}, {"action": "pass"}, {"shadow": True}])
def test_what_drops_nothing(its: Ruleset, more: dict[str, Any]) -> None:
    assert cut(its, filters(new("x", "tcp dport 22", **more)), OPERATOR, SSH) == []


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ("ip saddr 192.0.2.0/24", True),
        ("ip saddr 0.0.0.0-255.255.255.255", True),
        ("meta nfproto ipv4", True),
        ("ip saddr 192.0.2.1 udp sport 53", False),  # something else comes from there
        ("ip saddr 192.0.2.0/25 ip ttl < 5", False),
        ("ip saddr 192.0.2.2", False),
        ("ip6 saddr ::/0", False),
    ],
)
def test_an_address_that_is_needed_as_a_whole(its: Ruleset, match: str, hit: bool) -> None:
    assert cut(its, filters(new("x", match)), GATEWAY) == ["x"] * hit


@pytest.mark.parametrize(
    ("match", "hit"),
    [
        ("udp sport 53", True),
        ("udp sport { 53, 123 } meta length < 600", True),
        ("meta l4proto udp", True),
        ("ip saddr 192.0.2.0/24", True),
        ("udp sport 53 meta length > 512", False),  # of large answers alone
        ("udp sport 123", False),
        ("udp dport 53", False),
        ("udp sport 53 udp dport < 1024", False),  # no answer comes there
        ("udp sport 53 udp dport 32768-60999", True),
        ("udp sport 53 udp dport >= 1024", True),
        ("udp sport 53 udp dport 32768-40000", False),  # some get through
        ("udp sport 53 state != established", True),  # all, for a resolver that does not connect its sockets
        ("udp sport 53 state established", True),
    ],
)
def test_a_server_that_is_asked(its: Ruleset, match: str, hit: bool) -> None:
    held = filters(new("x", match))
    found = cutting(held, FilterLists(its.store), parse_prefix(GATEWAY)[0], (), DNS)
    assert [it.filter.name for it in found] == ["x"] * hit


def test_the_ports_that_answers_come_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    its = tmp_path / "range"
    monkeypatch.setattr(sockets, "_PORT_RANGE", its)
    assert sockets.dns() == Service(Port(53, "udp"), (32_768, 60_999)), "the kernel's own, where it cannot be read"
    its.write_text("10000\t20000\n")
    assert sockets.dns() == Service(Port(53, "udp"), (10_000, 20_000))


def test_a_tunnel(its: Ruleset) -> None:
    assert cut(its, filters(new("x", "udp dport 51820")), OPERATOR, TUNNEL) == ["x"]
    assert cut(its, filters(new("x", "udp dport 51820 state != established")), OPERATOR, TUNNEL) == ["x"]
    assert cut(its, filters(new("x", "udp dport 51820 state established")), OPERATOR, TUNNEL) == []
    assert cut(its, filters(new("x", "tcp dport 51820")), OPERATOR, TUNNEL) == []


def test_what_passes_before(its: Ruleset) -> None:
    drop = new("drop", "tcp dport 22")
    for match, protects in (
        ("ip saddr 198.51.100.7", True),
        ("ip saddr 198.51.100.7 tcp dport 22", True),
        ("ip saddr 198.51.100.7 meta length < 1000", False),
        ("ip saddr 198.51.100.8", False),
    ):
        one = new("pass", match, "pass")
        assert cut(its, filters(one, drop), OPERATOR, SSH) == ["drop"] * (not protects)
        assert cut(its, filters(drop, one), OPERATOR, SSH) == ["drop"]
    short = new("pass", "tcp dport 22", "pass", life=60)
    assert cut(its, filters(short, drop), OPERATOR, SSH) == ["drop"], "it ends, and the other stays"
    assert cut(its, filters(short, new("drop", "tcp dport 22", life=30)), OPERATOR, SSH) == []
    assert cut(its, filters(new("pass", "tcp dport 22", "pass", shadow=True), drop), OPERATOR, SSH) == ["drop"]


def test_lists(its: Ruleset) -> None:
    stored = ListStore(its.store)
    assert not stored.all()
    coming = FilterLists(its.store, {"bad": timed({"198.51.100.0/24": 0})})
    one = filters(new("x", "ip saddr @bad"))
    other = filters(new("x", "ip saddr != @bad"))
    operator = parse_prefix(OPERATOR)[0]
    assert [it.filter.name for it in cutting(one, coming, operator, [SSH])] == ["x"]
    assert not list(cutting(other, coming, operator, [SSH]))
    assert not list(cutting(one, FilterLists(its.store), operator, [SSH])), "a list that is missing holds nothing"
    assert not list(cutting(other, FilterLists(its.store), operator, [SSH])), "nor does it hold for anybody, negated"
    maps = FakeMaps()
    kept = made(its.store, maps)
    kept.filters.stored.put(it._replace(slot=0) for it in other)
    kept.filters.resync()
    assert [match.tests[-1].ranges for match in maps.filters.matches()] == [()]
    empty = FilterLists(its.store, {"bad": timed({})})
    assert [it.filter.name for it in cutting(other, empty, operator, [SSH])] == ["x"], "positive control: it is there"


def test_a_list_that_filters_ask(its: Ruleset) -> None:
    """A list in shadow drops nothing by itself; by a filter it may, and then it is checked."""
    first = timed({"203.0.113.0/24": 0})
    named = NamedList("bad", 0, "cli", "", "", "plain", 0.0, 1, 1, 0, 0, False, mode="shadow")
    its.shadow_lists.apply([(named, first)], [])
    safety.check_asked(its.store, "bad", timed({"198.51.100.0/24": 0}))  # nobody asks it
    its.filters.apply(filters(new("x", "ip saddr @bad tcp dport 22")))
    safety.check_asked(its.store, "bad", timed({"203.0.113.0/25": 0}))
    safety.check_asked(its.store, "other", timed({"198.51.100.0/24": 0}))
    with pytest.raises(XdpguardError, match=rf"{OPERATOR} is .* with this list bad the filter x would drop"):
        safety.check_asked(its.store, "bad", timed({"198.51.100.0/24": 0}))
    its.filters.apply(filters(new("ssh", "tcp dport 22", "pass"), new("x", "ip saddr @bad tcp dport 22")))
    safety.check_asked(its.store, "bad", timed({"198.51.100.0/24": 0}))


def test_changes_are_refused(its: Ruleset) -> None:
    """Adding, moving, promoting, removing what passes, and undoing: each names the filter and the session."""
    its.filters.apply(filters(new("pass", "ip saddr 198.51.100.7", "pass"), new("drop", "tcp dport 22")))
    shadow = new("shadow", "tcp dport 22", shadow=True)
    its.filters.apply(order.with_new(its.filters.stored.all(), shadow, "pass", replace=False))
    held = its.filters.stored.all()
    safety.check_filters(its.store, held)
    for wanted in (
        order.with_new(held, new("new", "tcp dport 22"), "pass", replace=False),
        order.moved(held, "drop", "pass"),
        order.moved(held, "pass", ""),
        order.without(held, ["pass"]),
        order.promoted(held, ["shadow"]),
        order.with_new(held, new("pass", "ip saddr 198.51.100.8", "pass"), "", replace=True),
    ):
        with pytest.raises(XdpguardError, match=rf"{OPERATOR} is the other end of an SSH session.*the filter (\w+) wo"):
            safety.check_filters(its.store, wanted)
    with pytest.raises(XdpguardError, match="the filter shadow would drop its packets"):
        promote.check(its, promote.choose(its, [], [], ["shadow"], everything=False))
    with pytest.raises(XdpguardError, match=r"this host's gateway.*the filter all would drop"):
        safety.check_filters(its.store, order.with_new(held, new("all", "ip saddr 192.0.2.0/24"), "", replace=False))


def test_what_has_ended_cuts_nobody_off(its: Ruleset) -> None:
    """A change leaves in the store what has ended, as the clock may be wrong, but the kernel does not get it."""
    alive, ended = (filters(new("x", "tcp dport 22", life=life)) for life in (60.0, -1.0))
    with pytest.raises(XdpguardError, match="the filter x would drop its packets"):
        safety.check_filters(its.store, alive)
    safety.check_filters(its.store, ended)
    assert not needed.conflicts(its.store, filters=ended)


def test_what_is_allowed_never_reaches_a_filter(its: Ruleset) -> None:
    its.rules.add_rules([NewRule("allow", parse_prefix(OPERATOR)[0], "", "cli", 0.0, None)])
    wanted = filters(new("x", "tcp dport 22"))
    safety.check_filters(its.store, wanted)
    its.filters.apply(wanted)
    with pytest.raises(XdpguardError, match="the filter x would drop its packets"):
        safety.check_disallow(its.store, [parse_prefix(OPERATOR)[0]])


def test_the_service_lets_through_what_a_filter_of_the_file_would_drop(its: Ruleset) -> None:
    """Nobody is there to be refused: as with rules and lists, what the host needs gets an allow rule."""
    wanted = order.with_source([], "config", [new("x", "tcp dport 22", source="config")])
    found = needed.conflicts(its.store, filters=wanted)
    assert [(str(it.address), it.blocked_by) for it in found] == [(OPERATOR, "the filter x")]
    its.filters.apply(wanted)
    needed.keep(its.rules, needed.conflicts(its.store))
    assert [(str(it.target), it.source) for it in its.store.rules("allow")] == [(OPERATOR, "safety")]
    its.filters.apply([])
    needed.keep(its.rules, needed.conflicts(its.store))
    assert its.store.rules("allow") == []


def test_what_was_forced_is_not_let_through(its: Ruleset) -> None:
    its.filters.apply(filters(new("x", "tcp dport 22")))
    assert needed.conflicts(its.store)
    needed.accept(its.store, filters=["x"])
    assert not needed.conflicts(its.store)
    safety.check_filters(its.store, its.filters.stored.all())
    its.filters.apply(filters(new("y", "tcp dport 22")))
    assert needed.conflicts(its.store), "another filter was not forced"


def test_an_undo_is_refused(its: Ruleset) -> None:
    from xdpguard.control import restoring
    from xdpguard.store import journal

    its.filters.apply(filters(new("drop", "tcp dport 22")))
    its.changes.record("pass")
    its.filters.apply(
        order.with_new(its.filters.stored.all(), new("pass", "tcp dport 22", "pass"), "drop", replace=False)
    )
    (change,) = journal.changes(its.store)
    steps = restoring.steps(its.store, journal.touched(its.store, change), strict=True)
    with pytest.raises(XdpguardError, match="the filter drop would drop its packets"):
        undo_checks.check(its.store, steps)


def test_until_when(its: Ruleset) -> None:
    outlook = Outlook(its.store, filters=filters(new("x", "tcp dport 22", life=60)))
    operator = parse_prefix(OPERATOR)[0]
    until, entry = outlook.cut(operator, [SSH])
    assert (until, entry and entry.words) == (0.0, "the filter x")
    its.rules.add_rules([NewRule("allow", operator, "", "cli", 0.0, None)])
    assert outlook.cut(operator, [SSH])[1] is None
