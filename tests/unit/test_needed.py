# SPDX-License-Identifier: GPL-2.0
"""What is let through although an entry blocks it, and who counts as logged in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xdpguard.control import needed
from xdpguard.control.change import Changes
from xdpguard.control.entries import Entries
from xdpguard.net import sessions, sockets
from xdpguard.policy.rule import SAFETY, NewRule
from xdpguard.policy.target import Kind, Port, Prefix, Target, parse_prefix
from xdpguard.store.database import Store

GATEWAY, PEER, STRANGER = "192.0.2.1", "198.51.100.7", "203.0.113.9"


def prefix(text: str) -> Prefix:
    return parse_prefix(text)[0]


class NoMaps:
    """Nothing is attached."""

    def exists(self) -> bool:
        return False

    def tables(self) -> Any:
        raise AssertionError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as made:
        yield made


@pytest.fixture
def book(store: Store, monkeypatch: pytest.MonkeyPatch) -> Entries:
    """A host with a gateway, somebody who is logged in, and a stranger on port 22."""
    roles = [
        sockets.Protected(prefix(GATEWAY), "this host's gateway"),
        sockets.Protected(prefix(PEER), sockets.LOGIN, (Port(22, "tcp"),), "sshd process 9, bob"),
    ]
    around = sessions.Around([sessions.Session(prefix(PEER), 22, "")], {prefix(STRANGER)}, {22})
    monkeypatch.setattr(sockets, "needed", lambda: roles)
    monkeypatch.setattr(sessions, "read", lambda: around)
    return Entries(Changes(store, NoMaps().exists), NoMaps().tables)


def put(book: Entries, kind: Kind, *targets: Target, life: float | None = None) -> None:
    book.add(kind, targets, "", "cli", life)


def settle(store: Store, book: Entries) -> list[str]:
    """What is let through now."""
    needed.keep(book, needed.conflicts(store))
    return [str(rule.target) for rule in store.rules("allow") if rule.source == SAFETY]


def test_only_while_it_is_blocked(store: Store, book: Entries) -> None:
    assert settle(store, book) == []
    put(book, "block", prefix("192.0.2.0/24"), prefix(PEER), prefix(STRANGER))
    assert sorted(settle(store, book)) == [GATEWAY, PEER]
    assert [str(it) for it in needed.kept(store)] == [
        f"{GATEWAY} is let through although block 192.0.2.0/24 blocks it: it is this host's gateway",
        f"{PEER} is let through although block {PEER} blocks it:"
        " it is where somebody is logged in from (sshd process 9, bob)",
    ]
    book.remove("block", [prefix("192.0.2.0/24")])
    assert [str(it.address) for it in needed.kept(store)] == [PEER], "true at this moment, not as it was settled"
    assert settle(store, book) == [PEER]
    put(book, "block", prefix("198.51.0.0/16"))
    needed.keep(book, needed.conflicts(store))
    (rule,) = [rule for rule in store.rules("allow") if rule.source == SAFETY]
    assert rule.reason == f"where somebody is logged in from (sshd process 9, bob); block {PEER}, block 198.51.0.0/16"


@pytest.mark.parametrize(("life", "kept"), [(None, []), (3600.0, []), (60.0, [GATEWAY])])
def test_an_allowance_that_lasts_settles_it(store: Store, book: Entries, life: float | None, kept: list[str]) -> None:
    put(book, "block", prefix(GATEWAY))
    put(book, "allow", prefix("192.0.2.0/30"), life=life)
    assert settle(store, book) == kept


def test_the_port_one_is_logged_in_over(store: Store, book: Entries) -> None:
    put(book, "port", Port(80, "tcp"))
    assert settle(store, book) == []
    put(book, "port", Port(22, "tcp"))
    assert settle(store, book) == [PEER], "not the stranger"
    assert needed.kept(store)[0].blocked_by == "closed port 22/tcp"


def test_what_the_configuration_is_about_to_say(store: Store, book: Entries) -> None:
    """Its rules count before they are stored; an allowance that it does not name any more does not."""
    now = time.time()
    block = NewRule("block", prefix("192.0.2.0/24"), "", "config", now, None)
    allow = NewRule("allow", prefix(GATEWAY), "", "config", now, None)
    book.replace_source("config", [allow])
    assert [str(it.address) for it in needed.conflicts(store, rules=[block])] == [GATEWAY]
    assert needed.conflicts(store, rules=[block, allow]) == []


def test_forced(store: Store, book: Entries) -> None:
    """Of that rule alone; one that is made anew is another one."""
    put(book, "block", prefix(GATEWAY), prefix(PEER))
    needed.accept(store, blocks=[prefix(GATEWAY)])
    assert settle(store, book) == [PEER]
    needed.accept(store, addresses=[prefix("198.51.100.0/24")])
    assert settle(store, book) == []
    book.remove("block", [prefix(GATEWAY)])
    put(book, "block", prefix("192.0.2.0/24"))
    assert settle(store, book) == [GATEWAY]


def test_not_logged_in(store: Store, book: Entries) -> None:
    assert needed.not_logged_in(store) == []
    put(book, "block", prefix("203.0.113.0/24"), prefix(PEER))
    assert needed.not_logged_in(store) == [(prefix(STRANGER), "block 203.0.113.0/24")]


def test_the_configuration_names_no_rule_any_more(store: Store, book: Entries) -> None:
    """Nothing to come is not the same as nothing said: its allowances go, its blocks go."""
    put(book, "block", prefix(GATEWAY))
    book.replace_source("config", [NewRule("allow", prefix("192.0.2.0/24"), "", "config", time.time(), None)])
    assert needed.conflicts(store) == []
    assert [str(it.address) for it in needed.conflicts(store, rules=[])] == [GATEWAY]
    book.remove("block", [prefix(GATEWAY)])
    book.replace_source("config", [NewRule("block", prefix("192.0.2.0/24"), "", "config", time.time(), None)])
    assert [str(it.address) for it in needed.conflicts(store)] == [GATEWAY]
    assert needed.conflicts(store, rules=[]) == []


def test_the_configuration_repeats_what_was_forced(store: Store, book: Entries) -> None:
    put(book, "block", prefix(GATEWAY))
    needed.accept(store, blocks=[prefix(GATEWAY)])
    block = NewRule("block", prefix(GATEWAY), "", "config", time.time() + 1, None)
    assert needed.conflicts(store, rules=[block]) == []


def test_an_allowance_that_lasts_as_long_as_the_block(store: Store, book: Entries) -> None:
    put(book, "allow", prefix(GATEWAY), life=90)
    put(book, "block", prefix(GATEWAY), life=60)
    assert needed.conflicts(store) == []
    put(book, "block", prefix("192.0.2.0/24"), life=600)
    (found,) = needed.conflicts(store)
    assert found.blocked_by == "block 192.0.2.0/24", "which lasts longer"
