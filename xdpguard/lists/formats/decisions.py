# SPDX-License-Identifier: GPL-2.0
"""Which decisions of CrowdSec block an address."""

from __future__ import annotations


def why_not(scope: str, kind: str, duration: str, simulated: bool) -> str:
    """What a decision is when it does not ban an address at this time; empty when it does."""
    if scope.lower() not in ("ip", "range"):
        return f"decisions for scope {scope}"
    if kind.lower() != "ban":
        return f"decisions of type {kind}"
    if duration.startswith("-"):
        return "expired decisions"
    return "simulated decisions" if simulated else ""
