# SPDX-License-Identifier: GPL-2.0
"""Counters of a network namespace from /proc/net/netstat (the kernel's linux/snmp.h)."""

from __future__ import annotations

from pathlib import Path

from xdpguard.net.netns import entered

_FILE = Path("/proc/thread-self/net/netstat")  # of the thread's own namespace, wherever /proc was mounted


def listen_overflows(netns: str) -> int:
    """Return how many handshakes of a namespace found a full accept queue: TcpExt's ListenOverflows.

    Raises XdpguardError if the namespace no longer exists.
    """
    with entered(netns):
        rows = [line.split() for line in _FILE.read_text(encoding="ascii").splitlines()]
    names, values = (row for row in rows if row[0] == "TcpExt:")
    return int(values[names.index("ListenOverflows")])
