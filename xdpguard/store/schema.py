# SPDX-License-Identifier: GPL-2.0
"""The store's tables. A version adds some and takes none away: an older store becomes a newer one by making them."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

VERSION = 5
SCHEMA = """
CREATE TABLE IF NOT EXISTS rules (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    version INTEGER NOT NULL,   -- 4 or 6, 0 for a port
    network BLOB NOT NULL,      -- address, or two octets of port
    length INTEGER NOT NULL,    -- prefix length in bits, or IP protocol number
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    created REAL NOT NULL,      -- Unix time, seconds
    expires REAL,               -- likewise, NULL: never
    slot INTEGER NOT NULL UNIQUE,
    packets INTEGER NOT NULL DEFAULT 0,  -- hits before the kernel's present counters
    bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (kind, target)
) STRICT;
CREATE INDEX IF NOT EXISTS rules_network ON rules (kind, version, network, length);
CREATE INDEX IF NOT EXISTS rules_expires ON rules (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS interfaces (
    name TEXT NOT NULL,
    netns TEXT NOT NULL,        -- empty: the namespace the command runs in
    mode TEXT NOT NULL,
    observe INTEGER NOT NULL,
    prog_id INTEGER NOT NULL,   -- 0: never attached yet
    attached REAL NOT NULL,
    PRIMARY KEY (name, netns)
) STRICT;
CREATE TABLE IF NOT EXISTS any_mtu (  -- interfaces whose program takes frames of several buffers, whatever their MTU
    name TEXT NOT NULL,
    netns TEXT NOT NULL,
    PRIMARY KEY (name, netns)
) STRICT;
CREATE TABLE IF NOT EXISTS namespaces (
    name TEXT PRIMARY KEY,      -- one that can come to lead to another: pid N, a path below /proc
    boot TEXT NOT NULL,         -- cookies begin anew with the next
    cookie TEXT NOT NULL        -- of the namespace it was
) STRICT;
CREATE TABLE IF NOT EXISTS offences (
    target TEXT PRIMARY KEY,
    number INTEGER NOT NULL,    -- bans so far
    last REAL NOT NULL          -- when the last one began, Unix time
) STRICT;
CREATE TABLE IF NOT EXISTS lists (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    source TEXT NOT NULL,       -- cli or config
    file TEXT NOT NULL,
    stamp TEXT NOT NULL,        -- of the file when it was read: inode, size, time of change
    format TEXT NOT NULL,
    loaded REAL NOT NULL,       -- Unix time, seconds
    given INTEGER NOT NULL,     -- entries in the file
    entries INTEGER NOT NULL,   -- prefixes that they make
    duplicates INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    forced INTEGER NOT NULL,
    packets INTEGER NOT NULL DEFAULT 0,  -- hits before the kernel's present counters
    bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS list_entries (
    name TEXT PRIMARY KEY,
    four BLOB NOT NULL,         -- AddressSet.packed()
    six BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS shadow_rules (
    id INTEGER PRIMARY KEY,
    target TEXT NOT NULL UNIQUE,
    version INTEGER NOT NULL,   -- as in rules, from here on
    network BLOB NOT NULL,
    length INTEGER NOT NULL,
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL,
    slot INTEGER NOT NULL UNIQUE
) STRICT;
CREATE INDEX IF NOT EXISTS shadow_rules_network ON shadow_rules (version, network, length);
CREATE TABLE IF NOT EXISTS shadow_lists (
    name TEXT PRIMARY KEY,      -- as in lists
    number INTEGER NOT NULL UNIQUE,
    source TEXT NOT NULL,
    file TEXT NOT NULL,
    stamp TEXT NOT NULL,
    format TEXT NOT NULL,
    loaded REAL NOT NULL,
    given INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    forced INTEGER NOT NULL,
    packets INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS shadow_list_entries (
    name TEXT PRIMARY KEY,
    four BLOB NOT NULL,
    six BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS shadow_hits (
    kind TEXT NOT NULL,         -- rule or list. Hits before the kernel's present counters
    name TEXT NOT NULL,
    established_packets INTEGER NOT NULL,
    established_bytes INTEGER NOT NULL,
    allowed_packets INTEGER NOT NULL,
    allowed_bytes INTEGER NOT NULL,
    other_packets INTEGER NOT NULL,
    other_bytes INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT;
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
_TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) (\(.*?\) STRICT);", re.DOTALL)


def open_read_only(path: Path) -> sqlite3.Connection:
    """Opens a store to look at it; a missing file is an empty store."""
    if path.exists() and path.stat().st_size:
        if path.with_name(path.name + "-journal").exists():
            # Somebody was killed while writing; SQLite takes that back, for which it must write.
            with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(path)) as database:
                database.execute("SELECT count(*) FROM rules")
        found = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        _add_missing_tables(found)
        return found
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(SCHEMA)
    return database


def _add_missing_tables(database: sqlite3.Connection) -> None:
    """What an older version has not made is empty, for whoever only reads."""
    there = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    for name, statement in _TABLE.findall(SCHEMA):
        if there and name not in there:
            database.execute(f"CREATE TEMP TABLE {name} {statement}")
