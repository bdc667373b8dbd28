# SPDX-License-Identifier: GPL-2.0
"""Which of the guard's limits a sender of forged SYNs can turn against a client of his choice."""

from __future__ import annotations

from xdpguard.policy.model import Guard

# By key: what the limit keeps from that prefix. Connections are counted by ACKs of a cookie, which nobody can forge.
_BY_SYNS = {"syn_rate": "where no cookie can be sent", "answer_rate": "while the guard is active"}


def warnings(guard: Guard) -> list[str]:
    """A sentence for each limit by source prefix that forged SYNs can use up; none with the guard off."""
    if guard.mode == "off":
        return []
    return [_sentence(key, guard) for key in _BY_SYNS if getattr(guard, key)]


def _sentence(key: str, guard: Guard) -> str:
    wide = guard.prefix4 < 32 or guard.prefix6 < 128
    whom = f"a client's address (IPv4 /{guard.prefix4}, IPv6 /{guard.prefix6})" if wide else "a client's address"
    return (
        f"{key} is counted by source, which anybody can forge: {getattr(guard, key):,} SYNs a second from {whom}"
        f" keep that client from connecting {_BY_SYNS[key]}; guard set {key}=0 counts no sources"
    )
