# SPDX-License-Identifier: GPL-2.0
"""The tables of the store, and the version of their schema."""

from __future__ import annotations

VERSION = 13
SCHEMA = """
CREATE TABLE IF NOT EXISTS rules (
    id INTEGER PRIMARY KEY,
    mode TEXT NOT NULL,         -- enforce or shadow
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    version INTEGER NOT NULL,   -- 4 or 6, 0 for a port
    network BLOB NOT NULL,      -- address, or two bytes of port
    length INTEGER NOT NULL,    -- prefix length in bits, or IP protocol number
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    created REAL NOT NULL,      -- Unix time, seconds
    expires REAL,               -- Unix time, seconds, or NULL for never
    slot INTEGER NOT NULL,
    packets INTEGER NOT NULL DEFAULT 0,  -- hits before the counters now in the kernel
    bytes INTEGER NOT NULL DEFAULT 0,
    established_packets INTEGER NOT NULL DEFAULT 0,  -- in shadow mode, parts of packets and bytes
    established_bytes INTEGER NOT NULL DEFAULT 0,
    allowed_packets INTEGER NOT NULL DEFAULT 0,
    allowed_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (mode, kind, target),
    UNIQUE (mode, slot)
) STRICT;
CREATE INDEX IF NOT EXISTS rules_network ON rules (mode, kind, version, network, length);
CREATE INDEX IF NOT EXISTS rules_expires ON rules (expires) WHERE expires IS NOT NULL;
CREATE INDEX IF NOT EXISTS rules_source ON rules (mode, source);
CREATE TABLE IF NOT EXISTS parts (  -- of a rule, by origins whose end is no later than the rule's own
    mode TEXT NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    source TEXT NOT NULL,
    reason TEXT NOT NULL,
    expires REAL,
    PRIMARY KEY (mode, kind, target, source)
) STRICT;
CREATE INDEX IF NOT EXISTS parts_source ON parts (mode, source);
CREATE TABLE IF NOT EXISTS ended (  -- rules whose end came, and that nobody removed
    mode TEXT NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (mode, kind, target)
) STRICT;
CREATE TABLE IF NOT EXISTS lapsed (  -- parts of rules whose end came, maybe by a wrong clock: see clock.py
    mode TEXT NOT NULL,
    kind TEXT NOT NULL,
    target TEXT NOT NULL,
    source TEXT NOT NULL,
    reason TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (mode, kind, target, source)
) STRICT;
CREATE INDEX IF NOT EXISTS lapsed_expires ON lapsed (expires);
CREATE TABLE IF NOT EXISTS earlier (  -- rules and filters with an end, lists with ends: as they were before this boot
    mode TEXT NOT NULL,         -- of a filter: empty
    kind TEXT NOT NULL,         -- of a rule, or: list, filter
    target TEXT NOT NULL,       -- of a rule, or the name of a list or filter
    PRIMARY KEY (mode, kind, target)
) STRICT;
CREATE INDEX IF NOT EXISTS ended_expires ON ended (expires);
CREATE TABLE IF NOT EXISTS interfaces (
    name TEXT NOT NULL,
    netns TEXT NOT NULL,        -- empty: the namespace the command runs in
    mode TEXT NOT NULL,
    observe INTEGER NOT NULL,
    prog_id INTEGER NOT NULL,   -- 0: never attached yet
    attached REAL NOT NULL,
    PRIMARY KEY (name, netns)
) STRICT;
CREATE TABLE IF NOT EXISTS any_mtu (  -- interfaces whose program accepts frames in several buffers, whatever the MTU
    name TEXT NOT NULL,
    netns TEXT NOT NULL,
    PRIMARY KEY (name, netns)
) STRICT;
CREATE TABLE IF NOT EXISTS namespaces (
    name TEXT PRIMARY KEY,      -- one that may come to mean another namespace: pid N, a path below /proc
    boot TEXT NOT NULL,         -- cookies are reused after it
    cookie TEXT NOT NULL        -- of the namespace it meant
) STRICT;
CREATE TABLE IF NOT EXISTS offences (
    target TEXT PRIMARY KEY,
    number INTEGER NOT NULL,    -- bans so far
    last REAL NOT NULL          -- when the last one began, Unix time
) STRICT;
CREATE TABLE IF NOT EXISTS lists (
    mode TEXT NOT NULL,         -- enforce or shadow
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
    source TEXT NOT NULL,       -- cli or config
    file TEXT NOT NULL,
    stamp TEXT NOT NULL,        -- of the file when it was read: inode, size, time of change
    format TEXT NOT NULL,
    loaded REAL NOT NULL,       -- Unix time, seconds
    given INTEGER NOT NULL,     -- entries in the file
    entries INTEGER NOT NULL,   -- prefixes they aggregate to, also those that have ended since
    duplicates INTEGER NOT NULL,
    skipped INTEGER NOT NULL,
    forced INTEGER NOT NULL,
    packets INTEGER NOT NULL DEFAULT 0,  -- as in rules, from here on
    bytes INTEGER NOT NULL DEFAULT 0,
    established_packets INTEGER NOT NULL DEFAULT 0,
    established_bytes INTEGER NOT NULL DEFAULT 0,
    allowed_packets INTEGER NOT NULL DEFAULT 0,
    allowed_bytes INTEGER NOT NULL DEFAULT 0,
    shift REAL NOT NULL DEFAULT 0,  -- seconds by which the ends of its entries have moved with the clock
    PRIMARY KEY (mode, name),
    UNIQUE (mode, number)
) STRICT;
CREATE TABLE IF NOT EXISTS list_entries (
    mode TEXT NOT NULL,
    name TEXT NOT NULL,
    four BLOB NOT NULL,         -- AddressSet.packed()
    six BLOB NOT NULL,
    ends BLOB NOT NULL DEFAULT x'',  -- of each prefix, Unix time, 0 for none, or empty if none has one
    PRIMARY KEY (mode, name)
) STRICT;
CREATE TABLE IF NOT EXISTS filters (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL,  -- the order in which they are asked
    text TEXT NOT NULL,         -- the match as it was written
    match TEXT NOT NULL,        -- JSON: the same, parsed
    action TEXT NOT NULL,       -- drop, pass, count, limit
    rate TEXT NOT NULL,         -- JSON: of a limit, or empty
    mode TEXT NOT NULL,         -- enforce or shadow
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    created REAL NOT NULL,      -- Unix time, seconds
    expires REAL,               -- Unix time, seconds, or NULL for never
    slot INTEGER NOT NULL UNIQUE,
    packets INTEGER NOT NULL DEFAULT 0,  -- hits before the counters now in the kernel
    bytes INTEGER NOT NULL DEFAULT 0,
    limited_packets INTEGER NOT NULL DEFAULT 0,  -- parts of packets and bytes: above the limit
    limited_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS sums (  -- of the checksums of rows, where there are any: see sums.py
    place TEXT NOT NULL,        -- the table
    mode TEXT NOT NULL,         -- of its rows, or empty
    part TEXT NOT NULL,         -- kind of its rules, name of its list, or empty
    total INTEGER NOT NULL,
    PRIMARY KEY (place, mode, part)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (  -- the last changes made by commands, to undo them, see journal.py
    id INTEGER PRIMARY KEY,
    made REAL NOT NULL,         -- Unix time, seconds
    command TEXT NOT NULL,
    state TEXT NOT NULL,        -- kept, pending, undone, unconfirmed
    settled REAL,               -- when it was undone, Unix time
    deadline REAL,              -- of a pending one: when it is undone, seconds since boot
    boot TEXT NOT NULL,         -- in which the deadline counts
    large INTEGER NOT NULL      -- 1: too large to be kept, so that it cannot be undone
) STRICT;
CREATE TABLE IF NOT EXISTS change_rows (  -- the rows that a change touched
    change INTEGER NOT NULL,
    place TEXT NOT NULL,        -- the table
    key TEXT NOT NULL,          -- JSON: the row's key in it
    before TEXT,                -- JSON: the row as it was, NULL if there was none
    after INTEGER,              -- checksum of the row as the change left it, NULL if removed
    origins TEXT NOT NULL,      -- JSON: those of a rule as the change left it
    PRIMARY KEY (change, place, key)
) STRICT, WITHOUT ROWID;
"""
