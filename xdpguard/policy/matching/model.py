# SPDX-License-Identifier: GPL-2.0
"""What a filter matches: a conjunction of tests, each of one field against a set of values."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Field(enum.Enum):
    """A field of a packet: its name, and how many bits it has. A packet that lacks the field matches no test of it."""

    IP_SADDR = "ip saddr", 32
    IP_DADDR = "ip daddr", 32
    IP6_SADDR = "ip6 saddr", 128
    IP6_DADDR = "ip6 daddr", 128
    VERSION = "meta nfproto", 8  # 4 or 6, of a packet as it comes; tests that only IPv4 or IPv6 can pass carry one
    PROTOCOL = "meta l4proto", 8  # after the last extension header
    SPORT = "th sport", 16  # TCP and UDP
    DPORT = "th dport", 16
    TCP_FLAGS = "tcp flags", 8
    LENGTH = "meta length", 16  # from the IP header on, bytes
    DSCP = "ip dscp", 6
    TTL = "ip ttl", 8  # or the hop limit
    FRAG_OFF = "ip frag-off", 16  # with its flags, as in the header; IPv4
    FRAGMENT = "fragment", 2  # 0: none, 1: the first, 2: a later one; IPv4 and IPv6
    ICMP_TYPE = "icmp type", 8  # also of ICMPv6
    ICMP_CODE = "icmp code", 8
    VLAN_ID = "vlan id", 12  # of the outer tag; lacking without a tag
    ESTABLISHED = "state", 1  # 1: TCP or UDP of a socket of this host that is past listening

    def __init__(self, words: str, bits: int) -> None:
        self.words = words
        self.bits = bits


Range = tuple[int, int]  # first and last


class Test(NamedTuple):
    """A field against values: ranges that are sorted, disjoint and not adjacent. Network addresses are numbers."""

    field: Field
    ranges: tuple[Range, ...]


class ListTest(NamedTuple):
    """An address field against the prefixes of a named list as it is when the filters are built."""

    field: Field
    name: str
    negated: bool


class Base(enum.Enum):
    """Where an offset counts from."""

    LINK = "ll"  # the frame's beginning
    NETWORK = "nh"
    TRANSPORT = "th"
    INNER = "ih"  # behind the transport header


class Bytes(NamedTuple):
    """Up to 16 bytes at a fixed place: ``packet & mask == value``, or != if negated. Lacking bytes match neither."""

    base: Base
    offset: int  # bytes
    size: int  # bytes, 1 to 16
    mask: int
    value: int
    negated: bool = False


class Match(NamedTuple):
    """What a packet must be, all of it; empty: any IP packet."""

    tests: tuple[Test, ...] = ()
    lists: tuple[ListTest, ...] = ()
    bytes: tuple[Bytes, ...] = ()
