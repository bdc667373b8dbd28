# SPDX-License-Identifier: GPL-2.0
"""Keep a store from being lost unnoticed: a mark that it has existed, and the last good copy of it.

A store file that is missing or empty while its mark exists was deleted or truncated: it is not taken for a new one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from pathlib import Path

from xdpguard.errors import XdpguardError
from xdpguard.owned import open_own
from xdpguard.store import sums
from xdpguard.store.schema import SCHEMA, VERSION

_MAGIC = b"SQLite format 3\0"
_WITH_SUMS = 13  # the version since which there are sums
_SMALL = 1 << 20  # bytes; a copy of that takes milliseconds
_OFTEN, _SELDOM = 30.0, 600.0  # seconds between two copies of a small store, and of a large one
_RECOVER = "xdpguard recover rebuilds it from what the kernel holds and the last good copy (--dry-run shows from what)"


class Damaged(XdpguardError):
    """The store was lost or is damaged; ``xdpguard recover`` rebuilds it."""


def damaged(path: Path, why: object) -> Damaged:
    """Return the error to raise for a store that cannot be read."""
    return Damaged(f"the rule store {path} is damaged: {why}", f"what is attached keeps the rules it has; {_RECOVER}")


def unlike(path: Path, which: str) -> Damaged:
    """Return the error to raise for a store in which these rows are not those that were written."""
    return damaged(path, f"{which} in it are not those that were written")


def lost(path: Path) -> Damaged:
    """Return the error to raise for a store that was deleted or truncated."""
    what = "is empty" if path.exists() else "no longer exists"
    return Damaged(f"the rule store {path} {what}, and had rules", f"nothing was changed; {_RECOVER}")


def copy_of(path: Path) -> Path:
    """Return where the last good copy of a store is."""
    return path.with_suffix(".last")


def _mark_of(path: Path) -> Path:
    return path.with_suffix(".mark")


def is_blank(path: Path) -> bool:
    """Return whether a store is missing or empty."""
    try:
        return path.stat().st_size == 0
    except FileNotFoundError:
        return True


def check(path: Path) -> None:
    """Raise XdpguardError if a store was lost, or if its file is something else."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        status = None
    if status is None or (stat.S_ISREG(status.st_mode) and not status.st_size):
        if _mark_of(path).exists() or copy_of(path).exists():
            raise lost(path)
        return
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a link"}
        what = kinds.get(stat.S_IFMT(status.st_mode), "not a regular file")
        raise XdpguardError(f"the rule store {path} is {what}", "move it away, then try again")
    with os.fdopen(open_own(path, os.O_RDONLY), "rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise damaged(path, "it is not an SQLite file")


def check_version(database: sqlite3.Connection, path: Path) -> int:
    """Return the version of a store's schema. Raise XdpguardError if it is newer, or the file is another program's."""
    version = int(database.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise XdpguardError(
            f"the rule store {path} was written by a newer xdpguard (version {version} of its tables, not {VERSION})",
            "upgrade xdpguard, or use another instance",
        )
    tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if tables and not {"rules", "facts"} <= tables:
        raise damaged(path, "it is an SQLite file without the tables of a rule store")
    if version < _WITH_SUMS and "sums" in tables:
        raise damaged(path, f"its version {version} is not that of its tables")
    return version


def check_all(database: sqlite3.Connection, path: Path) -> None:
    """Read all of a store. Raise Damaged if its file is not consistent, or its rows are not those that were written."""
    (found,) = database.execute("PRAGMA integrity_check(1)").fetchone()
    if found != "ok":
        raise damaged(path, found)
    if table := _lacking(database):
        raise damaged(path, f"its table {table} has other columns")
    if which := sums.wrong(database):
        raise unlike(path, which)


def _lacking(database: sqlite3.Connection) -> str:
    """Return a table that lacks a column of this version's, or nothing: SQLite accepts any name."""

    def columns(of: sqlite3.Connection, table: str) -> set[str]:
        return {row[0] for row in of.execute("SELECT name FROM pragma_table_info(?)", (table,))}

    with contextlib.closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(SCHEMA)
        tables = [row[0] for row in fresh.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return next((it for it in tables if columns(fresh, it) - columns(database, it)), "")


def mark(path: Path) -> None:
    """Record that the store exists."""
    if not _mark_of(path).exists():
        os.close(open_own(_mark_of(path), os.O_WRONLY | os.O_CREAT))


def keep_copy(database: sqlite3.Connection, path: Path, now: bool = False) -> None:
    """Copy a store that has changed since the last copy, and is intact; no more often than every 30 s (10 min for a
    large one), unless ``now``. What keeps it from being copied is left to the next time.
    """
    with contextlib.suppress(OSError, sqlite3.Error):
        status, last = path.stat(), _time_of(copy_of(path))
        pause = _OFTEN if status.st_size < _SMALL else _SELDOM
        if status.st_mtime <= last or (not now and 0 <= time.time() - last < pause):
            return
        if database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok" and not sums.wrong(database):
            _copy(database, copy_of(path))


def _copy(database: sqlite3.Connection, path: Path) -> None:
    draft = path.with_suffix(".draft")
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    os.close(open_own(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    with contextlib.closing(sqlite3.connect(draft)) as copy:
        database.backup(copy)
    draft.rename(path)


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
