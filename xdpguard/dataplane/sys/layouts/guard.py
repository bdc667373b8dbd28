# SPDX-License-Identifier: GPL-2.0
"""The SYN guard's policy and state (bpf/layouts/guard.h)."""

from __future__ import annotations

from xdpguard.dataplane.sys.layouts.base import Layout, octets, u32, u64
from xdpguard.dataplane.sys.layouts.rules import PORT_WORDS


class Rate(Layout):
    """A packet each ``interval`` ns, or as much as ``burst`` ns before its time."""

    _fields_ = (("interval", u64), ("burst", u64))


class GuardPolicy(Layout):
    """The policy, which all interfaces of an instance share."""

    _fields_ = (
        ("mode", u32),
        ("options", u32),
        ("rmem_max", u32),
        ("scan", u32),
        ("window", u64),
        ("flood", u64),
        ("unproved", u64),
        ("hold", u64),
        ("syns", Rate),
        ("answers", Rate),
        ("connections", Rate),
        ("resets", Rate),
        ("unknown", Rate),
        ("signed_syns", Rate),
        ("mask6", u64 * 2),
        ("mask4", octets(4)),
        ("zero", u32),
        ("exempt_ports", u64 * PORT_WORDS),
    )


class Guard(Layout):
    """The state on one interface. Each field is written on its own, by the program as well."""

    _fields_ = (
        ("until", u64),
        ("mac", u64),
        ("pass_unknown", u64),
        ("began", u64),
        ("floods", u64),
        ("cause", u32),
        ("port", u32),
        ("scans", u64),
        ("link", u64),
        ("window_began", u64),
        ("syns", u64),
        ("unmatched", u64),
        ("proved", u64),
        ("calm", u64),
        ("resets", u64),
        ("unknown", u64),
        ("signed_syns", u64),
        ("mute", u32),
        ("more_macs", u32),
        ("locals", u32),
        ("zero", u32),
        ("peer_at", u64),
    )


class Flight(Layout):
    """A tuple whose handshake was proved of late."""

    _fields_ = (("tuple", u64), ("at", u64))


class Buckets(Layout):
    """Token buckets of the source prefixes that share a place."""

    _fields_ = (("syns", u64), ("answers", u64), ("connections", u64), ("zero", u64))
