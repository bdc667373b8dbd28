# SPDX-License-Identifier: GPL-2.0
"""What was sent, and what the default has cut (bpf/layouts/default.h)."""

from __future__ import annotations

from xdpguard.dataplane.sys.layouts.base import Layout, octets, padding, u8, u16, u64


class SentKey(Layout):
    """A remote end that something was sent to, and the local port."""

    _fields_ = (
        ("address", octets(16)),
        ("remote_port", octets(2)),
        ("local_port", octets(2)),
        ("protocol", u8),
        ("ip_version", u8),
        ("zero", padding(2)),
    )


class CutKey(Layout):
    """Whose packets belong to nothing, and where they go."""

    _fields_ = (
        ("source", octets(16)),
        ("port", u16),
        ("protocol", u8),
        ("ip_version", u8),
        ("zero", padding(4)),
    )


class Cut(Layout):
    """How many there were. ``last``: CLOCK_BOOTTIME, ns."""

    _fields_ = (("packets", u64), ("bytes", u64), ("last", u64))
