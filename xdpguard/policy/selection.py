# SPDX-License-Identifier: GPL-2.0
"""Choose rules by what a user types: an address, a prefix or a range that contains them, or a text that is in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from xdpguard.errors import UsageError
from xdpguard.policy.rule import Rule
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import Prefix

Order = Literal["hits", "expires", "created"]


def matching(text: str) -> Callable[[Rule], bool]:
    """Return whether a rule is chosen: its source is inside, or its target, reason or an origin has the text.

    Case does not matter. Raise UsageError if the text is empty.
    """
    if not text.strip():
        raise UsageError("--match is empty", "give an address, a prefix or a part of a reason")
    try:
        prefixes = [prefix for prefix, _ in parse_sources(text)]
    except UsageError:
        wanted = text.casefold()
        return lambda rule: any(wanted in it.casefold() for it in _texts(rule))
    return lambda rule: isinstance(rule.target, Prefix) and any(it.covers(rule.target) for it in prefixes)


def ending(seconds: float, now: float) -> Callable[[Rule], bool]:
    """Return whether a rule ends within that time of ``now`` (Unix time)."""
    return lambda rule: rule.expires is not None and rule.expires <= now + seconds


def _texts(rule: Rule) -> list[str]:
    return [str(rule.target), *(text for part in rule.parts for text in (part.reason, part.source))]
