# SPDX-License-Identifier: GPL-2.0
"""What is told of entries: results of changes (what was, what is now, how to say it), hits, what the kernel holds."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard import units
from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import Split
from xdpguard.policy.rule import CONFIG, NewRule, Rule
from xdpguard.policy.target import Kind, Target
from xdpguard.store.lists import NamedList

STATES: dict[Kind, str] = {"allow": "allowed", "block": "blocked", "port": "closed"}
_TOLERANCE = 1.0  # seconds: ends that differ by less are the same to a user


class Put(NamedTuple):
    """A rule as it was before it was added again, if there was one; what was asked for; and the rule as it is now."""

    before: Rule | None
    asked: NewRule
    now: NewRule

    @property
    def changed(self) -> bool:
        """Whether what counts is new, or its end or its reason has changed."""
        return self.before is None or (self.before.expires, self.before.why) != (self.now.expires, self.now.why)

    def words(self, shorten: str) -> str:
        """Describe what is so now of a rule that was there before. ``shorten``: how to shorten or change it."""
        assert self.before is not None
        target, state, end = self.now.target, STATES[self.now.kind], until(self.now.expires)
        held = f" by the configuration file{', too' if self.asked.source == CONFIG else ''}"
        if not self.changed:
            by = held if self.now.source == CONFIG else ""
            less = self.now.source != CONFIG and not _same(self.asked.expires, self.now.expires)
            other = bool(self.asked.reason) and self.asked.reason != self.now.why
            reason = f" ({self.now.why})" if self.now.why and other else ""
            hint = f"; {shorten} to shorten it" if less else f"; {shorten} to change the reason" if other else ""
            return f"{target} is already {state} {end}{by}{reason}{hint}"
        was = f"was {until(self.before.expires)}" if self.before.expires != self.now.expires else "was there"
        kept = f"; the first reason stays: {self.now.why}" if self.asked.reason not in ("", self.now.why) else ""
        return f"{state} {target} {end} ({was}{kept})"


class Added(NamedTuple):
    """The result of adding rules. ``in_force``: the kernel has tables, False while nothing is attached."""

    puts: tuple[Put, ...]
    in_force: bool

    @property
    def added(self) -> int:
        """How many are new."""
        return sum(1 for it in self.puts if it.before is None)

    @property
    def updated(self) -> int:
        """How many were there, and have a new end or reason."""
        return sum(1 for it in self.puts if it.before is not None and it.changed)


class Removed(NamedTuple):
    """The result of removing rules.

    ``ended``: those that had ended by themselves, with the Unix time; ``kept``: those that the configuration file has
    too, so that its part stays.
    """

    ended: dict[Target, float]
    kept: list[Rule]


def not_there(kind: Kind, target: Target, covering: Rule | None) -> XdpguardError:
    """Return the error for a rule that is to be removed and does not exist. ``covering``: one for more than it."""
    remedy = f"xdpguard rules --kind {kind} shows what is; nothing was changed"
    if covering:
        remedy = f"it is inside {covering.target}, which is; nothing was changed"
    return XdpguardError(f"{target} is not {STATES[kind]}", remedy)


def configured(kind: Kind, target: Target) -> XdpguardError:
    """Return the error for a rule that is to be removed and that only the configuration file has."""
    more = f", or let it through: xdpguard allow {target}" if kind == "block" else ""
    return XdpguardError(
        f"{target} is {STATES[kind]} by the configuration file",
        f"nothing was changed; remove it from [rules] there, and attach again or reload{more}",
    )


def until(expires: float | None) -> str:
    """Describe an end: for good, or until when."""
    return "for good" if expires is None else f"until {units.moment(expires)}"


def _same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and abs(one - other) < _TOLERANCE)


class RuleHits(NamedTuple):
    """A rule and all its hits, including those before a re-attach. ``split``: the hits of a shadow rule by sender."""

    rule: Rule
    packets: int
    bytes: int
    split: Split | None = None


class Share(NamedTuple):
    """How many entries are stored, and how many of them the kernel holds."""

    stored: int
    held: int


class ListHits(NamedTuple):
    """A list and all its hits. ``split``: the hits of a shadow list by sender."""

    its: NamedList
    packets: int
    bytes: int
    split: Split | None = None
