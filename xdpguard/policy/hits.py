# SPDX-License-Identifier: GPL-2.0
"""Hit counts of entries, actual or would-be."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Hits(NamedTuple):
    """Hit counts of an enforced entry."""

    packets: int
    bytes: int

    @property
    def total(self) -> Hits:
        """The hits themselves, as a `Split` has its total."""
        return self


class Split(NamedTuple):
    """What a shadow entry would have hit, by class of packet."""

    established: Hits
    allowed: Hits
    other: Hits

    @property
    def total(self) -> Hits:
        """The sum of all classes."""
        return Hits(sum(hits.packets for hits in self), sum(hits.bytes for hits in self))

    def plus(self, more: Split) -> Split:
        """Return the sum of both."""
        return Split(*(Hits(a.packets + b.packets, a.bytes + b.bytes) for a, b in zip(self, more, strict=True)))


NO_HITS = Hits(0, 0)
NO_SPLIT = Split(NO_HITS, NO_HITS, NO_HITS)


class Counted(Protocol):
    """An entry with the hits that the store has of it."""

    @property
    def packets(self) -> int:
        """Packets."""

    @property
    def bytes(self) -> int:
        """Their bytes."""

    @property
    def split(self) -> Split:
        """Those of a shadow entry, by class of packet."""


def with_more(its: Counted, mode: str, more: Hits | Split) -> tuple[int, int, Split | None]:
    """Return an entry's packets, bytes and split (None: it is enforced), with the kernel's current counts added."""
    split = its.split if mode == "shadow" else None
    if split is not None and isinstance(more, Split):
        split = split.plus(more)
    return its.packets + more.total.packets, its.bytes + more.total.bytes, split
