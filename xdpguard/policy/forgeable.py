# SPDX-License-Identifier: GPL-2.0
"""The guard's limits that a sender of forged SYNs can turn against a client."""

from __future__ import annotations

from xdpguard.policy.model import Guard

# By key, when the limit affects that prefix. Connections are counted by ACKs of a cookie, which cannot be forged.
_BY_SYNS = {"syn_rate": "where no cookie can be sent", "answer_rate": "while the guard is active"}


def warnings(guard: Guard) -> list[str]:
    """Return a warning for each per-source limit that forged SYNs can exhaust; none with the guard off."""
    if guard.mode == "off":
        return []
    return [_sentence(key, guard) for key in _BY_SYNS if getattr(guard, key)]


def _sentence(key: str, guard: Guard) -> str:
    wide = guard.prefix4 < 32 or guard.prefix6 < 128
    whom = f"a client's address (IPv4 /{guard.prefix4}, IPv6 /{guard.prefix6})" if wide else "a client's address"
    return (
        f"{key} is counted by source, which anyone can forge: {getattr(guard, key):,} SYNs/s from {whom}"
        f" keep that client from connecting {_BY_SYNS[key]}; to disable the limit: guard set {key}=0"
    )
