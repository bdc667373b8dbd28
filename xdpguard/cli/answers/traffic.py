# SPDX-License-Identifier: GPL-2.0
"""The answers of ``stats``, ``syns`` and ``events``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET, Struct, UnsetType

from xdpguard.telemetry.attribution import FilterEntry, ListEntry, RuleEntry
from xdpguard.telemetry.counters import ReasonCounts

if TYPE_CHECKING:
    from xdpguard.telemetry.counters import Counters


class Counted(Struct, frozen=True, kw_only=True):
    """An interface's counters; ``attached``: it carries the program now, so that they go on."""

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
    attached: bool

    @classmethod
    def of(cls, counters: Counters, attached: bool) -> Counted:
        """Convert an interface's counters as read."""
        same = {name: getattr(counters, name) for name in cls.__struct_fields__ if name != "attached"}
        return cls(**same, attached=attached)


class Stats(Struct, frozen=True):
    """The answer of ``stats``: counters by interface."""

    interfaces: dict[str, Counted]


class Syns(Struct, frozen=True, kw_only=True):
    """Initial SYNs of a group; which of the other keys there are, `syns --by` decides."""

    source: str | UnsetType = UNSET
    source_port: int | UnsetType = UNSET
    destination: str | UnsetType = UNSET
    destination_port: int | UnsetType = UNSET
    syns: int


class Drop(Struct, frozen=True, kw_only=True):
    """A dropped packet: when (Unix time), why, what decided, and its first bytes in hexadecimal."""

    time: float
    interface: str
    netns: str | None
    reason: str
    observed: bool
    packet: str | None
    length: int
    entry: RuleEntry | ListEntry | FilterEntry | None
    frame: str


class Events(Struct, frozen=True):
    """Answer of ``events``: the latest drops, and totals by reason; ``lost``: samples without room in the ring."""

    events: list[Drop]
    dropped: dict[str, int]
    lost: int
