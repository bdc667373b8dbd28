# SPDX-License-Identifier: GPL-2.0
"""Whom an enforced default keeps from logging in again, and how what it has cut is summed up."""

from __future__ import annotations

import math
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdpguard.control import needed
from xdpguard.control.change import Changes
from xdpguard.control.default import DefaultPolicy, in_force, record, words_of
from xdpguard.control.outlook import DEFAULT, Outlook, default_mark
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.default import Cut, InForce
from xdpguard.policy.filter import Filter, NewFilter
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.model import Default
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Port, parse_prefix
from xdpguard.store.database import Store
from xdpguard.telemetry.cuts import by_port, by_source

PEER = parse_prefix("192.0.2.7")[0]
SSH, TUNNEL = Port(22, "tcp"), Port(51_820, "udp")
ENFORCED, STRICT = InForce("enforce", False), InForce("enforce", True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as made:
        yield made


def passing(text: str, action: str = "pass", mode: str = "enforce", expires: float | None = None) -> Filter:
    its = NewFilter(text, text, parse(text), action, None, mode, "", "cli", 0.0, expires)  # type: ignore[arg-type]
    return its.stored(1, 0)


def cut(store: Store, default: InForce, *ports: Port, filters: tuple[Filter, ...] = ()) -> str:
    """What cuts off the peer at once; empty if nothing does."""
    until, entry = Outlook(store, filters=filters, default=default).cut(PEER, ports)
    assert (until == math.inf) == (entry is None)
    return entry.words if entry else ""


def test_a_login_needs_more_than_a_listener(store: Store) -> None:
    assert cut(store, ENFORCED, SSH) == DEFAULT
    for harmless in (InForce("pass", False), InForce("shadow", True)):
        assert cut(store, harmless, SSH) == ""
    assert cut(store, STRICT) == "", "whom nobody logs in from is answered, not admitted"
    assert cut(store, ENFORCED, TUNNEL) == "", "its socket is open"
    assert cut(store, STRICT, TUNNEL) == DEFAULT


@pytest.mark.parametrize(
    ("its", "admits"),
    [
        (passing("tcp dport 22"), True),
        (passing("tcp dport { 22, 443 } tcp flags & (syn | ack) == syn"), True),
        (passing("ip saddr 192.0.2.0/24"), True),
        (passing("tcp dport 443"), False),
        (passing("udp dport 22"), False),
        (passing("ip saddr 198.51.100.0/24 tcp dport 22"), False),
        (passing("tcp dport 22 tcp flags & (syn | ack) == ack"), False),
        (passing("tcp dport 22 ip ttl > 60"), False),
        (passing("tcp dport 22", action="count"), False),
        (passing("tcp dport 22", mode="shadow"), False),
        (passing("tcp dport 22", expires=math.inf), False),
    ],
    ids=lambda it: f"{it.text} {it.action} {it.mode}" if isinstance(it, Filter) else "",
)
def test_a_filter_admits_it_if_it_surely_passes_the_first_segment(store: Store, its: Filter, admits: bool) -> None:
    assert cut(store, ENFORCED, SSH, filters=(its,)) == ("" if admits else DEFAULT)


def test_an_allow_rule_admits_everything(store: Store) -> None:
    with store.transaction():
        store.put([(NewRule("allow", PEER, "", "cli", 0.0, None), 0)], "enforce")
    assert cut(store, STRICT, SSH, TUNNEL) == ""


def test_what_was_forced_is_forgotten_with_the_next_default(store: Store) -> None:
    assert in_force(store) == InForce("pass", False)
    with store.transaction():
        record(store, STRICT)
    assert in_force(store) == STRICT
    assert words_of(in_force(store)) == "drop, enforced, strict for UDP"
    mark = default_mark(store)
    (entry,) = (it for it in Outlook(store).blocking(PEER, [SSH]) if it.words == DEFAULT)
    assert entry.mark == mark
    with store.transaction():
        store.put_fact("default_since", "1")
    assert default_mark(store) != mark
    assert needed.kept(store) == []


def test_what_is_in_force_counts_while_attached(store: Store) -> None:
    """The file may have been changed since, and counts from the next attach or reload on."""
    attached = True
    its = DefaultPolicy(Changes(store, lambda: attached), Pins(Path("/nonexistent"), "none"))
    written = Default(policy="drop", mode="shadow")
    assert its.current(written) == Default()
    with store.transaction():
        record(store, STRICT)
    assert its.current(written) == Default(policy="drop", mode="enforce", strict_udp=True)
    attached = False
    assert its.current(written) == written


def test_cuts_are_summed_up() -> None:
    one, other = (socket.inet_aton(f"192.0.2.{it}") for it in (1, 2))
    six = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    found = [
        Cut(one, 6, 23, 5, 300, 10.0), Cut(one, 17, 53, 2, 200, 30.0), Cut(other, 6, 23, 1, 60, 20.0),
        Cut(six, 58, 128, 3, 240, 5.0), Cut(six, 47, 0, 1, 90, 6.0),
    ]  # fmt: skip
    assert [tuple(it) for it in by_port(found)] == [
        ("23/tcp", 6, 360, 2, 20.0),
        ("icmpv6 type 128", 3, 240, 1, 5.0),
        ("53/udp", 2, 200, 1, 30.0),
        ("protocol 47", 1, 90, 1, 6.0),
    ]
    assert [tuple(it) for it in by_source(found)] == [
        ("192.0.2.1", 7, 500, ("23/tcp", "53/udp"), 30.0),
        ("2001:db8::1", 4, 330, ("icmpv6 type 128", "protocol 47"), 6.0),
        ("192.0.2.2", 1, 60, ("23/tcp",), 20.0),
    ]
    assert not by_port([])
    assert not by_source([])
