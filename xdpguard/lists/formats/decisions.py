# SPDX-License-Identifier: GPL-2.0
"""Decide which of CrowdSec's decisions block an address."""

from __future__ import annotations


def skip_reason(scope: str, kind: str, duration: str, simulated: bool) -> str:
    """Describe a decision that does not ban an address now; empty for one that does."""
    if scope.lower() not in ("ip", "range"):
        return f"decisions for scope {scope}"
    if kind.lower() != "ban":
        return f"decisions of type {kind}"
    if duration.startswith("-"):
        return "expired decisions"
    return "simulated decisions" if simulated else ""
