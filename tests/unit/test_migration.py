# SPDX-License-Identifier: GPL-2.0
"""Stores of every older version, with entries and hits, opened by this one: nothing is lost, and nothing made up."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from support import old_stores
from support.timed import timed

from xdpguard.control.change import PENDING, Changes
from xdpguard.control.lists import Lists
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import XdpguardError
from xdpguard.lists.addresses import AddressSet, aggregate
from xdpguard.policy.hits import NO_SPLIT, Hits, Split
from xdpguard.policy.rule import Part, Rule
from xdpguard.policy.target import Port, parse_prefix
from xdpguard.store.attachments import Attachment, attachments
from xdpguard.store.database import Store
from xdpguard.store.lists import ListStore, NamedList
from xdpguard.store.offences import offences
from xdpguard.store.schema import VERSION
from xdpguard.store.timing import UNTIMED

A, WIDE, SIX = (parse_prefix(text)[0] for text in ("192.0.2.7", "198.51.100.0/24", "2001:db8::/32"))
RULES = [
    Rule(3, "block", A, "why", "cli", 1000.5, None, 1, 11, 660),
    Rule(5, "allow", SIX, "", "config", 1001.0, 9e9, 0, 2, 90),
    Rule(9, "port", Port(53, "udp"), "dns", "cli", 1002.0, None, 7, 0, 0),
]
SPLIT = Split(Hits(1, 60), Hits(2, 120), Hits(3, 180))
LISTED = Split(Hits(4, 240), Hits(5, 300), Hits(6, 360))
MARKS = ["pending", "interrupted", "shadow_pending", "lists_pending", "shadow_lists_pending"]


def entries() -> AddressSet:
    one, none = np.array([0xC6336401], np.uint32), np.array([], np.uint64)
    return aggregate(one, one, none, none, np.array([], np.uint8))[0]


def looked(store: Store, version: int) -> None:
    """What must be there."""
    assert store.rules() == RULES
    assert attachments(store) == [Attachment("eth0", "web", "native", True, 77, version >= 5)]
    assert (store.fact("maps"), store.fact("config")) == ("this boot:1", "/etc/x.toml")
    assert offences(store, "192.0.2.9") == ((3, 1004.0) if version >= 2 else (0, 0.0))
    lists, shadow_lists = ListStore(store), ListStore(store, "shadow")
    named = NamedList("bad", 1, "config", "/bad", "stamp", "plain", 1005.0, 4, 1, 2, 1, True, 21, 1260)
    assert lists.all() == ([named] if version >= 3 else [])
    if version >= 3:
        assert str(lists.entries("bad").prefix(4, 0)) == "198.51.100.1"
    shadow = store.rules(mode="shadow")
    if version < 4:
        assert (shadow, shadow_lists.all()) == ([], [])
        return
    assert [it._replace(id=0) for it in shadow] == [
        Rule(0, "block", A, "trial", "cli", 2000.0, None, 1, 6, 360, "shadow", SPLIT),
        Rule(0, "block", WIDE, "", "cli", 2001.0, 8e9, 0, 0, 0, "shadow", NO_SPLIT),
    ]
    assert not {it.id for it in shadow} & {it.id for it in RULES}
    assert store.fact("shadow_maps") == "this boot:2"
    counting = NamedList("bad", 0, "cli", "", "", "csv", 2002.0, 1, 1, 0, 0, False, 15, 900, "shadow", LISTED)
    assert shadow_lists.all() == [counting]
    assert str(shadow_lists.entries("bad").prefix(4, 0)) == "198.51.100.1"


@pytest.mark.parametrize("version", old_stores.VERSIONS)
def test_older_stores(tmp_path: Path, version: int) -> None:
    path = tmp_path / "store.db"
    old_stores.make(path, version, entries())
    before = path.read_bytes()
    with Store(path, read_only=True) as store:
        looked(store, version)
    assert path.read_bytes() == before, "who only reads migrates nothing"
    for _ in range(2):
        with Store(path) as store:
            looked(store, version)
            assert store.execute("PRAGMA user_version") == [(VERSION,)]
            assert store.fact(PENDING) == ""
    with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(tmp_path / "new.db")) as fresh:
        Store(tmp_path / "new.db").close()
        query = "SELECT type, name FROM sqlite_master ORDER BY name"
        assert database.execute(query).fetchall() == fresh.execute(query).fetchall()


@pytest.mark.parametrize("version", old_stores.VERSIONS)
@pytest.mark.parametrize("mark", MARKS)
def test_a_change_that_an_older_version_left_pending(tmp_path: Path, version: int, mark: str) -> None:
    path = tmp_path / "store.db"
    old_stores.make(path, version, entries(), [mark])
    for read_only in (True, False, True):
        with Store(path, read_only) as store:
            assert Changes(store, lambda: True).pending()
            assert {key for (key,) in store.execute("SELECT key FROM facts")} & set(MARKS) == {PENDING}


@pytest.mark.parametrize("version", [5, 6])
def test_a_migrated_store_can_be_changed(tmp_path: Path, version: int) -> None:
    path = tmp_path / "store.db"
    old_stores.make(path, version, entries())
    with Store(path) as store, store.transaction():
        assert store.used_slots() == {0, 1, 7}
        assert store.used_slots("shadow") == {0, 1}
        store.add_hits([(SPLIT, it.id) for it in store.rules(mode="shadow")] + [(Hits(1, 1), 3)])
        assert [it.split for it in store.rules(mode="shadow")] == [SPLIT.plus(SPLIT), SPLIT]
        assert store.find("block", [A])[A].packets == 12
        store.renumber()
        assert [it.slot for it in store.rules()] == [0, 1, 2]
        assert [it.slot for it in store.rules(mode="shadow")] == [1, 0]


def test_a_migrated_store_takes_parts_of_several_origins(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    old_stores.make(path, 6, entries())
    more = Part("config", "", None)
    with Store(path) as store:
        (rule,) = store.find("block", [A]).values()
        with store.transaction():
            store.put([(rule.as_new().of((more, *rule.parts)), rule.slot)])
    with Store(path, read_only=True) as store:
        (both,) = store.find("block", [A]).values()
        assert both == rule._replace(source="config", reason="", others=rule.parts)
        assert [it for it in store.rules() if it.others] == [both]


@pytest.mark.parametrize("version", [5, 6])
def test_a_migrated_store_takes_ends(tmp_path: Path, version: int) -> None:
    path = tmp_path / "store.db"
    old_stores.make(path, version, entries())
    with Store(path) as store:
        lists = ListStore(store)
        assert lists.entries("bad").ends is None
        assert lists.all()[0].timing == UNTIMED
        with store.transaction():
            lists.put(lists.all()[0], timed({"198.51.100.1": 2_000_000_000}))
    with Store(path, read_only=True) as store:
        assert ListStore(store).entries("bad").ends4.tolist() == [2_000_000_000]
        assert ListStore(store).all()[0].timing.next == 2_000_000_000


def test_a_store_from_before_there_were_lists(tmp_path: Path) -> None:
    """Reading commands migrate nothing; there are just no lists."""
    old_stores.empty(tmp_path / "old.db", 2)
    with Store(tmp_path / "old.db", read_only=True) as store:
        assert Lists(Changes(store, lambda: False), cast(Pins, None)).in_force() == []
        assert store.rules(mode="shadow") == []


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    old_stores.make(path, 5, entries())
    with monkeypatch.context() as patch:
        patch.setattr("xdpguard.store.migration._MARKS", "(nonsense")
        with pytest.raises(XdpguardError):
            Store(path)
    with Store(path) as store:
        looked(store, 5)


def test_a_store_of_a_newer_version(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(XdpguardError, match="newer"):
        Store(path)
