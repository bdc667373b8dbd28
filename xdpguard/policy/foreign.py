# SPDX-License-Identifier: GPL-2.0
"""Judge the entries that another system decides (the fleet, a bridge, fail2ban): which may be put in force here.

Pure: what is allowed and what is needed on this host, and the time, are arguments.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from xdpguard import units
from xdpguard.errors import UsageError
from xdpguard.policy.duration import parse_duration
from xdpguard.policy.filter import NewFilter
from xdpguard.policy.origins import is_foreign
from xdpguard.policy.rule import Mode, NewRule
from xdpguard.policy.target import Prefix, Target

Entry = NewRule | NewFilter

_ORIGIN = re.compile(r"[a-z][a-z0-9-]{0,31}")
_LONGEST_REASON = 200  # characters
_FURTHEST = 100 * 365 * 86_400.0  # seconds ahead, as for --for
_ENTRIES = 1_000_000


class ForeignLimits(Struct, frozen=True, forbid_unknown_fields=True):
    """What one origin may put in force on this host.

    ``shortest4`` and ``shortest6``: prefix lengths, in bits. ``allow`` and ``filters``: whether it may add those.
    ``clock_skew``: by how much the clocks may differ; an entry that had ended for longer when it came is refused.
    """

    mode: Mode = "enforce"
    max_entries: Annotated[int, Meta(ge=1, le=_ENTRIES)] = 100_000
    shortest4: Annotated[int, Meta(ge=1, le=32)] = 16
    shortest6: Annotated[int, Meta(ge=1, le=128)] = 32
    allow: bool = False
    filters: bool = False
    clock_skew: str = "5m"


class Refused(NamedTuple):
    """An entry that is not put in force: its target, or the name of the filter, and why."""

    target: Target | str
    why: str

    def __str__(self) -> str:
        return f"{self.target}: {self.why}"


class Overlaps:
    """Prefixes, each with a text; finds one that shares an address with another prefix."""

    def __init__(self, held: Iterable[tuple[Prefix, str]]) -> None:
        self._starts: dict[int, list[bytes]] = {4: [], 6: []}
        self._found: dict[int, list[tuple[bytes, Prefix, str]]] = {4: [], 6: []}
        for prefix, text in sorted(held):
            found = self._found[prefix.version]
            if not found or found[-1][0] < prefix.network:  # else it lies inside the one before
                self._starts[prefix.version].append(prefix.network)
                found.append((_last(prefix), prefix, text))

    def of(self, prefix: Prefix) -> tuple[Prefix, str] | None:
        """Return a prefix that covers this one or lies inside it, and its text; None if there is none."""
        place = bisect_right(self._starts[prefix.version], _last(prefix)) - 1
        if place < 0:
            return None
        last, found, text = self._found[prefix.version][place]
        return (found, text) if last >= prefix.network else None


class Judge:
    """Says which entries of an origin may be in force here. ``now``: Unix time.

    ``allowed``: what others than this origin let through, ``needed``: what this host needs, each with what it is, as
    text that fits after "is".
    """

    def __init__(
        self,
        limits: ForeignLimits,
        now: float,
        allowed: Iterable[tuple[Prefix, str]],
        needed: Iterable[tuple[Prefix, str]],
    ) -> None:
        self._limits = limits
        self._now = now
        self._skew = parse_duration(limits.clock_skew)
        self._allowed = Overlaps(allowed)
        self._needed = Overlaps(needed)

    def ended(self, entry: Entry) -> bool:
        """Return whether an entry has ended, by no more than the clocks may differ."""
        return entry.expires is not None and self._now - self._skew <= entry.expires <= self._now

    def refusal(self, entry: Entry) -> str:
        """Return why an entry is not put in force; empty if it may be."""
        return self._of_end(entry.expires) or (
            self._of_filter(entry) if isinstance(entry, NewFilter) else self._of_rule(entry)
        )

    def _of_end(self, expires: float | None) -> str:
        if expires is None:
            return ""
        if not math.isfinite(expires) or expires > self._now + _FURTHEST:
            return "its end is not a time within 100 years"
        if expires < self._now - self._skew:
            return f"it ended {units.span(self._now - expires)} ago by this host's clock"
        return ""

    def _of_filter(self, its: NewFilter) -> str:
        if not self._limits.filters:
            return "this origin may not add filters (filters = false)"
        if its.action == "pass" and not self._limits.allow:
            return "this origin may not let anything through (allow = false)"
        return ""

    def _of_rule(self, rule: NewRule) -> str:
        its, target = self._limits, rule.target
        if not isinstance(target, Prefix) or rule.kind == "port":
            return "closing ports is not left to another system"
        shortest = its.shortest4 if target.version == 4 else its.shortest6
        if target.length < shortest:
            return f"its prefix is shorter than /{shortest}"
        if rule.kind == "allow":
            if not its.allow:
                return "this origin may not let anything through (allow = false)"
            return "" if its.mode == "enforce" else "in shadow mode this origin lets nothing through"
        found = self._allowed.of(target) or self._needed.of(target)
        return _overlapping(target, *found) if found else ""


def check_origin(name: str) -> None:
    """Raise UsageError if a name cannot be the origin of another system's entries."""
    if not _ORIGIN.fullmatch(name) or not is_foreign(name):
        raise UsageError(
            f"not an origin for another system's entries: {name!r}",
            "write a name of up to 32 small letters, digits and -, other than cli, config, guard and safety",
        )


def plain(reason: str) -> str:
    """Return a reason that another system gave, as it is kept here: in one line, without control characters."""
    return units.visible(reason)[:_LONGEST_REASON]


def _overlapping(target: Prefix, other: Prefix, text: str) -> str:
    if other == target:
        return f"it is {text}"
    return f"{other} inside it is {text}" if target.covers(other) else f"it is inside {other}, which is {text}"


def _last(prefix: Prefix) -> bytes:
    """Return the last address of a prefix."""
    width = len(prefix.network) * 8
    if prefix.length == width:
        return prefix.network
    return (int.from_bytes(prefix.network, "big") | (1 << width - prefix.length) - 1).to_bytes(width // 8, "big")
