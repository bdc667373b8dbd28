# SPDX-License-Identifier: GPL-2.0
"""The answers of ``filter list``, ``filter show`` and ``filter presets``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from msgspec import UNSET, Struct, UnsetType

if TYPE_CHECKING:
    from xdpguard.control.filters import FilterWithHits
    from xdpguard.control.presence import Presences
    from xdpguard.policy.limit import Limit as Limited
    from xdpguard.policy.presets.preset import Preset as Made


class Limit(Struct, frozen=True):
    """A limit: ``amount`` of ``unit`` (packets or bits) in ``seconds``, and whose packets share it."""

    rate: str
    unit: str
    amount: int
    seconds: int
    burst: int
    per: str

    @classmethod
    def of(cls, its: Limited) -> Limit:
        """Convert a limit."""
        return cls(its.rate, its.unit, its.amount, its.seconds, its.burst, its.whose)


class Filter(Struct, frozen=True, kw_only=True):
    """A filter; times are Unix times. ``place``: in the order, from 1.

    ``packets`` and ``bytes``: all that it matched; ``limited_...``: of these, what was above its limit.
    ``in_force``: some interface carries the program and does more than observe.
    """

    name: str
    place: int | UnsetType
    match: str
    action: str
    limit: Limit | None
    mode: str
    reason: str
    source: str
    created: int
    expires: int | None
    packets: int
    bytes: int
    limited_packets: int
    limited_bytes: int
    in_force: bool | UnsetType

    @classmethod
    def of(cls, item: FilterWithHits, place: int | None = None, where: Presences | None = None) -> Filter:
        """Convert a filter with its hits."""
        its = item.its
        return cls(
            name=its.name,
            place=UNSET if place is None else place,
            match=its.text,
            action=its.action,
            limit=Limit.of(its.limit) if its.limit else None,
            mode=its.mode,
            reason=its.reason,
            source=its.source,
            created=int(its.created),
            expires=None if its.expires is None else math.ceil(its.expires),
            **item.hits._asdict(),
            in_force=UNSET if where is None else bool(where.enforcing),
        )


class Preset(Struct, frozen=True):
    """A ready-made filter; ``limit``: the rate of a limit."""

    name: str
    group: str
    match: str
    action: str
    limit: str | None
    per: str | None
    summary: str
    source: str

    @classmethod
    def of(cls, its: Made, group: str) -> Preset:
        """Convert one of a group."""
        limited = its.action == "limit"
        rate, per = (its.rate, its.per) if limited else (None, None)
        return cls(its.name, group, its.text, its.action, rate, per, its.summary, its.source)
