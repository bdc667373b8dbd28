# SPDX-License-Identifier: GPL-2.0
"""Audit: compare what the kernel holds with what is stored."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.control.lists import Share
from xdpguard.control.ruleset import Ruleset


class ShadowAudit(NamedTuple):
    """The audit of shadow entries. ``behind``: an interrupted change has not been taken back yet."""

    rules: Share
    lists: dict[str, Share]
    behind: bool

    @property
    def whole(self) -> bool:
        """Whether the kernel holds all shadow entries."""
        return all(it.held >= it.stored for it in (self.rules, *self.lists.values()))


class Audit(NamedTuple):
    """How much the kernel holds of what is stored: rules in force, and entries of each list.

    ``behind``: an interrupted change has not been taken back yet. ``shadow``: the audit of shadow entries.
    """

    rules: Share
    lists: dict[str, Share]
    behind: bool = False
    shadow: ShadowAudit | None = None

    @property
    def ratio(self) -> float:
        """The share of stored entries that the kernel holds, 0 to 1."""
        shares = [self.rules, *self.lists.values()]
        stored = sum(share.stored for share in shares)
        return sum(share.held for share in shares) / stored if stored else 1.0 - self.behind


def audit(ruleset: Ruleset, repair: bool = False) -> Audit | None:
    """Audit the kernel against the store; ``repair`` restores what is missing. Return None if nothing is attached."""
    changes = ruleset.changes
    if not changes.attached():
        return None
    pending = changes.pending()
    shadow = ShadowAudit(
        Share(*ruleset.shadow_rules.audit()), ruleset.shadow_lists.shares(), pending or ruleset.shadow_lists.stale()
    )
    found = Audit(Share(*ruleset.rules.audit()), ruleset.lists.shares(), pending or ruleset.lists.stale(), shadow)
    if repair and pending:
        changes.resync()
    elif repair:
        for entries, its in ((ruleset.rules, found.rules), (ruleset.shadow_rules, shadow.rules)):
            if its.held < its.stored:
                changes.resync(entries)
        for lists, of in ((ruleset.lists, found), (ruleset.shadow_lists, shadow)):
            if of.behind or any(it.held < it.stored for it in of.lists.values()):
                lists.fill()
    return found
