# SPDX-License-Identifier: GPL-2.0
"""Rows that were changed, lost or added otherwise than by the program, which SQLite does not notice: each is told."""

from __future__ import annotations

import math
import sqlite3
import struct
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.timed import timed

from xdpguard.control.recover import complaint
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.errors import XdpguardError
from xdpguard.policy.filter import Filter
from xdpguard.policy.hits import Hits
from xdpguard.policy.matching.parsing import parse
from xdpguard.policy.rule import NewRule, Part
from xdpguard.policy.target import Port, parse_prefix
from xdpguard.store import clock, keeping
from xdpguard.store.attachments import Attachment, attachments, put_attachment, remove_attachment
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore
from xdpguard.store.lists import ListStore, NamedList
from xdpguard.store.schema import VERSION

END, CREATED = 2_000_000_123.25, 1_600_000_777.5
A, B, C, SIX = (parse_prefix(it)[0] for it in ("192.0.2.7", "192.0.2.8", "198.51.100.0/24", "2001:db8::/32"))
FOUR = bytes((203, 0, 113, 0))
TABLES = ("rules", "parts", "lists", "list_entries", "filters", "facts", "interfaces", "any_mtu")


def _filter(name: str, slot: int) -> Filter:
    text = f"udp dport 500{slot}"
    return Filter(name, text, parse(text), "drop", None, "enforce", "why so", "cli", CREATED, END, slot, slot)


def _fill(store: Store) -> None:
    """Put rows into each table, in which each value is found that a test looks for."""
    parts = (Part("config", "the longest", None), Part("cli", "some other reason", END))
    with store.transaction():
        store.put([(NewRule("block", A, "a reason", "cli", CREATED, END), 0x1234)])
        store.put([(NewRule("block", B, "", "cli", CREATED, None).of(parts), 1)])
        store.put([(NewRule("allow", SIX, "mine", "config", CREATED, None), 2)])
        store.put([(NewRule("port", Port(53, "udp"), "dns", "cli", CREATED, None), 3)])
        store.put([(NewRule("block", C, "tried", "cli", CREATED, None), 0)], "shadow")
        for mode in ("enforce", "shadow"):
            lists = ListStore(store, mode)
            its = NamedList("bad", 1, "cli", "/the/file", "stamp", "plain", CREATED, 4, 1, 2, 1, False)
            lists.put(its, timed({"203.0.113.0/24": 2_000_000_000, "2001:db8:7::/48": 0}))
        FilterStore(store).put([_filter("first", 0), _filter("second", 1)])
        store.put_fact("guard", '{"mode": "always"}')
        store.put_fact("default", "drop")
        put_attachment(store, Attachment("eth0", "web", "native", True, 77, True), CREATED)
        put_attachment(store, Attachment("eth1", "", "native", False, 78), CREATED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "x" / "store.db"
    with Store(found) as store:
        _fill(store)
        store.keep_copy(now=True)
    assert complaint(found) is None
    return found


def _read_all(store: Store) -> None:
    """Read what the commands read that list everything."""
    for mode in ("enforce", "shadow"):
        store.rules(mode=mode)
        lists = ListStore(store, mode)
        for it in lists.all():
            lists.entries(it.name)
    FilterStore(store).alive(0.0)
    store.fact("guard")
    attachments(store)


def _told(path: Path, words: str) -> None:
    """It is told by whatever reads all of it and by `recover`; and no copy is made of it."""
    for read_only in (True, False):
        with Store(path, read_only) as store, pytest.raises(keeping.Damaged, match=words) as said:
            _read_all(store)
        assert "xdpguard recover" in said.value.remedy
    assert complaint(path) is not None
    before = keeping.copy_of(path).read_bytes()
    with Store(path) as store:
        store.keep_copy(now=True)
    assert keeping.copy_of(path).read_bytes() == before
    assert complaint(keeping.copy_of(path)) is None


ROW = b"enforceblock192.0.2.7\x04\xc0\x00\x02\x07 a reasoncli" + struct.pack(">d", CREATED) + struct.pack(">d", END)


@pytest.mark.parametrize(
    ("where", "at", "words"),
    [
        (ROW, ROW.index(b"block"), "the rules"),
        (ROW, ROW.index(b"192"), "the rules"),
        (ROW, ROW.index(b"\xc0") + 3, "the rules"),  # of the network
        (ROW, ROW.index(b" a reason"), "the rules"),  # the length in bits
        (ROW, ROW.index(b"reason"), "the rules"),
        (ROW, ROW.index(b"cli"), "the rules"),
        (ROW, len(ROW) - 16, "the rules"),  # when it was made
        (ROW, len(ROW) - 7, "the rules"),  # the end
        (ROW + b"\x12\x34", len(ROW), "the rules"),  # the slot
        (b"shadowblock198.51.100.0/24\x04", 0, "the rules"),
        (b"enforceblock192.0.2.8clisome other reason", 30, "the parts of rules"),
        (b"enforcebadcli/the/file", 14, "the lists"),
        (b"enforcebad" + FOUR[::-1], 11, "the entries of a list"),
        (struct.pack("<I", 2_000_000_000), 1, "the entries of a list"),  # an end
        (b"udp dport 5000[[", 13, "the filters"),
        (b"]drop", 1, "the filters"),
        (b'guard{"mode": "always"}', 17, "the settings"),
        (b"defaultdrop", 8, "the settings"),
        (b"eth0webnative", 4, "the interfaces"),
    ],
)
@pytest.mark.parametrize("bit", [1, 64])
def test_a_bit_that_has_flipped(path: Path, where: bytes, at: int, words: str, bit: int) -> None:
    data = bytearray(path.read_bytes())
    assert where in data, "the test's own setting"
    data[data.index(where) + at] ^= bit
    path.write_bytes(data)
    _told(path, words)


def test_rows_that_fell_off_their_page(path: Path) -> None:
    """The number of rows in a page is one byte, whose change loses or adds rows."""
    with closing(sqlite3.connect(path)) as other:
        pages = dict(other.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'"))
        (size,) = other.execute("PRAGMA page_size").fetchone()
    good = path.read_bytes()
    for name in ("rules", "filters", "lists", "facts", "interfaces"):
        data = bytearray(good)
        begin = (pages[name] - 1) * size
        assert data[begin] == 13, "a leaf"
        data[begin + 4] -= 1
        path.write_bytes(data)
        _told(path, "is damaged")  # SQLite sees some of it


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_somebody_has_removed(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})")
    _told(path, "written")


def test_a_row_that_somebody_has_added(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("INSERT INTO facts VALUES ('policy_in_force', '{}')")
    _told(path, "the settings in it are not those that were written")


def test_a_number_that_has_become_bytes(path: Path) -> None:
    """The type of a value is in one byte before the row's values: 8 is the number 0, 12 are no bytes."""
    data = bytearray(path.read_bytes())
    types = bytes((0x15, 0x0D, 0x1B, 0x19, 0x13, 0x07, 0x07, 8, 8))  # the last two: position and slot of the filter
    data[data.index(types) + 7] = 12
    path.write_bytes(data)
    _told(path, "the filters")


def test_what_sqlite_says_of_it_need_not_be_text(path: Path) -> None:
    """A bit has flipped in the schema, which SQLite quotes, and Python cannot decode."""
    data = bytearray(path.read_bytes())
    data[data.index(b"CREATE TABLE rules") + 7] ^= 128
    path.write_bytes(data)
    for read_only in (True, False):
        with pytest.raises(keeping.Damaged), Store(path, read_only) as store:
            _read_all(store)


def test_a_column_of_another_name(path: Path) -> None:
    data = path.read_bytes()
    assert data.count(b"deadline REAL") == 1
    path.write_bytes(data.replace(b"deadline REAL", b"deadlinf REAL"))
    assert "its table changes has other columns" in str(complaint(path))


def test_a_sum_that_was_lost(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DELETE FROM sums WHERE place = 'rules' AND part = 'allow'")
    _told(path, "the rules in it are not those that were written")


def test_a_change_of_a_damaged_store_does_not_hide_it(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE rules SET reason = 'changed' WHERE target = '192.0.2.7'")
    with Store(path) as store:
        (rule,) = store.find("block", [A]).values()
        with store.transaction():
            store.remove([rule.id])
            store.put([(NewRule("block", C, "", "cli", CREATED, None), 9)])
    _told(path, "the rules")


def test_the_sums_follow_whatever_the_program_does(path: Path) -> None:
    with Store(path) as store:
        store.put([(NewRule("block", A, "another", "cli", CREATED, None), 7)])  # one that is there
        store.add_hits([(Hits(1, 60), it.id) for it in store.rules()])
        store.check()
        with store.transaction():
            store.renumber()
            clock.begin(store)
            clock.follow(store, 3600.0)
            FilterStore(store).put([_filter("first", 1), _filter("third", 0)])  # replaces two, one by its slot
            lists = ListStore(store)
            lists.put(lists.all()[0]._replace(file="/another"), timed({"192.0.2.0/24": 0}))
            put_attachment(store, Attachment("eth0", "web", "generic", False, 79), CREATED)
        store.check()
        assert [it.name for it in FilterStore(store).all()] == ["third", "first"]
        with pytest.raises(ZeroDivisionError), store.transaction():
            store.put([(NewRule("block", C, "", "cli", CREATED, None), 9)])
            math.fmod(1 / 0, 1)
        store.check()
        _read_all(store)
        with store.transaction():
            for mode in ("enforce", "shadow"):
                store.remove(it.id for it in store.rules(mode=mode))
                ListStore(store, mode).remove("bad")
            FilterStore(store).remove(["first", "third"])
            for it in attachments(store):
                remove_attachment(store, it.name, it.netns)
            store.execute("DELETE FROM facts")
        assert store.execute("SELECT * FROM sums") == []
        store.check()


def test_a_reader_that_shows_other_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(path) as store, store.transaction():
        clock.begin(store)
    now = boot_offset()
    monkeypatch.setattr(clock, "boot_offset", lambda: now - 3600.0)
    with Store(path, read_only=True) as store:
        clock.show_as_in_kernel(store, attached=True)
        _read_all(store)
        assert store.rules()[0].expires == pytest.approx(END + 3600.0, abs=1.0)


def test_a_store_of_before_there_were_sums(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TABLE sums")
        other.execute("PRAGMA user_version = 12")
    with Store(path, read_only=True) as store:
        _read_all(store)
    with Store(path) as store:
        assert store.execute("PRAGMA user_version") == [(VERSION,)]
        store.check()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE rules SET expires = ? WHERE target = '192.0.2.7'", (time.time(),))
    _told(path, "the rules")


def test_a_version_that_has_flipped(path: Path) -> None:
    """As version 5, shadow rules would be taken for such that are in force."""
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("PRAGMA user_version = 5")
    for read_only in (True, False):
        with pytest.raises(XdpguardError, match="its version 5 is not that of its tables"):
            Store(path, read_only)
