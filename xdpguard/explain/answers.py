# SPDX-License-Identifier: GPL-2.0
"""What explain answers; replay: tallied.py. The names of fields are the keys of --json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from xdpguard.policy.hits import Split
from xdpguard.telemetry.attribution import RuleEntry


class HitCount(Struct, frozen=True):
    """What an entry has hit."""

    packets: int
    bytes: int


def split_fields(split: Split) -> dict[str, Any]:
    """What a shadow entry would have hit, by whose packets they were: ``established``, ``allowed``, ``other``."""
    return {name: HitCount(*hits) for name, hits in split._asdict().items()}


class Rule(RuleEntry, frozen=True, kw_only=True, tag="rule"):
    """A rule. Times are Unix times, ``age`` and ``left`` seconds; None: it has no end."""

    created: int
    age: int
    expires: int | None
    left: int | None
    packets: int
    bytes: int


class ShadowRule(Rule, frozen=True, kw_only=True, tag="rule"):
    """A shadow rule. ``class_`` says whose the packet is that is asked about."""

    established: HitCount
    allowed: HitCount
    other: HitCount
    class_: str | UnsetType = field(name="class", default=UNSET)


class NamedList(Struct, frozen=True, kw_only=True, tag_field="entry", tag="list"):
    """A list; ``holds``: the entry in it that holds the address."""

    name: str = field(name="list")
    holds: str | None
    file: str | None
    source: str
    loaded: int
    packets: int
    bytes: int


class ShadowList(NamedList, frozen=True, kw_only=True, tag="list"):
    """A shadow list, likewise."""

    shadow: bool = True
    established: HitCount
    allowed: HitCount
    other: HitCount
    class_: str | UnsetType = field(name="class", default=UNSET)


class UnknownRule(Struct, frozen=True, kw_only=True, tag_field="entry", tag="rule"):
    """A rule that the kernel has and the store does not know."""

    slot: int
    class_: str | UnsetType = field(name="class", default=UNSET)


class UnknownList(Struct, frozen=True, kw_only=True, tag_field="entry", tag="list"):
    """A list that the kernel has and the store does not know."""

    number: int
    class_: str | UnsetType = field(name="class", default=UNSET)


Unknown = UnknownRule | UnknownList
Entry = Rule | NamedList | Unknown
Shadow = ShadowRule | ShadowList | Unknown


class Guard(Struct, frozen=True):
    """What the SYN guard does at this moment."""

    mode: str
    active: bool
    cause: str | None


class Outcome(Struct, frozen=True, kw_only=True):
    """What becomes of a packet, why, and which entry decides."""

    verdict: str
    observed: bool
    reason: str
    help: str
    stage: str
    decided_by: Entry | None


class Packet(Struct, frozen=True, kw_only=True):
    """Everything about a packet; ``without``: what would become of it if the entry that decides were not there."""

    packet: str | None
    octets: int
    interface: str | None
    netns: str | None
    verdict: str
    observed: bool
    reason: str
    help: str
    stage: str
    decided_by: Entry | None
    observe: bool
    shadow: Shadow | None
    without: Outcome | None
    guard: Guard


class Ban(Struct, frozen=True):
    """How often the guard has banned an address or its site; ``last``: Unix time."""

    target: str
    number: int
    last: int


class Destination(Struct, frozen=True):
    """Where an address has sent initial SYNs."""

    destination: str
    port: int
    syns: int


class Traffic(Struct, frozen=True, kw_only=True):
    """What is remembered of an address's TCP segments; ``ports``: kinds of ports it tried, of 64."""

    packets: int
    flags: Mapping[str, int]
    ports: int
    syns: int
    destinations: list[Destination]


class Place(Struct, frozen=True):
    """An attached interface, and whether it only observes."""

    interface: str
    netns: str | None
    observe: bool


class Need(Struct, frozen=True):
    """What this host needs an address for."""

    role: str
    netns: str | None


class Address(Struct, frozen=True, kw_only=True):
    """Everything that is known of an address."""

    address: str
    outcome: str | None
    decided_by: Entry | None
    allow: list[Rule]
    block: list[Rule]
    lists: list[NamedList]
    shadow: list[ShadowRule | ShadowList]
    bans: list[Ban]
    traffic: Traffic | None
    attached: bool
    interfaces: list[Place]
    needed: list[Need]
    left_out_of: list[str]
