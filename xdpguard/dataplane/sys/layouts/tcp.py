# SPDX-License-Identifier: GPL-2.0
"""What the programs of bpf/tcp/ count and record."""

from __future__ import annotations

from xdpguard.dataplane.sys.layouts.base import Layout, octets, u8, u16, u32, u64

STATES = 13  # TCP states there are, and the unused 0: XG_STATE_COUNT


class Remote(Layout):
    """Key of the handshakes of a remote address (handshakes.c)."""

    _fields_ = (("address", octets(16)), ("netns", u32), ("zero", u32))


class Ends(Layout):
    """Both ends of a connection. IPv4 as IPv4-mapped IPv6, ports in host byte order."""

    _fields_ = (
        ("local", octets(16)),
        ("remote", octets(16)),
        ("local_port", u16),
        ("remote_port", u16),
        ("netns", u32),
    )


class Changes(Layout):
    """Changes of state of a namespace, from and to (states.c)."""

    _fields_ = (("count", u64 * (STATES * STATES)),)


class Transition(Layout):
    """A change of a socket's state (trace.c)."""

    _fields_ = (
        ("at", u64),
        ("since", u64),
        ("sk", u64),
        ("ends", Ends),
        ("pid", u32),
        ("inode", u32),
        ("old_state", u8),
        ("new_state", u8),
        ("own", u8),
        ("rest", u8),
        ("zero", octets(4)),
        ("comm", octets(16)),
    )


class Retransmitted(Layout):
    """Segments that were retransmitted, or the end of a connection (retrans.c)."""

    _fields_ = (
        ("at", u64),
        ("sk", u64),
        ("ends", Ends),
        ("sent", u32),
        ("segments", u16),
        ("kind", u8),
        ("state", u8),
        ("again", u8),
        ("zero", octets(7)),
    )


class Resent(Layout):
    """Key of the counts of retransmitted segments (resent.c)."""

    _fields_ = (("netns", u32), ("port", u16), ("kind", u16))


class Group(Layout):
    """Key of a histogram's bucket (rtt.c)."""

    _fields_ = (("address", octets(16)), ("netns", u32), ("port", u16), ("bucket", u16))


class Times(Layout):
    """Round-trip times in a bucket (rtt.c)."""

    _fields_ = (("count", u64), ("sum", u64))


class CwndSample(Layout):
    """Windows of a connection at a moment (cwnd.c)."""

    _fields_ = (
        ("at", u64),
        ("sk", u64),
        ("ends", Ends),
        ("window", u32),
        ("threshold", u32),
        ("srtt", u32),
        ("send_window", u32),
        ("receive_window", u32),
        ("flight", u32),
        ("skipped", u32),
        ("closed", u32),
    )
