# SPDX-License-Identifier: GPL-2.0
"""The lab's network, on which `xdpguard bench` measures too: see xdpguard/bench/wire.py."""

from __future__ import annotations

from xdpguard.bench.wire import (
    CLIENTS4,
    CLIENTS6,
    INTERFACE,
    OUTSIDE4,
    OUTSIDE6,
    OUTSIDE_MAC,
    SERVER4,
    SERVER6,
    SERVER_MAC,
    SPOOFED4,
    SPOOFED6,
    Lab,
    is_lab_end,
    remove_orphans,
)

__all__ = [
    "CLIENTS4",
    "CLIENTS6",
    "INTERFACE",
    "OUTSIDE4",
    "OUTSIDE6",
    "OUTSIDE_MAC",
    "SERVER4",
    "SERVER6",
    "SERVER_MAC",
    "SPOOFED4",
    "SPOOFED6",
    "Lab",
    "is_lab_end",
    "remove_orphans",
]
