# SPDX-License-Identifier: GPL-2.0
"""Stores as versions 1 to 6 made them, with entries and hits in them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from xdpguard.lists.addresses import AddressSet

_LIST = """(name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, source TEXT NOT NULL, file TEXT NOT NULL,
    stamp TEXT NOT NULL, format TEXT NOT NULL, loaded REAL NOT NULL, given INTEGER NOT NULL, entries INTEGER NOT NULL,
    duplicates INTEGER NOT NULL, skipped INTEGER NOT NULL, forced INTEGER NOT NULL,
    packets INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0) STRICT"""
_ENTRIES = "(name TEXT PRIMARY KEY, four BLOB NOT NULL, six BLOB NOT NULL) STRICT"
_COUNTS = ", ".join(
    f"{name} INTEGER NOT NULL DEFAULT 0"
    for name in (
        *("packets", "bytes", "established_packets", "established_bytes"),
        *("allowed_packets", "allowed_bytes"),
    )
)
# What each version added.
_ADDED = {
    1: """
        CREATE TABLE rules (id INTEGER PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, version INTEGER NOT NULL,
            network BLOB NOT NULL, length INTEGER NOT NULL, reason TEXT NOT NULL, source TEXT NOT NULL,
            created REAL NOT NULL, expires REAL, slot INTEGER NOT NULL UNIQUE, packets INTEGER NOT NULL DEFAULT 0,
            bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (kind, target)) STRICT;
        CREATE INDEX rules_network ON rules (kind, version, network, length);
        CREATE INDEX rules_expires ON rules (expires) WHERE expires IS NOT NULL;
        CREATE TABLE interfaces (name TEXT NOT NULL, netns TEXT NOT NULL, mode TEXT NOT NULL, observe INTEGER NOT NULL,
            prog_id INTEGER NOT NULL, attached REAL NOT NULL, PRIMARY KEY (name, netns)) STRICT;
        CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
        INSERT INTO rules VALUES
            (3, 'block', '192.0.2.7', 4, x'c0000207', 32, 'why', 'cli', 1000.5, NULL, 1, 11, 660),
            (5, 'allow', '2001:db8::/32', 6, x'20010db8000000000000000000000000', 32, '', 'config', 1001, 9e9, 0, 2,
                90),
            (9, 'port', '53/udp', 0, x'0035', 17, 'dns', 'cli', 1002, NULL, 7, 0, 0);
        INSERT INTO interfaces VALUES ('eth0', 'web', 'native', 1, 77, 1003);
        INSERT INTO facts VALUES ('maps', 'this boot:1'), ('config', '/etc/x.toml');
    """,
    2: """
        CREATE TABLE offences (target TEXT PRIMARY KEY, number INTEGER NOT NULL, last REAL NOT NULL) STRICT;
        INSERT INTO offences VALUES ('192.0.2.9', 3, 1004);
    """,
    3: f"""
        CREATE TABLE lists {_LIST};
        CREATE TABLE list_entries {_ENTRIES};
        INSERT INTO lists VALUES ('bad', 1, 'config', '/bad', 'stamp', 'plain', 1005, 4, 1, 2, 1, 1, 21, 1260);
    """,
    4: f"""
        CREATE TABLE shadow_rules (id INTEGER PRIMARY KEY, target TEXT NOT NULL UNIQUE, version INTEGER NOT NULL,
            network BLOB NOT NULL, length INTEGER NOT NULL, reason TEXT NOT NULL, source TEXT NOT NULL,
            created REAL NOT NULL, expires REAL, slot INTEGER NOT NULL UNIQUE) STRICT;
        CREATE INDEX shadow_rules_network ON shadow_rules (version, network, length);
        CREATE TABLE shadow_lists {_LIST};
        CREATE TABLE shadow_list_entries {_ENTRIES};
        CREATE TABLE shadow_hits (kind TEXT NOT NULL, name TEXT NOT NULL, established_packets INTEGER NOT NULL,
            established_bytes INTEGER NOT NULL, allowed_packets INTEGER NOT NULL, allowed_bytes INTEGER NOT NULL,
            other_packets INTEGER NOT NULL, other_bytes INTEGER NOT NULL, PRIMARY KEY (kind, name)) STRICT;
        INSERT INTO shadow_rules VALUES
            (3, '192.0.2.7', 4, x'c0000207', 32, 'trial', 'cli', 2000, NULL, 1),
            (4, '198.51.100.0/24', 4, x'c6336400', 24, '', 'cli', 2001, 8e9, 0);
        INSERT INTO shadow_hits VALUES
            ('rule', '192.0.2.7', 1, 60, 2, 120, 3, 180), ('list', 'bad', 4, 240, 5, 300, 6, 360),
            ('rule', 'gone', 9, 9, 9, 9, 9, 9);
        INSERT INTO shadow_lists VALUES ('bad', 0, 'cli', '', '', 'csv', 2002, 1, 1, 0, 0, 0, 0, 0);
        INSERT INTO facts VALUES ('shadow_maps', 'this boot:2');
    """,
    5: """
        CREATE TABLE any_mtu (name TEXT NOT NULL, netns TEXT NOT NULL, PRIMARY KEY (name, netns)) STRICT;
        CREATE TABLE namespaces (name TEXT PRIMARY KEY, boot TEXT NOT NULL, cookie TEXT NOT NULL) STRICT;
        INSERT INTO any_mtu VALUES ('eth0', 'web');
        INSERT INTO namespaces VALUES ('pid 7', 'boot', '12');
    """,
    6: f"""
        DROP TABLE rules; DROP TABLE lists; DROP TABLE list_entries;
        DROP TABLE shadow_rules; DROP TABLE shadow_lists; DROP TABLE shadow_list_entries; DROP TABLE shadow_hits;
        CREATE TABLE rules (id INTEGER PRIMARY KEY, mode TEXT NOT NULL, kind TEXT NOT NULL, target TEXT NOT NULL,
            version INTEGER NOT NULL, network BLOB NOT NULL, length INTEGER NOT NULL, reason TEXT NOT NULL,
            source TEXT NOT NULL, created REAL NOT NULL, expires REAL, slot INTEGER NOT NULL, {_COUNTS},
            UNIQUE (mode, kind, target), UNIQUE (mode, slot)) STRICT;
        CREATE INDEX rules_network ON rules (mode, kind, version, network, length);
        CREATE INDEX rules_expires ON rules (expires) WHERE expires IS NOT NULL;
        CREATE TABLE lists (mode TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, source TEXT NOT NULL,
            file TEXT NOT NULL, stamp TEXT NOT NULL, format TEXT NOT NULL, loaded REAL NOT NULL,
            given INTEGER NOT NULL, entries INTEGER NOT NULL, duplicates INTEGER NOT NULL, skipped INTEGER NOT NULL,
            forced INTEGER NOT NULL, {_COUNTS}, PRIMARY KEY (mode, name), UNIQUE (mode, number)) STRICT;
        CREATE TABLE list_entries (mode TEXT NOT NULL, name TEXT NOT NULL, four BLOB NOT NULL, six BLOB NOT NULL,
            PRIMARY KEY (mode, name)) STRICT;
        INSERT INTO rules VALUES
            (3, 'enforce', 'block', '192.0.2.7', 4, x'c0000207', 32, 'why', 'cli', 1000.5, NULL, 1, 11, 660,
                0, 0, 0, 0),
            (5, 'enforce', 'allow', '2001:db8::/32', 6, x'20010db8000000000000000000000000', 32, '', 'config', 1001,
                9e9, 0, 2, 90, 0, 0, 0, 0),
            (9, 'enforce', 'port', '53/udp', 0, x'0035', 17, 'dns', 'cli', 1002, NULL, 7, 0, 0, 0, 0, 0, 0),
            (10, 'shadow', 'block', '192.0.2.7', 4, x'c0000207', 32, 'trial', 'cli', 2000, NULL, 1, 6, 360,
                1, 60, 2, 120),
            (11, 'shadow', 'block', '198.51.100.0/24', 4, x'c6336400', 24, '', 'cli', 2001, 8e9, 0, 0, 0, 0, 0, 0, 0);
        INSERT INTO lists VALUES
            ('enforce', 'bad', 1, 'config', '/bad', 'stamp', 'plain', 1005, 4, 1, 2, 1, 1, 21, 1260, 0, 0, 0, 0),
            ('shadow', 'bad', 0, 'cli', '', '', 'csv', 2002, 1, 1, 0, 0, 0, 15, 900, 4, 240, 5, 300);
    """,
}
VERSIONS = tuple(_ADDED)


def make(path: Path, version: int, entries: AddressSet | None = None, marks: Iterable[str] = ()) -> None:
    """Makes a store of that version. ``entries``: of its lists; ``marks``: facts that say something is pending."""
    with closing(sqlite3.connect(path)) as database:
        for its in range(1, version + 1):
            database.executescript(_ADDED[its])
        if entries is not None:
            for table, since in (("list_entries", 3), ("shadow_list_entries", 4)):
                if since <= version < 6:
                    database.execute(f"INSERT INTO {table} VALUES ('bad', ?, ?)", entries.packed()[:2])
            for mode in ("enforce", "shadow") if version >= 6 else ():
                database.execute("INSERT INTO list_entries VALUES (?, 'bad', ?, ?)", (mode, *entries.packed()[:2]))
        database.executemany("INSERT INTO facts VALUES (?, '1')", [(mark,) for mark in marks])
        database.execute(f"PRAGMA user_version = {version}")
        database.commit()


def empty(path: Path, version: int) -> None:
    """Makes the store of that version that nothing was put into."""
    make(path, version)
    with closing(sqlite3.connect(path)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            database.execute(f"DELETE FROM {table}")
        database.commit()
