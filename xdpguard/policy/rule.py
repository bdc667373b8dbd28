# SPDX-License-Identifier: GPL-2.0
"""A rule: what it does to whom, why, since when, until when."""

from __future__ import annotations

from typing import Literal, NamedTuple

from xdpguard.policy.hits import NO_SPLIT, Split
from xdpguard.policy.target import Kind, Label, Target

Mode = Literal["enforce", "shadow"]  # a shadow entry drops nothing: it counts what it would drop
MODES: tuple[Mode, ...] = ("enforce", "shadow")
# Origins.
CLI = "cli"
CONFIG = "config"  # the configuration file
GUARD = "guard"  # bans of the SYN guard
SAFETY = "safety"  # allow rules that protect what this host needs, see control/needed.py
# Origins of entries that another system decides, see control/foreign.py; it may also have another name.
FLEET = "fleet"
CROWDSEC = "crowdsec"
BGP = "bgp"
FAIL2BAN = "fail2ban"


class Part(NamedTuple):
    """What one origin wants of a rule. ``expires``: Unix time, None for never."""

    source: str
    reason: str
    expires: float | None


class Rule(NamedTuple):
    """A stored rule. Times are Unix seconds; packets, bytes and ``split`` are hits from before the kernel's current
    counters. ``split`` divides those of a shadow rule by class of packet.

    Reason, source and end are those of the part that counts, which lasts longest; ``others``: those of other origins.
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
    others: tuple[Part, ...] = ()

    @property
    def label(self) -> Label:
        """The kind as people are shown it."""
        return "shadow" if self.mode == "shadow" else self.kind

    @property
    def parts(self) -> tuple[Part, ...]:
        """What each origin wants, the one that counts first."""
        return Part(self.source, self.reason, self.expires), *self.others

    @property
    def origins(self) -> list[str]:
        """The origins of its parts, the one that counts first."""
        return [it.source for it in self.parts]

    def part(self, source: str) -> Part | None:
        """Return the part of an origin, or None."""
        return next((it for it in self.parts if it.source == source), None)

    def alive(self, now: float) -> bool:
        """Return whether it has not ended (``now``: Unix time)."""
        return self.expires is None or self.expires > now

    def as_new(self) -> NewRule:
        """Return what there would be to add, were it not stored."""
        return NewRule(self.kind, self.target, self.reason, self.source, self.created, self.expires, self.others)

    @property
    def why(self) -> str:
        """The first reason that any of its origins gives."""
        return next((it.reason for it in self.parts if it.reason), "")


class NewRule(NamedTuple):
    """A rule to add, or to replace the one of the same mode, kind and target with."""

    kind: Kind
    target: Target
    reason: str
    source: str
    created: float
    expires: float | None
    others: tuple[Part, ...] = ()

    @property
    def part(self) -> Part:
        """What its origin wants."""
        return Part(self.source, self.reason, self.expires)

    @property
    def parts(self) -> tuple[Part, ...]:
        """What each origin wants, the one that counts first."""
        return self.part, *self.others

    @property
    def why(self) -> str:
        """The first reason that any of its origins gives."""
        return next((it.reason for it in self.parts if it.reason), "")

    def of(self, parts: tuple[Part, ...]) -> NewRule:
        """Return it with these parts, the one that counts first."""
        first, *others = parts
        return NewRule(self.kind, self.target, first.reason, first.source, self.created, first.expires, tuple(others))

    def stored(self, slot: int, mode: Mode) -> Rule:
        """Return it as a rule that counts in a slot, without hits."""
        return Rule(
            0,
            self.kind,
            self.target,
            self.reason,
            self.source,
            self.created,
            self.expires,
            slot,
            0,
            0,
            mode,
            others=self.others,
        )
