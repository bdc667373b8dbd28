# SPDX-License-Identifier: GPL-2.0
"""The answer of ``bridge show``, which is part of that of ``status``."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from xdpguard.store.bridges import Bridge


@dataclass(kw_only=True)
class Shown(Bridge):
    """A bridge, and what is wrong with it, as a sentence; empty if nothing is."""

    fault: str

    @classmethod
    def of(cls, its: Bridge, now: float) -> Shown:
        """Convert what a bridge says of itself (``now``: Unix time)."""
        return cls(**asdict(its), fault=its.wrong(now))
