# SPDX-License-Identifier: GPL-2.0
"""What replay answers. The names of fields are the keys of --json."""

from __future__ import annotations

from msgspec import Struct

from xdpguard.explain.answers import Guard


class ReasonCount(Struct, frozen=True):
    """Packets and bytes whose verdict was carried out, and those observed only."""

    packets: int
    bytes: int
    observed_packets: int
    observed_bytes: int


class Source(Struct, frozen=True):
    """A source, and how many of its packets would be dropped."""

    source: str
    packets: int


class FilterCount(Struct, frozen=True, kw_only=True):
    """A filter that matched: packets and bytes, of them those above its limit, and the sources it drops most of.

    ``action``: as written; in shadow it would drop them.
    """

    name: str
    action: str
    mode: str
    packets: int
    bytes: int
    limited_packets: int
    limited_bytes: int
    sources: list[Source]


class Tallied(Struct, frozen=True, kw_only=True):
    """What one program makes of a capture. ``shadow``: packets that shadow entries would count, by class."""

    packets: int
    bytes: int
    dropped: int
    would_drop: int
    reasons: dict[str, ReasonCount]
    flags: dict[str, int]
    protocols: dict[str, int]
    shadow: dict[str, int] | None
    blocked_sources: list[Source]
    blocked_sources_exact: bool
    filters: list[FilterCount]


class Expected(Struct, frozen=True):
    """What was expected of every packet, and how many do not meet it; the first of these, its reason and its filter."""

    what: str
    failed: int
    first: int | None
    reason: str | None
    filter: str | None


class Change(Struct, frozen=True):
    """Packets for which two programs differ: how many, and the numbers of the first of them; filters that decide."""

    before: str
    after: str
    verdict_before: str
    verdict_after: str
    packets: int
    bytes: int
    first: tuple[int, ...]
    filter_before: str | None
    filter_after: str | None


class Diff(Struct, frozen=True, kw_only=True):
    """What another program makes of the capture, and what changes against it."""

    program: str
    before: Tallied
    changes: list[Change]


class Outgoing(Struct, frozen=True, kw_only=True):
    """Packets that the capturing host sent: how many were left out, and how many are known by what."""

    left_out: int
    flag: int
    packet_type: int
    mac: int
    address: int


class Replay(Struct, frozen=True, kw_only=True):
    """A capture, and what a program makes of it: the fields of Tallied are among these.

    ``sent``: packets that the capturing host sent; ``direction``: which were run, in or all.
    """

    file: str
    format: str
    fault: str | None
    left_out: int
    shortened: int
    sent: int
    direction: str
    outgoing: Outgoing
    program: str
    observe: bool
    guard: Guard
    seconds: float
    packets: int
    bytes: int
    dropped: int
    would_drop: int
    reasons: dict[str, ReasonCount]
    flags: dict[str, int]
    protocols: dict[str, int]
    shadow: dict[str, int] | None
    blocked_sources: list[Source]
    blocked_sources_exact: bool
    filters: list[FilterCount]
    expected: Expected | None
    diff: Diff | None
