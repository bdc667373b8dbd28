# SPDX-License-Identifier: GPL-2.0
"""What an audit finds: what is stored, and what the kernel holds of it."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.control.lists import Share
from xdpguard.control.shadowing import ShadowAudit


class Audit(NamedTuple):
    """What is stored and what the kernel holds of it: rules in force, entries of each list.

    ``behind``: a change of the lists was interrupted before it was in force. ``shadow``: of what only counts.
    """

    rules: Share
    lists: dict[str, Share]
    behind: bool = False
    shadow: ShadowAudit | None = None

    @property
    def ratio(self) -> float:
        """Entries held of those stored, 0 to 1."""
        shares = [self.rules, *self.lists.values()]
        stored = sum(share.stored for share in shares)
        return sum(share.held for share in shares) / stored if stored else 1.0 - self.behind
