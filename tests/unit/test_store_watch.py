# SPDX-License-Identifier: GPL-2.0
"""Changes of the store are noticed, whoever makes them and however soon one follows another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import old_stores

from xdpguard.store.attachments import attachments
from xdpguard.store.database import Store
from xdpguard.store.watch import StoreWatch


def test_every_commit_of_another_connection_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        watch = StoreWatch(path)
        seen = [watch.version()]
        assert seen[0] > 0
        assert watch.version() == seen[0]
        for number in range(50):
            store.put_fact("key", str(number))
            os.utime(path, ns=(1, 1))  # a clock too coarse to tell them apart
            seen.append(watch.version())
            assert watch.version() == seen[-1], "nothing was written"
        assert seen == sorted(set(seen))


def test_only_what_is_committed_counts(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Store(path) as store:
        watch = StoreWatch(path)
        before = watch.version()
        with pytest.raises(KeyError), store.transaction():
            store.put_fact("key", "value")
            assert watch.version() == before, "nobody has to wait, and nothing is committed yet"
            raise KeyError
        assert watch.version() == before
        store.fact("key")
        with Store(path, read_only=True) as other:
            attachments(other)
        assert watch.version() == before, "it was only read"
        os.utime(path)
        assert watch.version() == before, "nobody wrote"


def test_a_store_that_comes_and_goes(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    watch = StoreWatch(path)
    assert [watch.version(), watch.version()] == [0, 0]
    Store(path).close()
    first = watch.version()
    assert first > 0
    for file in tmp_path.iterdir():
        file.unlink()
    assert [watch.version(), watch.version()] == [0, 0]
    Store(path).close()
    assert watch.version() > first


def test_a_store_that_is_replaced(tmp_path: Path) -> None:
    path, backup = tmp_path / "store.db", tmp_path / "backup.db"
    for each in (path, backup):
        Store(each).close()
    watch = StoreWatch(path)
    before = watch.version()
    backup.replace(path)
    after = watch.version()
    assert after > before
    with Store(path) as store:
        store.put_fact("key", "value")
    assert watch.version() > after, "the new file is the one that is watched"


def test_a_store_that_cannot_be_read_counts_as_written(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database, but as long as the header of one" * 40)
    watch = StoreWatch(path)
    assert 0 < watch.version() < watch.version()


def test_an_old_store_is_watched_through_its_migration(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    old_stores.empty(path, 5)
    watch = StoreWatch(path)
    before = watch.version()
    with Store(path, read_only=True):
        assert watch.version() == before, "it is read as a copy"
    Store(path).close()
    assert watch.version() > before


def test_once_closed_nothing_is_taken_as_known(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    Store(path).close()
    watch = StoreWatch(path)
    before = watch.version()
    watch.close()
    with Store(path) as store:
        store.put_fact("key", "value")
    assert watch.version() > before
