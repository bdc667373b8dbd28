# SPDX-License-Identifier: GPL-2.0
"""Keys, values and the union of what publishers want: in any order, twice, broken; the digest of what is known."""

from __future__ import annotations

import random
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.fleet import hosts
from xdpguard.fleet.keys import SETTLED, Key, parse_key
from xdpguard.fleet.message import LARGEST, decode, encode, filter_value, value_of
from xdpguard.fleet.state import Message, State
from xdpguard.policy.filter import NewFilter
from xdpguard.policy.filters import FilterEntry
from xdpguard.policy.foreign import Entry
from xdpguard.policy.rule import CLI, FLEET, GUARD, NewRule
from xdpguard.policy.target import Prefix, parse_prefix

NOW = time.time()
PREFIXES = st.one_of(
    st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 32)),
    st.tuples(st.binary(min_size=16, max_size=16).filter(lambda it: it[:10] != bytes(10)), st.integers(0, 128)),
)


def prefix(text: str) -> Prefix:
    return parse_prefix(text)[0]


def key(host: str, target: str) -> Key:
    return Key(host, "block", prefix(target))


def value(target: str, end: float | None = None, origin: str = CLI, reason: str = "") -> bytes:
    return encode(value_of(NewRule("block", prefix(target), reason, FLEET, NOW, end), origin))


def message(number: int, host: str, target: str, data: bytes | None = b"", **more: Any) -> Message:
    return Message(number, str(key(host, target)), value(target, **more) if data == b"" else data)


def ends(state: State, ban_after: int = 0) -> dict[str, float | None]:
    return {str(it.target): it.expires for it in state.all_wanted(ban_after) if isinstance(it, NewRule)}


@given(PREFIXES)
def test_a_prefix_comes_back_as_it_went(made: tuple[bytes, int]) -> None:
    network, length = made
    number = int.from_bytes(network, "big") >> (len(network) * 8 - length) << (len(network) * 8 - length)
    target = Prefix(number.to_bytes(len(network), "big"), length)
    if target.version == 6 and target.network[:10] == bytes(10):
        return  # an IPv4 address written as IPv6
    there = Key("web-1_x", "block", target)
    assert parse_key(str(there)) == there


@pytest.mark.parametrize(
    "text",
    ["", "web1", "web1.block", "web1.block.", "we b.block.4-c6336407-32", "web1.port.4-c6336407-32",
     "web1.block.4-c6336407-33", "web1.block.4-c6336407-24", "web1.block.6-c6336407-32", "web1.block.4-C6336407-32",
     "web1.block.4-c633640-32", "web1.block.6-00000000000000000000ffffc6336407-128", "web1.filter.a.b", "web1.filter.",
     f"{'a' * 64}.block.4-c6336407-32"],
)  # fmt: skip
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"its|not"):
        parse_key(text)


@given(st.binary(max_size=200))
def test_no_value_raises_anything_else(data: bytes) -> None:
    with pytest.raises(ValueError, match="its value"):
        decode("web1.block.4-c6336407-32", data)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"v": 2}, "version 2"), ({"kind": "allow"}, "another target"), ({"target": "198.51.100.8"}, "another target"),
     ({"end": -1}, "not Unix times"), ({"end": 1e300}, "not Unix times"), ({"end": "soon"}, "not an entry"),
     ({"made": None}, "not an entry"), ({"reason": "x" * LARGEST}, "longer than")],
)  # fmt: skip
def test_what_is_no_value(change: dict[str, object], why: str) -> None:
    good = msgspec.json.decode(value("198.51.100.7"))
    assert decode("web1.block.4-c6336407-32", msgspec.json.encode(good)).entry.reason == ""
    with pytest.raises(ValueError, match=why):
        decode("web1.block.4-c6336407-32", msgspec.json.encode(good | change))


def test_a_filter_comes_back_as_it_went() -> None:
    entry = FilterEntry("web", "tcp dport 80", limit="1000/s", per="source", reason="calm")
    record = decode("web1.filter.web", encode(filter_value(entry, NOW + 60)))
    assert isinstance(record.entry, NewFilter)
    assert (record.entry.does, record.entry.reason, record.entry.expires) == (
        f"limit {record.entry.limit}", "calm", NOW + 60,
    )  # fmt: skip


def test_a_target_is_wanted_while_anybody_wants_it() -> None:
    state = State()
    state.take([message(1, "web1", "198.51.100.7", end=NOW + 10), message(2, "web2", "198.51.100.7", end=NOW + 60)])
    assert ends(state) == {"198.51.100.7": NOW + 60}
    state.take([message(3, "web2", "198.51.100.7", None)])
    assert ends(state) == {"198.51.100.7": NOW + 10}
    state.take([message(4, "web3", "198.51.100.7")])
    assert ends(state) == {"198.51.100.7": None}, "for good is later than any end"
    assert state.take([message(5, "web1", "198.51.100.7", None), message(6, "web3", "198.51.100.7", None)]) == {
        ("block", "4-c6336407-32")
    }
    assert (ends(state), len(state), state.digest) == ({}, 0, State().digest)


def test_in_any_order_and_twice_it_comes_to_the_same() -> None:
    """The last change of each key counts, as a snapshot and what is heard meanwhile bring them."""
    chance = random.Random(7)
    changes = [
        message(number, f"web{chance.randrange(3)}", f"198.51.100.{chance.randrange(20)}", end=NOW + number)
        for number in range(1, 200)
    ]
    wanted = State()
    wanted.take(changes)
    last = {it.key: it for it in changes}
    snapshot = State()
    snapshot.become(last.values())
    assert (snapshot.digest, ends(snapshot)) == (wanted.digest, ends(wanted))
    for _ in range(5):
        mixed = [*changes, *chance.sample(changes, 50)]
        chance.shuffle(mixed)
        state = State()
        state.take(mixed)
        assert (state.digest, ends(state)) == (wanted.digest, ends(wanted))
    other = State()
    other.take([*changes, message(500, "web1", "198.51.100.1", end=NOW + 1000.5)])
    assert other.digest != wanted.digest


def test_a_snapshot_tells_what_is_gone() -> None:
    state = State()
    state.take([message(1, "web1", "198.51.100.7"), message(2, "web1", "198.51.100.8")])
    assert len(state.become([message(2, "web1", "198.51.100.8")])) == 2
    assert list(ends(state)) == ["198.51.100.8"]


def test_bans_of_guards_count_once_enough_have_made_them() -> None:
    state = State()
    state.take([message(1, "web1", "198.51.100.7", origin=GUARD, end=NOW + 60)])
    assert ends(state, 2) == {}
    assert ends(state, 0) == ends(state, 1) == {"198.51.100.7": NOW + 60}
    state.take([message(2, "web2", "198.51.100.7", origin=GUARD, end=NOW + 50)])
    assert ends(state, 2) == {"198.51.100.7": NOW + 60}
    state.take([message(3, "web3", "198.51.100.9", end=NOW + 50)])
    assert ends(state, 3) == {"198.51.100.9": NOW + 50}, "what a user wants counts at once"


def test_bans_that_ended_long_ago_do_not_count() -> None:
    """A host that is gone takes none back."""
    state, now = State(), time.time()
    for number, end in enumerate((now - 8000, now + 60), 1):
        state.take([message(number, f"web{number}", "198.51.100.7", end=end, origin=GUARD)])
    assert ends(state, ban_after=2) == {}
    state.take([message(3, "web3", "198.51.100.7", end=now - 60, origin=GUARD)])
    assert ends(state, ban_after=2) == {"198.51.100.7": now + 60}, "positive control, with clocks that differ"


def test_a_publisher_with_too_many_crowds_out_itself() -> None:
    state = State()
    state.take(message(number, "flood", f"10.0.{number // 256}.{number % 256}") for number in range(1, 500))
    state.take([message(600, "web1", "198.51.100.7"), message(601, "operator", "203.0.113.1")])

    def first(count: int) -> list[Entry]:
        return list(state.all_wanted())[:count]

    assert [str(it.target) for it in first(3) if isinstance(it, NewRule)] == ["203.0.113.1", "10.0.0.1", "198.51.100.7"]


def test_the_surplus_of_a_publisher_is_the_same_in_whatever_order_it_comes() -> None:
    """What another host, or an operator, wants as well counts; the digest is of all."""
    flood = [message(number, "flood", f"10.0.0.{number}") for number in range(1, 7)]
    others = [message(7, "web1", "10.0.0.5"), message(8, "operator", "10.0.0.6"), message(9, "web1", "198.51.100.7")]
    states = [State(), State()]
    states[0].take([*flood, *others])
    for it in reversed([*flood, *others]):
        states[1].take([it])
    for state in states:
        assert (state.over(3), state.over(6)) == ({"flood": 6}, {})
        assert {target for _, target in state.surplus(3)} == {"4-0a000004-32"}
        assert state.surplus(6) == set()
        kept = {str(it.target) for it in state.all_wanted(0, state.surplus(3)) if isinstance(it, NewRule)}
        assert kept == {*(f"10.0.0.{number}" for number in (1, 2, 3, 5, 6)), "198.51.100.7"}
    assert states[0].digest == states[1].digest
    states[0].take([message(10, "flood", "10.0.0.2", None)])
    assert states[0].surplus(3) == set(), "the next one counts now"
    states[0].become(flood)
    assert (states[0].over(5), len(states[0].surplus(5))) == ({"flood": 6}, 1)


def test_broken_values_are_kept_apart() -> None:
    state = State()
    state.take([message(1, "web1", "198.51.100.7"), message(2, "web1", "198.51.100.8", b"{")])
    assert len(state.broken) == len(state) == 1
    state.take([message(3, "web1", "198.51.100.7", b"[]")])
    assert ends(state) == {}, "what a key said before is over"
    state.take([message(4, "web1", "198.51.100.7"), message(5, "web1", "198.51.100.8", None)])
    assert (state.broken, list(ends(state))) == ({}, ["198.51.100.7"])
    assert state.take([Message(6, SETTLED, b"x")]) == set()
    assert state.settled == "x"


def test_what_a_host_itself_publishes_is_known_apart() -> None:
    """By every way in: one by one, deleted, broken, and a whole snapshot; and `keys` counts all."""
    state = State("web1")
    state.take(
        [message(1, "web1", "198.51.100.7"), message(2, "web2", "198.51.100.7"), message(3, "web1", "203.0.113.1")]
    )
    assert ([str(it.key) for it in state.own.values()], state.keys) == (
        [str(key("web1", "198.51.100.7")), str(key("web1", "203.0.113.1"))], 3,
    )  # fmt: skip
    state.take([message(4, "web1", "198.51.100.7", None), message(5, "web1", "203.0.113.1", b"{")])
    assert (state.own, state.keys, len(state)) == ({}, 1, 1)
    state.take([message(6, "web2", "198.51.100.7"), message(7, "web1", "198.51.100.7")])
    assert (len(state.own), state.keys) == (1, 2)
    state.become([message(8, "web1", "203.0.113.9"), message(9, "web3", "203.0.113.9")])
    assert ([str(it.key) for it in state.own.values()], state.keys) == ([str(key("web1", "203.0.113.9"))], 2)


def test_what_is_still_to_be_published_counts_here_and_not_in_the_digest() -> None:
    state = State()
    record = decode(str(key("web1", "198.51.100.7")), value("198.51.100.7"))
    state.pending = {("block", "4-c6336407-32"): record}
    assert ends(state) == {"198.51.100.7": None}
    assert state.digest == State().digest
    state.become([])
    assert ends(state) == {"198.51.100.7": None}


@pytest.mark.parametrize(
    "its",
    [
        hosts.HostState(at=-1e300),
        hosts.HostState(at=1e300),
        hosts.HostState(v=2),
        hosts.HostState(clock=10**18),
        hosts.HostState(bans=10**400),
        hosts.HostState(sources=-1),
        hosts.HostState(floods=("eth0",) * 10_000),
        hosts.HostState(version="x" * 10_000),
    ],
)
def test_what_a_host_says_of_itself_is_bounded(its: hosts.HostState) -> None:
    good = hosts.HostState(at=NOW, floods=("eth0",))
    assert hosts.decode(msgspec.json.encode(good), NOW) == good
    assert hosts.decode(msgspec.json.encode(its), NOW) is None


@pytest.mark.parametrize("data", [b"", b"[", b"[" * 100_000, b"{}x", b'{"at": 1e999}', b'{"at": "\xff"}', b"\0" * 100])
def test_what_is_no_state(data: bytes) -> None:
    assert hosts.decode(data, NOW) is None
