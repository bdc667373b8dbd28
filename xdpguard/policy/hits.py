# SPDX-License-Identifier: GPL-2.0
"""What entries have hit, or would have."""

from __future__ import annotations

from typing import NamedTuple


class Hits(NamedTuple):
    """What an enforced entry has hit."""

    packets: int
    bytes: int

    @property
    def total(self) -> Hits:
        """All of it, as of a `Split`."""
        return self


class Split(NamedTuple):
    """What a shadow entry would have hit, by whose packets they were."""

    established: Hits
    allowed: Hits
    other: Hits

    @property
    def total(self) -> Hits:
        """All of it."""
        return Hits(sum(hits.packets for hits in self), sum(hits.bytes for hits in self))

    def plus(self, more: Split) -> Split:
        """Both together."""
        return Split(*(Hits(a.packets + b.packets, a.bytes + b.bytes) for a, b in zip(self, more, strict=True)))


NO_SPLIT = Split(Hits(0, 0), Hits(0, 0), Hits(0, 0))
