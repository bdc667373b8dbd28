# SPDX-License-Identifier: GPL-2.0
"""A filter: which packets it matches, what it does to them, why, until when."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from xdpguard import units
from xdpguard.errors import UsageError
from xdpguard.policy.limit import Limit
from xdpguard.policy.matching.model import Match
from xdpguard.policy.rule import Mode

Action = Literal["drop", "pass", "count", "limit"]  # count and a limit that is kept go on with the next filter
ACTIONS: tuple[Action, ...] = ("drop", "pass", "count", "limit")
FILTERS = 1024  # filters there may be
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class FilterHits(NamedTuple):
    """All hits of a filter: what it matched, and what of that was above its limit."""

    packets: int = 0
    bytes: int = 0
    limited_packets: int = 0
    limited_bytes: int = 0

    def plus(self, more: tuple[int, int, int, int]) -> FilterHits:
        """Return the sum of both."""
        return FilterHits(*(a + b for a, b in zip(self, more, strict=True)))


class NewFilter(NamedTuple):
    """A filter to add. ``text``: the match as it was written; ``limit``: of action limit only. Times are Unix time."""

    name: str
    text: str
    match: Match
    action: Action
    limit: Limit | None
    mode: Mode
    reason: str
    source: str
    created: float
    expires: float | None

    @property
    def does(self) -> str:
        """Its action as people are shown it: drop, or limit 1000/s per source."""
        return f"limit {self.limit}" if self.limit else self.action

    def stored(self, position: int, slot: int) -> Filter:
        """Return it as a filter that counts in a slot, without hits."""
        return Filter(*self, position, slot)


class Filter(NamedTuple):
    """A stored filter. ``position``: its place in the order, which has gaps; ``slot``: of its hit counters, below 0 for
    one that has ended and was to leave them to others.

    Packets and bytes are hits from before the kernel's current counters: all that it matched, and those of a limit that
    were above it.
    """

    name: str
    text: str
    match: Match
    action: Action
    limit: Limit | None
    mode: Mode
    reason: str
    source: str
    created: float
    expires: float | None
    position: int
    slot: int
    packets: int = 0
    bytes: int = 0
    limited_packets: int = 0
    limited_bytes: int = 0

    def as_new(self) -> NewFilter:
        """Return what there would be to add, were it not stored."""
        return NewFilter._make(self[: len(NewFilter._fields)])

    def alive(self, now: float) -> bool:
        """Return whether it has not ended (``now``: Unix time)."""
        return self.expires is None or self.expires > now

    @property
    def does(self) -> str:
        """Its action as people are shown it: drop, or limit 1000/s per source."""
        return f"limit {self.limit}" if self.limit else self.action

    @property
    def hits(self) -> FilterHits:
        """Its hits in the store."""
        return FilterHits(*self[-4:])

    @property
    def lists(self) -> list[str]:
        """The named lists that it asks."""
        return list(dict.fromkeys(it.name for it in self.match.lists))


def check_name(name: str) -> None:
    """Raise UsageError if a name is not valid for a filter."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"not a filter name: {units.visible(name)!r}", "use up to 64 letters, digits, . _ or -")
