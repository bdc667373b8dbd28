# SPDX-License-Identifier: GPL-2.0
"""A rule: what it does to whom, why, since when, until when."""

from __future__ import annotations

from typing import Literal, NamedTuple

from xdpguard.policy.hits import NO_SPLIT, Split
from xdpguard.policy.target import Kind, Label, Target

Mode = Literal["enforce", "shadow"]  # a shadow entry drops nothing: it counts what it would drop
MODES: tuple[Mode, ...] = ("enforce", "shadow")
SAFETY = "safety"  # origin of allow rules that protect what this host needs, see needed.py


class Rule(NamedTuple):
    """A stored rule. Times are Unix seconds; packets, bytes and ``split`` are hits from before the kernel's current
    counters. ``split`` divides those of a shadow rule by class of packet.
    """

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
    mode: Mode = "enforce"
    split: Split = NO_SPLIT

    @property
    def label(self) -> Label:
        """The kind as people are shown it."""
        return "shadow" if self.mode == "shadow" else self.kind


class NewRule(NamedTuple):
    """A rule to add, or to replace the one of the same mode, kind and target with."""

    kind: Kind
    target: Target
    reason: str
    source: str
    created: float
    expires: float | None
