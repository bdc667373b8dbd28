# SPDX-License-Identifier: GPL-2.0
"""What explain answers (replay: tallied.py). Field names are the keys of --json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, Struct, UnsetType, field

from xdpguard.policy.hits import Split
from xdpguard.telemetry.attribution import RuleEntry


class HitCount(Struct, frozen=True):
    """What an entry has hit: packets and bytes."""

    packets: int
    bytes: int


def split_fields(split: Split) -> dict[str, Any]:
    """Return a shadow entry's hits by class: ``established``, ``allowed``, ``other``."""
    return {name: HitCount(*hits) for name, hits in split._asdict().items()}


class Rule(RuleEntry, frozen=True, kw_only=True, tag="rule"):
    """A rule. ``created`` and ``expires``: Unix time; ``age`` and ``left``: seconds. None: it has no end."""

    created: int
    age: int
    expires: int | None
    left: int | None
    packets: int
    bytes: int


class ShadowRule(Rule, frozen=True, kw_only=True, tag="rule"):
    """A shadow rule. ``class_``: whose the packet is, when the answer is about a packet."""

    established: HitCount
    allowed: HitCount
    other: HitCount
    class_: str | UnsetType = field(name="class", default=UNSET)


class NamedList(Struct, frozen=True, kw_only=True, tag_field="entry", tag="list"):
    """A list; ``holds``: its entry that contains the address. ``expires``, ``left``: of the entry, as of a rule."""

    name: str = field(name="list")
    holds: str | None
    expires: int | None
    left: int | None
    file: str | None
    source: str
    loaded: int
    packets: int
    bytes: int


class ShadowList(NamedList, frozen=True, kw_only=True, tag="list"):
    """A shadow list. ``class_``: whose the packet is, when the answer is about a packet."""

    shadow: bool = True
    established: HitCount
    allowed: HitCount
    other: HitCount
    class_: str | UnsetType = field(name="class", default=UNSET)


class Filter(Struct, frozen=True, kw_only=True, tag_field="entry", tag="filter"):
    """A filter. ``created`` and ``expires``: Unix time; ``age`` and ``left``: seconds. None: it has no end."""

    name: str = field(name="filter")
    match: str
    action: str
    reason: str
    source: str
    created: int
    age: int
    expires: int | None
    left: int | None
    packets: int
    bytes: int


class UnknownFilter(Struct, frozen=True, kw_only=True, tag_field="entry", tag="filter"):
    """A filter that the kernel holds and the store does not know."""

    slot: int


class UnknownRule(Struct, frozen=True, kw_only=True, tag_field="entry", tag="rule"):
    """A rule that the kernel holds and the store does not know."""

    slot: int
    class_: str | UnsetType = field(name="class", default=UNSET)


class UnknownList(Struct, frozen=True, kw_only=True, tag_field="entry", tag="list"):
    """A list that the kernel holds and the store does not know."""

    number: int
    class_: str | UnsetType = field(name="class", default=UNSET)


Unknown = UnknownRule | UnknownList
Entry = Rule | NamedList | Filter | Unknown | UnknownFilter
Shadow = ShadowRule | ShadowList | Unknown


class Guard(Struct, frozen=True):
    """What the SYN guard does at this moment; ``cause``: of the last flood."""

    mode: str
    active: bool
    cause: str | None


class Outcome(Struct, frozen=True, kw_only=True):
    """What happens to a packet, why, and which entry decides."""

    verdict: str
    observed: bool
    reason: str
    help: str
    stage: str
    decided_by: Entry | None


class Packet(Struct, frozen=True, kw_only=True):
    """Everything about a packet; ``octets``: bytes of the frame; ``without``: outcome without the deciding entry.

    ``shadow_filter``: the first filter in shadow that would drop it; ``filters``: names of all that it matched until
    one decided.
    """

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
    shadow_filter: Filter | UnknownFilter | None
    filters: list[str]
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
    """What is tracked of an address's TCP segments; ``ports``: how many of 64 groups of ports it has tried."""

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


class EndedEntry(Struct, frozen=True, kw_only=True):
    """An entry of a list that has ended, and so no longer blocks; ``ended``: Unix time."""

    name: str = field(name="list")
    shadow: bool
    holds: str
    ended: int


class Range(Struct, frozen=True, kw_only=True):
    """What is known about a prefix. ``allow``, ``block``, ``shadow``: rules for all of it; ``inside``: the first rules
    for part of it, of ``inside_total``; ``lists``: those with an entry for all or part of it, which ``holds`` names.
    """

    prefix: str
    allow: list[Rule]
    block: list[Rule]
    shadow: list[ShadowRule]
    inside: list[Rule]
    inside_total: int
    lists: list[NamedList]
    attached: bool


class Port(Struct, frozen=True, kw_only=True):
    """What is known about a port; ``closed``: the rule that closes it; ``filters``: those that name it."""

    port: str
    closed: Rule | None
    filters: list[Filter]
    attached: bool


class Address(Struct, frozen=True, kw_only=True):
    """Everything that is known about an address. ``allows_everybody``: notes on rules that let in it and all others."""

    address: str
    outcome: str | None
    decided_by: Entry | None
    allow: list[Rule]
    block: list[Rule]
    lists: list[NamedList]
    ended: list[EndedEntry]
    shadow: list[ShadowRule | ShadowList]
    bans: list[Ban]
    traffic: Traffic | None
    attached: bool
    interfaces: list[Place]
    needed: list[Need]
    left_out_of: list[str]
    allows_everybody: list[str]
