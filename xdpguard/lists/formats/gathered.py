# SPDX-License-Identifier: GPL-2.0
"""The entries of a list as they come in, block by block: columns of numbers, with ends if any entry has one."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xdpguard.lists.formats.blocks import ENTRY, Bytes, Halves, Lines, Numbers, Positions, Six
from xdpguard.lists.formats.exceptions import Exceptions
from xdpguard.lists.formats.single import Single
from xdpguard.lists.ranges import Ranges
from xdpguard.lists.timed import Given

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Columns(NamedTuple):
    """The entries of a list: IPv4 ranges, IPv6 prefixes, IPv6 ranges; ``ends``: None if none has one."""

    first4: Numbers
    last4: Numbers
    high6: Halves
    low6: Halves
    length6: Bytes
    ranges6: Ranges
    ends: Given | None


class Gathered:
    """Gathers the entries of blocks."""

    def __init__(self) -> None:
        self._four: list[tuple[Numbers, Numbers]] = []
        self._six: list[tuple[Halves, Halves, Bytes]] = []
        self._ranges: list[tuple[Halves, ...]] = []
        # Of each block above, the ends of its entries; None: they have none.
        self._ends: tuple[list[Numbers | None], ...] = ([], [], [])

    def add(self, found: Lines, six: Six, single: Single, ends: Numbers | None) -> int:
        """Add the entries of a block, and return how many they are. ``ends``: of its lines, 0 for none."""
        four = found.state == ENTRY
        first, last, high, low, lengths = found.first[four], found.last[four], six.high, six.low, six.lengths
        ends4 = None if ends is None else ends[four]
        ends6 = None if ends is None else ends[six.lines]
        if single.lines4:
            lines = np.array(single.lines4)
            order = np.argsort(np.concatenate([np.flatnonzero(four), lines]), kind="stable")
            first = np.concatenate([first, np.array(single.first, dtype=np.uint32)])[order]
            last = np.concatenate([last, np.array(single.last, dtype=np.uint32)])[order]
            ends4 = _more(ends4, ends, lines, order)
        if single.lines6:
            lines = np.array(single.lines6)
            order = np.argsort(np.concatenate([six.lines, lines]), kind="stable")
            high = np.concatenate([high, np.array(single.high, dtype=np.uint64)])[order]
            low = np.concatenate([low, np.array(single.low, dtype=np.uint64)])[order]
            lengths = np.concatenate([lengths, np.array(single.lengths, dtype=np.uint8)])[order]
            ends6 = _more(ends6, ends, lines, order)
        if len(first):
            self._four.append((first, last))
            self._ends[0].append(ends4)
        if len(lengths):
            self._six.append((high, low, lengths))
            self._ends[1].append(ends6)
        if single.lines:
            self._ranges.append(tuple(np.array(column, np.uint64) for column in single.ranges))
            self._ends[2].append(None if ends is None else ends[np.array(single.lines)])
        return len(first) + len(lengths) + len(single.lines)

    def without(self, exceptions: Exceptions) -> Columns:
        """Return all entries without the exceptions; what is left of an entry has its end."""
        first4, last4, from4 = exceptions.cut4(
            _joined([first for first, _ in self._four], np.uint32), _joined([last for _, last in self._four], np.uint32)
        )
        high6, low6, length6, from6 = exceptions.cut6(
            _joined([high for high, _, _ in self._six], np.uint64),
            _joined([low for _, low, _ in self._six], np.uint64),
            _joined([lengths for _, _, lengths in self._six], np.uint8),
        )
        ranges6, from_ranges = exceptions.cut_ranges6(
            Ranges.of(*(_joined([part[at] for part in self._ranges], np.uint64) for at in range(4)))
        )
        ends = None
        if any(its is not None for parts in self._ends for its in parts):
            sizes = ([len(part[0]) for part in parts] for parts in (self._four, self._six, self._ranges))
            whole = (_ends(*it) for it in zip(self._ends, sizes, strict=True))
            origins = (from4, from6, from_ranges)
            ends = Given(*(its if at is None else its[at] for its, at in zip(whole, origins, strict=True)))
        return Columns(first4, last4, high6, low6, length6, ranges6, ends)


def _more(its: Numbers | None, ends: Numbers | None, lines: Positions, order: Positions) -> Numbers | None:
    """Return the ends of a column with those of more lines, in the order of the lines."""
    return None if its is None or ends is None else np.concatenate([its, ends[lines]])[order]


def _ends(parts: list[Numbers | None], sizes: list[int]) -> Numbers:
    """Return the ends of all entries of one kind, 0 for none."""
    given = zip(parts, sizes, strict=True)
    return _joined([np.zeros(size, np.uint32) if its is None else its for its, size in given], np.uint32)


def _joined(parts: list[NDArray[_Scalar]], kind: type[_Scalar]) -> NDArray[_Scalar]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)
