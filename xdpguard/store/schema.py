# SPDX-License-Identifier: GPL-2.0
"""The store's tables."""

from __future__ import annotations

VERSION = 6
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
    expires REAL,               -- likewise, NULL: never
    slot INTEGER NOT NULL,
    packets INTEGER NOT NULL DEFAULT 0,  -- hits before the kernel's present counters
    bytes INTEGER NOT NULL DEFAULT 0,
    established_packets INTEGER NOT NULL DEFAULT 0,  -- of these, in shadow mode: the rest are of others
    established_bytes INTEGER NOT NULL DEFAULT 0,
    allowed_packets INTEGER NOT NULL DEFAULT 0,
    allowed_bytes INTEGER NOT NULL DEFAULT 0,
    UNIQUE (mode, kind, target),
    UNIQUE (mode, slot)
) STRICT;
CREATE INDEX IF NOT EXISTS rules_network ON rules (mode, kind, version, network, length);
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
    mode TEXT NOT NULL,         -- enforce or shadow
    name TEXT NOT NULL,
    number INTEGER NOT NULL,
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
    packets INTEGER NOT NULL DEFAULT 0,  -- as in rules, from here on
    bytes INTEGER NOT NULL DEFAULT 0,
    established_packets INTEGER NOT NULL DEFAULT 0,
    established_bytes INTEGER NOT NULL DEFAULT 0,
    allowed_packets INTEGER NOT NULL DEFAULT 0,
    allowed_bytes INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (mode, name),
    UNIQUE (mode, number)
) STRICT;
CREATE TABLE IF NOT EXISTS list_entries (
    mode TEXT NOT NULL,
    name TEXT NOT NULL,
    four BLOB NOT NULL,         -- AddressSet.packed()
    six BLOB NOT NULL,
    PRIMARY KEY (mode, name)
) STRICT;
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
