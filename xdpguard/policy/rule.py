# SPDX-License-Identifier: GPL-2.0
"""A rule: what it does to whom, why, since when, until when."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.policy.target import Kind, Target

SAFETY = "safety"  # origin of allow rules that protect what this host needs, see needed.py


class Rule(NamedTuple):
    """A stored rule. Times are Unix seconds; packets and bytes are hits from before the kernel's current counters."""

    id: int
    kind: Kind
    target: Target
    reason: str
    source: str
    created: float
    expires: float | None
    slot: int
    packets: int
    bytes: int


class NewRule(NamedTuple):
    """A rule to add, or to replace the one of the same kind and target with."""

    kind: Kind
    target: Target
    reason: str
    source: str
    created: float
    expires: float | None
