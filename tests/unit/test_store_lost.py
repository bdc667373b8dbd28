# SPDX-License-Identifier: GPL-2.0
"""A store file that is not what was written: refused with a sentence; what is copied, and what is not followed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from xdpguard.dataplane.tables.index import build
from xdpguard.dataplane.tables.rebuilt import sets
from xdpguard.errors import MissingError, XdpguardError
from xdpguard.lists.addresses import aggregate
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import parse_prefix
from xdpguard.store import keeping
from xdpguard.store.database import Store
from xdpguard.store.schema import VERSION

RULE = NewRule("block", parse_prefix("192.0.2.7")[0], "why", "cli", 1.0, None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "x" / "store.db"
    with Store(found) as store:
        store.put([(RULE, 0)])
        store.keep_copy()
    return found


@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_refused(path: Path, read_only: bool) -> None:
    good = path.read_bytes()

    def refused(words: str) -> None:
        with pytest.raises(XdpguardError, match=words), Store(path, read_only) as store:
            store.rules()

    path.write_bytes(b"")
    refused("is empty, and had rules")
    path.unlink()
    refused("no longer exists, and had rules")
    path.write_bytes(b"something else")
    refused("not an SQLite file")
    path.unlink()
    path.mkdir()
    refused("is a directory")
    path.rmdir()
    path.symlink_to("elsewhere")
    refused("is a link")
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mail (text)")
    refused("without the tables of a rule store")
    path.write_bytes(good)
    with sqlite3.connect(path) as other:
        other.execute("UPDATE rules SET kind = 'block', version = 4, network = x'00', length = 99")
    refused("the rules in it are not those that were written")
    path.write_bytes(good)
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {VERSION + 1}")
    refused("written by a newer xdpguard")
    path.write_bytes(good)
    with Store(path, read_only) as store:
        assert len(store.rules()) == 1


def test_the_copy_is_good_and_seldom(path: Path) -> None:
    copy = keeping.copy_of(path)
    with Store(copy, read_only=True) as store:
        assert len(store.rules()) == 1
    first = copy.stat().st_mtime_ns
    with Store(path) as store:
        store.put([(RULE._replace(target=parse_prefix("192.0.2.8")[0]), 1)])
        store.keep_copy()
        assert copy.stat().st_mtime_ns == first, "not for each block"
        os.utime(path, (first / 1e9 + 100, first / 1e9 + 100))
        store.keep_copy(now=True)
        assert copy.stat().st_mtime_ns != first
    assert copy.stat().st_mode & 0o777 == 0o600


def test_folders_of_others(path: Path) -> None:
    folder = path.parent
    folder.chmod(0o777)
    for read_only in (True, False):  # others may have put a journal there, which SQLite would play back
        with pytest.raises(MissingError, match="can be written by other users"):
            Store(path, read_only)
    folder.chmod(0o755)
    with Store(path):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_an_index_read_back() -> None:
    """Every prefix length of both families, in two lists."""
    first4 = np.array([0x01000000, 0x0A000000, 0xC6336407, 0x80000000], np.uint32)
    last4 = np.array([0x01FFFFFF, 0x0A0000FF, 0xC6336407, 0x8000000F], np.uint32)
    lengths = [20, 32, 48, 63, 64, 65, 96, 127, 128]
    high = np.array([(0x2001 + n) << 48 for n in range(len(lengths))], np.uint64)
    six = (high, np.zeros(len(lengths), np.uint64), np.array(lengths, np.uint8))
    one = aggregate(first4, last4, *six)[0]
    empty = np.array([], np.uint64)
    two = aggregate(np.array([0xCB007100], np.uint32), np.array([0xCB0071FF], np.uint32), empty, empty, six[2][:0])[0]
    found = sets(build([(0, one), (3, two)], 1).lines)
    assert {number: its.packed() for number, its in found.items()} == {0: one.packed(), 3: two.packed()}
