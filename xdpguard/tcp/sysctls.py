# SPDX-License-Identifier: GPL-2.0
"""The limits that the kernel sets to TCP in a namespace, read in that namespace."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_FOLDER = Path("/proc/sys/net/ipv4")


class Limits(NamedTuple):
    """Settings of net.ipv4: first and last ephemeral port, and others by their own names."""

    ports: tuple[int, int]
    tcp_max_tw_buckets: int
    tcp_max_syn_backlog: int
    tcp_syncookies: int

    @property
    def port_count(self) -> int:
        """How many ephemeral ports there are."""
        return self.ports[1] - self.ports[0] + 1

    def syn_backlog(self, backlog: int) -> int:
        """Half-open connections that a listener takes: its backlog; without SYN cookies, of sources that have not
        been proved, at most three quarters of tcp_max_syn_backlog (tcp_conn_request() in net/ipv4/tcp_input.c).
        """
        return backlog if self.tcp_syncookies else min(backlog, self.tcp_max_syn_backlog * 3 // 4)


def read() -> Limits:
    """The settings of the namespace this thread is in. What cannot be read is what the kernel begins with."""
    first, last = [*_words("ip_local_port_range"), 32_768, 60_999][:2]
    return Limits(
        (first, last),
        _number("tcp_max_tw_buckets", 262_144),
        _number("tcp_max_syn_backlog", 4096),
        _number("tcp_syncookies", 1),
    )


def _words(name: str) -> list[int]:
    try:
        return [int(word) for word in (_FOLDER / name).read_text(encoding="ascii").split()]
    except (OSError, ValueError):
        return []


def _number(name: str, otherwise: int) -> int:
    found = _words(name)
    return found[0] if found else otherwise
