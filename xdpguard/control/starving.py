# SPDX-License-Identifier: GPL-2.0
"""Rates of the SYN guard so low that sessions live on while nobody can log in any more."""

from __future__ import annotations

from collections.abc import Collection

from xdpguard.errors import XdpguardError
from xdpguard.policy.model import Guard
from xdpguard.policy.target import parse_ports

_LEAST = 10  # a second: fewer are used up by retries, by a second client behind one address, or by forged SYNs
_RATES = {
    "syn_rate": "SYNs of a source that get no cookie",
    "answer_rate": "cookies for a source",
    "connection_rate": "connections of a source",
    "unknown_rate": "SYNs of all sources whose owner is unknown",
}


def check(policy: Guard, before: Guard, ports: Collection[int]) -> None:
    """Refuse a policy that would let hardly any connection begin on ``ports``, unless the one before did as well."""
    low = _low(policy, ports)
    if low is None or _low(before, ports) == low:
        return
    key, port = low
    rate = getattr(policy, key)
    raise XdpguardError(
        f"mode=always with {key}={rate} passes {rate} a second ({_RATES[key]}): sessions go on,"
        f" and a new login over {port}/tcp may not get in",
        f"nothing was changed; set {key} to {_LEAST} or more, or exempt_ports={port}; "
        "try it with --confirm 60s, or use --force to override",
    )


def _low(policy: Guard, ports: Collection[int]) -> tuple[str, int] | None:
    """Return the first rate that is too low and the port that it closes; None if there is none."""
    exempt = {it.number for text in policy.exempt_ports for it in parse_ports(text) if it.protocol == "tcp"}
    left = sorted(set(ports) - exempt)
    if policy.mode != "always" or not left:
        return None
    return next(((key, left[0]) for key in _RATES if 0 < getattr(policy, key) < _LEAST), None)
