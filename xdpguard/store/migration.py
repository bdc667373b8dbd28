# SPDX-License-Identifier: GPL-2.0
"""Open stores: those of older versions are migrated, or read through a migrated copy.

Versions up to 5 only added tables and kept shadow entries in tables of their own. Version 6 added a mode to rules and
lists; versions 7 to 9 only added tables. Version 10 added the ends of a list's entries, version 11 the filters,
version 13 the sums.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from xdpguard.store import sums
from xdpguard.store.keeping import check_version
from xdpguard.store.schema import SCHEMA, VERSION

_WITH_MODES = 6  # the version since which entries of both modes are in the same tables
_REPLACED = ("rules", "lists", "list_entries")  # by tables of the same name with a mode
_RULE = "target, version, network, length, reason, source, created, expires, slot"
_LIST = "number, source, file, stamp, format, loaded, given, entries, duplicates, skipped, forced"
_COUNTS = "packets, bytes, established_packets, established_bytes, allowed_packets, allowed_bytes"
_COUNTED = """coalesce(established_packets + allowed_packets + other_packets, 0),
    coalesce(established_bytes + allowed_bytes + other_bytes, 0), coalesce(established_packets, 0),
    coalesce(established_bytes, 0), coalesce(allowed_packets, 0), coalesce(allowed_bytes, 0)"""
# By the table that each reads; skipped if that does not exist.
_COPIES = {
    "old_rules": f"""INSERT INTO rules (mode, id, kind, {_RULE}, packets, bytes)
        SELECT 'enforce', id, kind, {_RULE}, packets, bytes FROM old_rules""",
    "shadow_rules": f"""INSERT INTO rules (mode, kind, {_RULE}, {_COUNTS})
        SELECT 'shadow', 'block', {_RULE}, {_COUNTED} FROM shadow_rules
        LEFT JOIN shadow_hits ON shadow_hits.kind = 'rule' AND shadow_hits.name = target ORDER BY shadow_rules.id""",
    "old_lists": f"""INSERT INTO lists (mode, name, {_LIST}, packets, bytes)
        SELECT 'enforce', name, {_LIST}, packets, bytes FROM old_lists""",
    "shadow_lists": f"""INSERT INTO lists (mode, name, {_LIST}, {_COUNTS})
        SELECT 'shadow', shadow_lists.name, {_LIST}, {_COUNTED} FROM shadow_lists
        LEFT JOIN shadow_hits ON shadow_hits.kind = 'list' AND shadow_hits.name = shadow_lists.name""",
    "old_list_entries": """INSERT INTO list_entries (mode, name, four, six)
        SELECT 'enforce', name, four, six FROM old_list_entries""",
    "shadow_list_entries": """INSERT INTO list_entries (mode, name, four, six)
        SELECT 'shadow', name, four, six FROM shadow_list_entries""",
}
# Columns that tables of version 6 and later may lack.
_ADDED = {"lists": ("shift", "REAL NOT NULL DEFAULT 0"), "list_entries": ("ends", "BLOB NOT NULL DEFAULT x''")}
# Each kind of entry used to have its own mark for an interrupted change.
_MARKS = "('pending', 'interrupted', 'shadow_pending', 'lists_pending', 'shadow_lists_pending')"


def migrate(database: sqlite3.Connection) -> None:
    """Bring a store of an older version, or an empty file, to this version in one transaction."""
    database.execute("BEGIN IMMEDIATE")
    try:
        _migrate(database)
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.commit()
    except BaseException:
        database.rollback()
        raise


def _migrate(database: sqlite3.Connection) -> None:
    with_modes = database.execute("PRAGMA user_version").fetchone()[0] >= _WITH_MODES
    for table in set() if with_modes else _tables(database) & set(_REPLACED):
        database.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    for index in ("rules_network", "rules_expires", "rules_source"):
        database.execute(f"DROP INDEX IF EXISTS {index}")  # they follow the renamed tables
    for statement in SCHEMA.split(";"):
        database.execute(statement)
    for table, (column, kind) in _ADDED.items():
        if column not in {row[1] for row in database.execute(f"PRAGMA table_info({table})")}:
            database.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
    there = _tables(database)
    for table, copy in _COPIES.items():
        if table in there:
            database.execute(copy)
    for table in there & {*_COPIES, "shadow_hits"}:
        database.execute(f"DROP TABLE {table}")
    database.execute(
        "INSERT OR REPLACE INTO facts SELECT 'pending', '1' WHERE EXISTS"
        f" (SELECT 1 FROM facts WHERE key IN {_MARKS} AND value <> '')"
    )
    database.execute(f"DELETE FROM facts WHERE key IN {_MARKS} AND key <> 'pending'")
    sums.renew(database)


def _tables(database: sqlite3.Connection) -> set[str]:
    return {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def copied(database: sqlite3.Connection) -> sqlite3.Connection:
    """Return a copy of a store in memory, and close the store."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with contextlib.closing(database):
        database.backup(copy)
    return copy


@contextlib.contextmanager
def _closed_unless_good(database: sqlite3.Connection) -> Iterator[None]:
    """Close a connection that will not be returned: the traceback of an error would hold the file open with it."""
    try:
        yield
    except BaseException:
        database.close()
        raise


def open_writable(path: Path) -> sqlite3.Connection:
    """Open a store for writing, in this version."""
    database = sqlite3.connect(path, isolation_level=None)
    with _closed_unless_good(database):
        database.execute("PRAGMA synchronous = FULL")
        # A change with millions of entries stays in memory until it is committed, so that readers need not wait.
        database.execute("PRAGMA cache_spill = OFF")
        if check_version(database, path) < VERSION:
            migrate(database)
        sums.keep(database)
    return database


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a store for reading. A missing file is an empty store; an older version is read as a migrated copy."""
    if path.exists() and path.stat().st_size:
        if path.with_name(path.name + "-journal").exists():
            # A writer was killed; SQLite rolls its changes back, which needs a writable connection.
            with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(path)) as database:
                database.execute("SELECT count(*) FROM rules")
        found = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        with _closed_unless_good(found):
            if check_version(found, path) == VERSION:
                return found
            copy = copied(found)
        migrate(copy)
        return copy
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(SCHEMA)
    return database
