# SPDX-License-Identifier: GPL-2.0
"""The kernel's TCP limits in a namespace."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

_FOLDER = Path("/proc/sys/net/ipv4")


class Limits(NamedTuple):
    """Settings of net.ipv4: the first and last ephemeral port, and others under their own names."""

    ports: tuple[int, int]
    tcp_max_tw_buckets: int
    tcp_max_syn_backlog: int
    tcp_syncookies: int

    @property
    def port_count(self) -> int:
        """The number of ephemeral ports."""
        return self.ports[1] - self.ports[0] + 1

    def syn_backlog(self, backlog: int) -> int:
        """Return how many half-open connections a listener accepts.

        That is its backlog; without SYN cookies, unproven sources get at most three quarters of tcp_max_syn_backlog
        (tcp_conn_request() in net/ipv4/tcp_input.c).
        """
        return backlog if self.tcp_syncookies else min(backlog, self.tcp_max_syn_backlog * 3 // 4)


def read() -> Limits:
    """Read the settings of this thread's namespace; the kernel's defaults stand in for unreadable ones."""
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
