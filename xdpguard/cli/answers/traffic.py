# SPDX-License-Identifier: GPL-2.0
"""Packets: ``stats``, ``events``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from xdpguard.telemetry.attribution import ListEntry, RuleEntry
from xdpguard.telemetry.counters import ReasonCounts

if TYPE_CHECKING:
    from xdpguard.telemetry.counters import Counters


class Counted(Struct, frozen=True, kw_only=True):
    """An interface's counters."""

    packets: int
    bytes: int
    dropped: int
    reasons: dict[str, ReasonCounts]
    samples: dict[str, int]
    samples_lost: int
    flags: dict[str, int]
    protocols: dict[str, int]
    sources_skipped: int
    tuples_skipped: int
    cookies_valid: int
    events_lost: int

    @classmethod
    def of(cls, counters: Counters) -> Counted:
        """What was read."""
        return cls(**{name: getattr(counters, name) for name in cls.__struct_fields__})


class Stats(Struct, frozen=True):
    """``stats``: by interface."""

    interfaces: dict[str, Counted]


class Drop(Struct, frozen=True, kw_only=True):
    """A dropped packet: when (Unix time), why, what decided, and its first bytes in hexadecimal."""

    time: float
    interface: str
    netns: str | None
    reason: str
    observed: bool
    packet: str | None
    length: int
    entry: RuleEntry | ListEntry | None
    frame: str


class Events(Struct, frozen=True):
    """``events``: the last drops, and how many there were by reason; ``lost``: samples that found no room."""

    events: list[Drop]
    dropped: dict[str, int]
    lost: int
