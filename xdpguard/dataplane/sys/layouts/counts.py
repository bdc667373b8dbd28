# SPDX-License-Identifier: GPL-2.0
"""What the program counts and samples, and what the probe answers (bpf/layouts/counts.h, samples.h)."""

from __future__ import annotations

from xdpguard.dataplane.sys.layouts.base import Layout, octets, padding, u8, u16, u32, u64
from xdpguard.dataplane.sys.layouts.filters import FILTERING

REASON_SLOTS = 32  # room for reasons to come
PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "other")
DROP_FRAME = 128  # bytes of a sample's frame that are kept


class Source4(Layout):
    """Key of the counts of an IPv4 source."""

    _fields_ = (("address", octets(4)), ("cpu", u32))


class Source6(Layout):
    """Key of the counts of an IPv6 source."""

    _fields_ = (("address", octets(16)), ("cpu", u32))


class SourceCounts(Layout):
    """Packets and TCP flags of a source, and the ports it has tried."""

    _fields_ = (
        ("packets", u64),
        ("flags", u64 * 8),
        ("ports", u64),
        ("ports_since", u64),
        ("ports_number", u64),
        ("clean", u64),
    )


class Tuple4(Layout):
    """Initial SYNs of an IPv4 tuple."""

    _fields_ = (
        ("source", octets(4)),
        ("destination", octets(4)),
        ("source_port", octets(2)),
        ("destination_port", octets(2)),
        ("cpu", u32),
        ("syns", u64),
        ("syns_elsewhere", u64),
    )


class Tuple6(Layout):
    """Initial SYNs of an IPv6 tuple."""

    _fields_ = (
        ("source", octets(16)),
        ("destination", octets(16)),
        ("source_port", octets(2)),
        ("destination_port", octets(2)),
        ("cpu", u32),
        ("syns", u64),
        ("syns_elsewhere", u64),
    )


class ReasonCounts(Layout):
    """Packets and bytes of a reason, and the state of its samples."""

    _fields_ = (
        ("packets", u64),
        ("bytes", u64),
        ("observed_packets", u64),
        ("observed_bytes", u64),
        ("due", u64),
        ("window", u64),
        ("samples", u64),
        ("left", u32),
        ("lost", u32),
    )


class Budget(Layout):
    """New entries of the LRU tables made in the running second."""

    _fields_ = (("since", u64), ("sources", u32), ("tuples", u32))


class FloodCounts(Layout):
    """What a CPU has seen of a flood and not yet handed on."""

    _fields_ = (
        ("syns", u32),
        ("unmatched", u32),
        ("proved", u32),
        ("syns_left", u32),
        ("segments_left", u32),
        ("zero", u32),
    )


class Counters(Layout):
    """One interface's counters on one CPU. The last four are the program's own."""

    _fields_ = (
        ("reasons", ReasonCounts * REASON_SLOTS),
        ("flag_sets", u64 * 256),
        ("protocols", u64 * len(PROTOCOLS)),
        ("sources_skipped", u64),
        ("tuples_skipped", u64),
        ("cookies_valid", u64),
        ("events_lost", u64),
        ("denied_entry", u32),
        ("denied_number", u32),
        ("budget", Budget),
        ("flood", FloodCounts),
        ("denials", padding(64 * 40)),
        ("after", padding(24)),
        ("handover", padding(8)),
        ("filtering", padding(FILTERING)),
    )


class Event(Layout):
    """What the controller hears of at once."""

    _fields_ = (
        ("at", u64),
        ("kind", u32),
        ("ifindex", u32),
        ("source", octets(16)),
        ("port", u16),
        ("ip_version", u8),
        ("cause", u8),
        ("zero", u32),
    )


class Drop(Layout):
    """A sample of what was dropped."""

    _fields_ = (
        ("begun", u32),
        ("link", u32),
        ("at", u64),
        ("length", u32),
        ("number", u32),
        ("reason", u8),
        ("entry", u8),
        ("observed", u8),
        ("captured", u8),
        ("frame", octets(DROP_FRAME)),
        ("done", u32),
    )


class Reader(Layout):
    """Who wants to hear of drops."""

    _fields_ = (("until", u64), ("samples", u32), ("session", u32), ("reasons", u32), ("zero", u32))


class ProbeAnswer(Layout):
    """What the probe says of a frame."""

    _fields_ = (
        ("reason", u8),
        ("verdict", u8),
        ("observed", u8),
        ("ip_version", u8),
        ("protocol", u8),
        ("segment", u8),
        ("tcp_flags", u8),
        ("entry", u8),
        ("number", u32),
        ("shadow", u16),
        ("shadow_class", u8),
        ("zero", u8),
        ("source", octets(16)),
    )


class ProbeState(Layout):
    """What the probe is asked."""

    _fields_ = (("place", u32), ("length", u32), ("without", u32), ("number", u32))
