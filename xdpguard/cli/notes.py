# SPDX-License-Identifier: GPL-2.0
"""Notes on what a rule just made or removed means for more than its target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xdpguard.cli import render
from xdpguard.policy.target import Prefix, Target

if TYPE_CHECKING:
    from xdpguard.store.database import Store


def tell_of_dhcp(store: Store, targets: Sequence[Target]) -> None:
    """Print what blocks take from DHCP."""
    from xdpguard.control import needs

    for text in needs.dhcp_notes(store, needs.holder_of(targets)):
        render.note(text)


def tell_of_everybody(store: Store, targets: Sequence[Target]) -> None:
    """Print that allow rules still let in what no longer has one of its own, because they let in everybody."""
    from xdpguard.control import openness

    for text in openness.notes(store, {it.version for it in targets if isinstance(it, Prefix)}):
        render.note(text)
