# SPDX-License-Identifier: GPL-2.0
"""Rules, lists and settings: what the controller writes (bpf/layouts/rules.h)."""

from __future__ import annotations

from xdpguard.dataplane.sys.layouts.base import Layout, octets, padding, u16, u32, u64

PORT_WORDS = 1024  # one bit a port, in 64-bit words
SECRETS = 5  # words of the hash of tuples
SHADOW_CLASSES = 3  # packets of established peers, of allowed sources, of others


class Rule(Layout):
    """What an allow, block or port entry holds."""

    _fields_ = (("expires", u64), ("slot", u32), ("prefix_length", u32))


class Hits(Layout):
    """What an entry has caught."""

    _fields_ = (("packets", u64), ("bytes", u64))


class ShadowHits(Layout):
    """What a shadow entry would have caught, by whose packets they are."""

    _fields_ = (("of", Hits * SHADOW_CLASSES),)


class Address4(Layout):
    """Key of a table of IPv4 addresses."""

    _fields_ = (("address", octets(4)), ("zero", padding(4)))


class Address6(Layout):
    """Key of a table of IPv6 addresses."""

    _fields_ = (("word", octets(16)),)


class Prefix4(Layout):
    """Key of a trie of IPv4 prefixes."""

    _fields_ = (("length", u32), ("address", octets(4)))


class Prefix6(Layout):
    """Key of a trie of IPv6 prefixes."""

    _fields_ = (("length", u32), ("address", octets(16)))


class Port(Layout):
    """Key of the table of closed ports."""

    _fields_ = (("port", u16), ("protocol", u16))


class Nets4(Layout):
    """64 networks in the lists' pre-filter."""

    _fields_ = (("addresses", u64), ("prefixes", u64))


class Line(Layout):
    """A cache line of an index or a pre-filter."""

    _fields_ = (("word", u64 * 8),)


class Index(Layout):
    """The first line of an index of lists."""

    _fields_ = (
        ("multiplier", u64),
        ("table4", u32),
        ("lines4", u32),
        ("lengths4", u32),
        ("ends", u32),
        ("table6", u32),
        ("lines6", u32),
        ("lengths6", u32),
        ("buckets6", u32),
        ("short6", u64),
        ("generation", u64),
        ("unused", u64),
    )


class Settings(Layout):
    """Which tables the program asks, closed ports, the secrets of its hash."""

    _fields_ = (
        ("allow4", u32),
        ("allow6", u32),
        ("deny4", u32),
        ("deny4_prefix", u32),
        ("deny6", u32),
        ("deny6_prefix", u32),
        ("deny6_wide", u32),
        ("lists4", u32),
        ("lists6", u32),
        ("lists6_wide", u32),
        ("deny", u32),
        ("shadow", u32),
        ("generation", u64),
        ("zero", u64),
        ("shadow_rules4", u32),
        ("shadow_rules6", u32),
        ("shadow_lists4", u32),
        ("shadow_lists6", u32),
        ("shadow_lists6_wide", u32),
        ("filters", u32),
        ("closed_ports", u64 * (2 * PORT_WORDS)),
        ("secrets", u64 * SECRETS),
    )
