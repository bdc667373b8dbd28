# SPDX-License-Identifier: GPL-2.0
"""The answers of ``filter list`` and ``filter show`` with --flowspec."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from xdpguard.policy.flowspec.listing import Listing as Listed


class Rules(Struct, frozen=True):
    """A filter as FlowSpec rules."""

    name: str
    rules: list[str]


class LeftOut(Struct, frozen=True):
    """A filter that is not among the rules, and why."""

    name: str
    why: str


class Listing(Struct, frozen=True):
    """All filters. ``swapped``: pairs of which routers ask the second one first."""

    filters: list[Rules]
    left_out: list[LeftOut]
    swapped: list[tuple[str, str]]

    @classmethod
    def of(cls, its: Listed) -> Listing:
        """Convert all."""
        return cls([Rules(*it) for it in its.said], [LeftOut(*it) for it in its.left_out], its.swapped)
