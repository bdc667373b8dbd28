# SPDX-License-Identifier: GPL-2.0
"""Notes on what a rule just made or removed means for more than its target."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from xdpguard.cli import render
from xdpguard.policy.origins import is_foreign
from xdpguard.policy.target import Prefix, Target

if TYPE_CHECKING:
    from xdpguard.control.standing import Standing
    from xdpguard.policy.rule import Rule
    from xdpguard.store.database import Store

_NAMED = 3  # targets that are named one by one


def tell_of_needed(store: Store, targets: Sequence[Target], life: float | None, forced: bool) -> None:
    """Print what blocks that last so many seconds (None: for good) take from this host, also from DHCP.

    ``forced``: although they are refused.
    """
    from xdpguard.control import losses, needs

    if forced and (text := losses.note(store, targets, life)):
        render.note(text)
    for text in needs.dhcp_notes(store, needs.holder_of(targets)):
        render.note(text)


def tell_of_everybody(store: Store, targets: Sequence[Target]) -> None:
    """Print that allow rules still let in what no longer has one of its own, because they let in everybody."""
    from xdpguard.control import openness

    for text in openness.notes(store, {it.version for it in targets if isinstance(it, Prefix)}):
        render.note(text)


def may_come_again(removed: Collection[Rule], standing: Standing) -> Iterator[str]:
    """Yield a note on each of the first rules removed that another system wanted as well, unless it is allowed."""
    found = [(it.target, [by for by in it.origins if is_foreign(by)]) for it in removed]
    owned = [(it, by) for it, by in found if by and isinstance(it, Prefix) and not standing.allowed(it)]
    for target, by in owned[:_NAMED]:
        yield f"{' and '.join(by)} may block {target} again; to let it through for good: xdpguard allow {target}"
    if len(owned) > _NAMED:
        yield f"... and {len(owned) - _NAMED:,} more that other systems may block again"
