# SPDX-License-Identifier: GPL-2.0
"""A set of filters: its head, its filters, their tests of bytes, their hits (bpf/layouts/filters.h)."""

from __future__ import annotations

from xdpguard.dataplane.sys.layouts.base import Layout, octets, padding, u8, u16, u32, u64

FIELDS = 16  # keys of a packet
FILTERING = 408  # bytes of what the program notes of a packet


class Filter(Layout):
    """A filter of a set. An address mask is in network byte order."""

    _fields_ = (
        ("expires", u64),
        ("bytes", u64),
        ("cost", u64),
        ("burst", u64),
        ("mask6", octets(16)),
        ("mask4", octets(4)),
        ("sets_at", u32),
        ("sets_mask", u32),
        ("slot", u32),
        ("cost_shift", u8),
        ("by_bytes", u8),
        ("precise", u8),
        ("per", u8),
        ("action", u8),
        ("shadow", u8),
        ("state", u8),
        ("tick_shift", u8),
        ("unused", padding(56)),
    )


class FilterBytes(Layout):
    """A test of bytes, as they are in the packet."""

    _fields_ = (
        ("mask", octets(16)),
        ("value", octets(16)),
        ("offset", u32),
        ("size", u16),
        ("base", u8),
        ("negated", u8),
        ("unused", padding(24)),
    )


class FilterHead(Layout):
    """The head of a set. Pairs are of IPv4 and of IPv6 packets, or of sources and of destinations."""

    _fields_ = (
        ("generation", u64),
        ("base6", u64 * 2),
        ("shift6", u32 * 2),
        ("fields", u32 * 2),
        ("addresses", u32 * 2),
        ("pages", u32),
        ("nodes", u32),
        ("bounds4", u32 * 2),
        ("bounds6", u32 * 2),
        ("entries6", u32 * 2),
        ("rows", u32),
        ("filters", u32),
        ("bytes", u32),
        ("count", u32),
        ("keys", octets(2 * FIELDS)),
        ("tables", octets(2 * FIELDS)),
        ("bits", octets(64)),
    )


class FilterHits(Layout):
    """What a filter matched, and what of that was over its limit."""

    _fields_ = (("packets", u64), ("bytes", u64), ("limited_packets", u64), ("limited_bytes", u64))


class FilterBuckets(Layout):
    """Token buckets of a few sources."""

    _fields_ = (("word", u64 * 4),)
