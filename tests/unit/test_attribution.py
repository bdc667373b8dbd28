# SPDX-License-Identifier: GPL-2.0
"""The entry that a sample's number refers to: nothing for a removed one, and never another one's name."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from xdpguard.lists.addresses import AddressSet, aggregate
from xdpguard.policy.filters import FilterEntry as Written
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Kind, parse_ports, parse_prefix
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore
from xdpguard.store.lists import ListStore, NamedList
from xdpguard.telemetry.attribution import Attribution, ListEntry, describe

NOW = 1_795_000_000.0
SOURCE, OTHER = (socket.inet_aton(text) for text in ("198.51.100.7", "203.0.113.9"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store.db") as made:
        yield made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, moved by the test."""
    now = [1000.0]
    monkeypatch.setattr("xdpguard.telemetry.attribution.time.monotonic", lambda: now[0])
    return now


def put(store: Store, slot: int, text: str, created: float = NOW - 60, kind: Kind = "block", reason: str = "") -> None:
    target = parse_ports(text)[0] if kind == "port" else parse_prefix(text)[0]
    with store.transaction():
        store.remove([rule.id for rule in store.rules() if rule.slot == slot])
        store.put([(NewRule(kind, target, reason, "test", created, None), slot)])


def put_list(store: Store, number: int, name: str, text: str, loaded: float = NOW - 60) -> None:
    first = int.from_bytes(socket.inet_aton(text), "big")
    one, none = np.array([first], np.uint32), np.array([], np.uint64)
    entries: AddressSet = aggregate(one, one, none, none, np.array([], np.uint8))[0]
    lists = ListStore(store)
    with store.transaction():
        for its in lists.all():
            if its.number == number:
                lists.remove(its.name)
        lists.put(NamedList(name, number, "cli", "", "", "plain", loaded, 1, 1, 0, 0, False), entries)


def test_a_rule(store: Store) -> None:
    put(store, 3, "198.51.100.0/24", reason="why not")
    found = Attribution(store).rule(3, SOURCE, NOW)
    assert (found.target, found.reason, found.source) == ("198.51.100.0/24", "why not", "test")
    assert describe(found) == "rule 198.51.100.0/24 (why not)"
    assert describe(Attribution(store).rule(4, SOURCE, NOW)) == "a rule that was removed since"


@pytest.mark.parametrize(
    ("text", "created", "kind"),
    [
        ("203.0.113.9", NOW - 60, "block"),
        ("2001:db8::/32", NOW - 60, "block"),
        ("198.51.100.7", NOW + 5, "block"),
        ("198.51.100.7", NOW - 60, "allow"),
        ("80/tcp", NOW - 60, "port"),
    ],
)
def test_a_slot_that_belongs_to_another_rule_by_now(store: Store, text: str, created: float, kind: Kind) -> None:
    put(store, 3, text, created, kind)
    assert Attribution(store).rule(3, SOURCE, NOW).target is None


def test_a_rule_that_was_made_just_now(store: Store, clock: list[float]) -> None:
    """What was asked before is not true of it."""
    made = Attribution(store)
    put(store, 3, "203.0.113.9")
    assert made.rule(3, OTHER, NOW).target == "203.0.113.9"
    put(store, 3, "198.51.100.7")
    clock[0] += 0.2
    assert made.rule(3, SOURCE, NOW).target == "198.51.100.7"
    assert made.rule(3, OTHER, NOW).target is None


def test_answers_are_kept_a_while(store: Store, clock: list[float]) -> None:
    made = Attribution(store)
    put(store, 3, "198.51.100.7", reason="one")
    assert made.rule(3, SOURCE, NOW).reason == "one"
    put(store, 3, "198.51.100.7", reason="two")
    clock[0] += 1.9
    assert made.rule(3, SOURCE, NOW).reason == "one"
    clock[0] += 0.2
    assert made.rule(3, SOURCE, NOW).reason == "two"


def test_a_list(store: Store) -> None:
    put_list(store, 2, "bad", "192.0.2.1")
    made = Attribution(store)
    assert made.list(2, SOURCE, NOW) == ListEntry("bad"), "loaded before: it has been looked up there"
    assert describe(made.list(2, SOURCE, NOW)) == "list bad"
    assert describe(made.list(3, SOURCE, NOW)) == "a list that was removed or changed since"


def test_a_number_that_belongs_to_another_list_by_now(store: Store, clock: list[float]) -> None:
    made = Attribution(store)
    put_list(store, 2, "bad", "198.51.100.7")
    assert made.list(2, SOURCE, NOW).name == "bad"
    put_list(store, 2, "new", "203.0.113.9", loaded=NOW + 30)
    clock[0] += 3
    assert made.list(2, SOURCE, NOW).name is None
    assert made.list(2, OTHER, NOW).name == "new", "a list that was loaded anew holds what it held"
    assert made.list(2, SOURCE, NOW + 40).name == "new", "what came since was denied by it"


def test_no_entry() -> None:
    assert describe(None) == ""


def put_filter(store: Store, slot: int, limit: str = "", shadow: bool = False, created: float = NOW - 60) -> None:
    written = Written(f"f{slot}", "udp sport 53", "" if limit else "drop", limit, shadow=shadow, reason="amplified")
    with store.transaction():
        FilterStore(store).put([written.filter("cli", created).stored(slot, slot)])


def test_a_filter(store: Store) -> None:
    put_filter(store, 3)
    put_filter(store, 4, limit="10/s")
    found = Attribution(store).filter(3, False, NOW)
    assert (found.name, found.match, found.action, found.source) == ("f3", "udp sport 53", "drop", "cli")
    assert describe(found) == "filter f3 (amplified)"
    assert Attribution(store).filter(4, True, NOW).action == "limit 10/s"
    assert describe(Attribution(store).filter(5, False, NOW)) == "a filter that was removed or changed since"


def test_a_slot_that_belongs_to_another_filter_by_now(store: Store) -> None:
    """One that limits drops for another reason, one in shadow never, one made later not then."""
    put_filter(store, 3, limit="10/s")
    put_filter(store, 4)
    put_filter(store, 5, shadow=True)
    put_filter(store, 6, created=NOW + 5)
    asked = Attribution(store)
    assert [asked.filter(slot, slot == 4, NOW).name for slot in (3, 4, 5, 6)] == [None] * 4


def test_filters_are_read_again_as_rules_are(store: Store, clock: list[float]) -> None:
    asked = Attribution(store)
    assert asked.filter(3, False, NOW).name is None
    put_filter(store, 3)
    clock[0] += 0.2
    assert asked.filter(3, False, NOW).name == "f3"
