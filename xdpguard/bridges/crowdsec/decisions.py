# SPDX-License-Identifier: GPL-2.0
"""Read CrowdSec's stream of decisions: which sources to block until when, which no longer, and what is not for us."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import msgspec
from msgspec import Struct

from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.foreign import Refused
from xdpguard.policy.rule import CROWDSEC, NewRule
from xdpguard.policy.target import Prefix, parse_prefix

# Go's time.Duration.String(): 8759h59m58.06s, 1m30s, 250.5ms, -10.4µs.
_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?)(h|ms|m|s|us|µs|μs|ns)")
_DURATION = re.compile(rf"(-?)((?:{_PART.pattern})+)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9}
_SCOPES = ("ip", "range")
_EARLY = 5.0  # seconds before its end at which a decision was not deleted because it ended


class Decision(Struct):
    """A decision as it comes."""

    id: int = 0
    duration: str = ""
    origin: str = ""
    scenario: str = ""
    scope: str = ""
    type: str = ""
    value: str = ""
    simulated: bool | None = None


class Page(Struct):
    """An answer of /v1/decisions/stream: what has been decided, and what has ended or was deleted, since the last."""

    new: list[Decision] | None = None
    deleted: list[Decision] | None = None


def decoded(body: bytes) -> Page:
    """Decode an answer. Raise XdpguardError if it is not one."""
    try:
        return msgspec.json.decode(body, type=Page)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise XdpguardError(f"its answer is not a stream of decisions: {error}") from error


class Decisions:
    """All decisions that are known, in the words of this host. ``mine``: the scenario of what this host has sent."""

    def __init__(self, mine: str = "") -> None:
        self._mine = mine
        self._held: dict[Prefix, tuple[int, float]] = {}  # the decision that an entry comes from, and its end
        self._others: dict[int, str] = {}  # those left alone, by id, and their kinds
        self.unread: dict[int, Refused] = {}  # those that name no address
        # One was deleted before its end: the server does not say whether a shorter one remains, so ask for all.
        self.doubtful = False

    def take(self, page: Page, now: float, whole: bool) -> tuple[dict[Prefix, NewRule], list[Prefix]]:
        """Return what to block and what no longer to block. ``whole``: the answer has all decisions there are.

        ``now``: Unix time of the answer, which has durations alone.
        """
        if whole:
            self.doubtful = False
            for known in (self._held, self._others, self.unread):
                known.clear()
        gone = [] if whole else self._gone(page.deleted or (), now)
        new: dict[Prefix, NewRule] = {}
        for its in page.new or ():
            found = self._read(its)
            left = seconds(its.duration)
            if found is None or left <= 0:
                continue
            there = new.get(found)
            if there is None or (there.expires or 0.0) < now + left:
                new[found] = NewRule("block", found, f"{its.scenario} ({its.origin})", CROWDSEC, now, now + left)
                self._held[found] = its.id, now + left
        return new, [it for it in gone if it not in new]

    def left_alone(self) -> dict[str, int]:
        """Return how many decisions are not for a firewall, by kind."""
        return dict(Counter(self._others.values()))

    def _read(self, its: Decision) -> Prefix | None:
        """Return what a decision blocks; None if that is not for us."""
        kind = its.type.lower()
        if its.scope.lower() not in _SCOPES:
            kind = f"{kind} by {its.scope.lower()}"
        elif its.simulated:
            kind = f"simulated {kind}"
        elif self._mine and its.scenario == self._mine:
            kind = "sent by this host"
        elif kind == "ban":
            try:
                return parse_prefix(its.value)[0]
            except UsageError as error:
                self.unread[its.id] = Refused(its.value[:60], str(error))
                return None
        self._others[its.id] = kind
        return None

    def _gone(self, deleted: Iterable[Decision], now: float) -> list[Prefix]:
        """Return what no decision blocks any more. The server repeats deletions for some seconds."""
        found = []
        for its in deleted:
            if self._others.pop(its.id, None) or self.unread.pop(its.id, None) or its.type.lower() != "ban":
                continue
            try:
                prefix = parse_prefix(its.value)[0]
            except UsageError:
                continue
            held, end = self._held.get(prefix, (-1, 0.0))
            if held == its.id:
                del self._held[prefix]
                found.append(prefix)
                self.doubtful |= end > now + _EARLY
            elif 0 <= held < its.id:
                self.doubtful = True
        return found


def seconds(duration: str) -> float:
    """Read a duration as Go writes it, which may be negative. Raise XdpguardError if it is none."""
    match = _DURATION.fullmatch(duration)
    if not match:
        raise XdpguardError(f"its answer has a duration that cannot be read: {duration[:40]!r}")
    total = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(match[2]))
    return -total if match[1] else total
