# SPDX-License-Identifier: GPL-2.0
"""Join the parts that several origins have in one rule: the longest counts, and each goes without the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from xdpguard.policy.rule import CLI, CONFIG, GUARD, SAFETY, Part

# Restored by whoever owns them, so that the command line leaves them alone.
OWNED = frozenset({CONFIG, SAFETY})
_MINE = frozenset({CLI, GUARD})  # decided on this host, each time anew


def is_foreign(source: str) -> bool:
    """Return whether another system decides the entries of an origin: the fleet, a bridge, fail2ban."""
    return source not in OWNED and source not in _MINE


def joined(held: Iterable[Part], new: Part, now: float, replace: bool = False) -> tuple[Part, ...]:
    """Return the parts of a rule with a new one, the one that counts first.

    Where the origin has a part already, the longer end and the first reason stay. With ``replace`` the new part takes
    its place; one that was decided on this host also that of others except those that their owners restore.
    """
    alive = [it for it in held if it.expires is None or it.expires > now]
    mine = next((it for it in alive if it.source == new.source), None)
    if replace and new.source in _MINE:
        alive = [it for it in alive if it.source in OWNED or it is mine]
    elif mine is not None and not replace:
        new = Part(new.source, mine.reason or new.reason, later(mine.expires, new.expires))
    return ordered([*alive, new] if mine is None else [new if it is mine else it for it in alive])


def later(one: float | None, other: float | None) -> float | None:
    """Return the later of two ends; None is never."""
    return None if one is None or other is None else max(one, other)


def ordered(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return the parts of a rule, the one that counts first."""
    # Of two that end together the first one stays; what a user wants comes before a safety rule.
    return tuple(sorted(parts, key=lambda it: (-(math.inf if it.expires is None else it.expires), it.source == SAFETY)))
