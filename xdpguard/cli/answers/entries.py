# SPDX-License-Identifier: GPL-2.0
"""The answers of ``rules``, ``lists load``, ``lists show`` and ``promote``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Struct, UnsetType

from xdpguard.cli.answers.filters import Filter
from xdpguard.explain.answers import HitCount, split_fields
from xdpguard.policy.hits import NO_SPLIT

if TYPE_CHECKING:
    from xdpguard.control.plan import Loaded as Result
    from xdpguard.control.presence import Presences
    from xdpguard.control.promote import Promotion as Promoted
    from xdpguard.control.results import ListHits, RuleHits, Share
    from xdpguard.store.lists import NamedList as Stored


class Origin(Struct, frozen=True):
    """What one origin wants of a rule; ``expires``: Unix time."""

    source: str
    reason: str
    expires: int | None


class Rule(Struct, frozen=True, kw_only=True):
    """A rule; times are Unix times. Reason, source and end are those of the first of its ``origins``, which counts.

    ``left_out``: addresses to which it does not apply, if there are any.
    """

    kind: str
    target: str
    reason: str
    source: str
    created: int
    expires: int | None
    packets: int
    bytes: int
    origins: list[Origin]
    left_out: list[str] | UnsetType = UNSET

    @classmethod
    def of(cls, item: RuleHits, left_out: list[str] | None = None) -> Rule:
        """Convert a rule in force."""
        return cls(**_rule_fields(item), left_out=left_out or UNSET)


class ShadowRule(Rule, frozen=True, kw_only=True):
    """A shadow rule; ``packets`` and ``bytes`` are totals of all classes."""

    established: HitCount
    allowed: HitCount
    other: HitCount

    @classmethod
    def counted(cls, item: RuleHits) -> ShadowRule:
        """Convert a shadow rule."""
        return cls(**_rule_fields(item), **split_fields(item.split or NO_SPLIT))


class Loaded(Struct, frozen=True, kw_only=True):
    """A list as loaded. ``entries``: those in force; ``timed``: of these, those with an end, from ``next_end`` to
    ``last_end``, Unix time; ``ended``: those no longer in force.
    """

    name: str
    shadow: bool
    entries: int
    given: int
    duplicates: int
    skipped: int
    format: str
    source: str
    file: str | None
    loaded: int
    timed: int
    ended: int
    next_end: int | None
    last_end: int | None


class LoadedNow(Loaded, frozen=True, kw_only=True):
    """A list that a command has just loaded; ``before``: entries of the list that it replaced."""

    before: int | None
    in_force: bool
    reading: str
    left_out: int

    @classmethod
    def of(cls, done: Result, shadow: bool, in_force: bool) -> LoadedNow:
        """Convert a list that was just loaded."""
        return cls(**_list_fields(done.its, shadow), **_reading_fields(done, in_force))


class DryLoad(LoadedNow, frozen=True, kw_only=True):
    """A list that was read, and not loaded. ``first``: its first prefixes; ``notes``: what there is to tell."""

    dry_run: bool
    first: list[str]
    notes: list[str]

    @classmethod
    def read(cls, done: Result, shadow: bool, first: list[str], notes: list[str]) -> DryLoad:
        """Convert a list that was only read."""
        fields = _list_fields(done.its, shadow) | _reading_fields(done, False)
        return cls(**fields, dry_run=True, first=first, notes=notes)


class NamedList(Loaded, frozen=True, kw_only=True):
    """A list, what it has hit, and how many of its entries the kernel holds; None: nothing is attached.

    ``in_force``: some interface carries the program and does more than observe.
    """

    packets: int
    bytes: int
    held: int | None
    in_force: bool | UnsetType
    left_out: list[str] | UnsetType = UNSET

    @classmethod
    def of(
        cls, item: ListHits, shares: Mapping[str, Share], where: Presences, left_out: list[str] | None = None
    ) -> NamedList:
        """Convert an enforced list."""
        return cls(**_list_fields(item.its, False), **_hit_fields(item, shares, where), left_out=left_out or UNSET)


class ShadowList(NamedList, frozen=True, kw_only=True):
    """A shadow list; ``packets`` and ``bytes`` are totals of all classes."""

    established: HitCount
    allowed: HitCount
    other: HitCount

    @classmethod
    def counted(cls, item: ListHits, shares: Mapping[str, Share], where: Presences | None = None) -> ShadowList:
        """Convert a shadow list."""
        split = split_fields(item.split or NO_SPLIT)
        return cls(**_list_fields(item.its, True), **_hit_fields(item, shares, where), **split)


class Promotion(Struct, frozen=True, kw_only=True):
    """Shadow entries that are promoted, or would be, and what the rules and lists have hit in total."""

    promoted: bool
    in_force: bool
    rules: list[ShadowRule]
    lists: list[ShadowList]
    filters: list[Filter]
    established: HitCount
    allowed: HitCount
    other: HitCount

    @classmethod
    def of(cls, chosen: Promoted, promoted: bool) -> Promotion:
        """Convert the entries chosen for promotion."""
        return cls(
            promoted=promoted,
            in_force=chosen.in_force,
            rules=[ShadowRule.counted(it) for it in chosen.rules],
            lists=[ShadowList.counted(it, {}) for it in chosen.lists],
            filters=[Filter.of(it) for it in chosen.filters],
            **split_fields(chosen.split),
        )


def _rule_fields(item: RuleHits) -> dict[str, Any]:
    rule = item.rule
    return {
        "kind": rule.label,
        "target": str(rule.target),
        "reason": rule.reason,
        "source": rule.source,
        "created": int(rule.created),
        "expires": _end(rule.expires),
        "packets": item.packets,
        "bytes": item.bytes,
        "origins": [Origin(it.source, it.reason, _end(it.expires)) for it in rule.parts],
    }


def _end(expires: float | None) -> int | None:
    return None if expires is None else math.ceil(expires)


def _list_fields(its: Stored, shadow: bool) -> dict[str, Any]:
    names = ("name", "entries", "given", "duplicates", "skipped", "format", "source")
    same = {name: getattr(its, name) for name in names}
    ends = {
        "timed": its.timing.timed,
        "ended": its.timing.ended,
        "next_end": its.timing.next,
        "last_end": its.timing.last,
    }
    return same | ends | {"shadow": shadow, "file": its.file or None, "loaded": int(its.loaded)}


def _reading_fields(done: Result, in_force: bool) -> dict[str, Any]:
    before = done.before.entries if done.before else None
    return {"before": before, "in_force": in_force, "reading": done.reading, "left_out": done.left_out}


def _hit_fields(item: ListHits, shares: Mapping[str, Share], where: Presences | None) -> dict[str, Any]:
    share = shares.get(item.its.name)
    return {
        "packets": item.packets,
        "bytes": item.bytes,
        "held": share.held if share else None,
        "in_force": UNSET if where is None else bool(where.enforcing and share),
    }
