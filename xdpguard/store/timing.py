# SPDX-License-Identifier: GPL-2.0
"""How many entries of a list have an end, and how many of these have ended: counted without loading numpy."""

from __future__ import annotations

import math
from array import array
from typing import NamedTuple


class Timing(NamedTuple):
    """The ends of a list's entries. ``timed``: entries in force that have one, ``next``: the first of these ends,
    ``last``: the last one; Unix time. ``ended``: entries that are no longer in force.
    """

    timed: int = 0
    ended: int = 0
    next: int | None = None
    last: int | None = None


UNTIMED = Timing()


def timing(ends: bytes, shift: int, now: float) -> Timing:
    """Return the state of ends, as the store has them, at a time (Unix time); they are ``shift`` seconds later."""
    if not ends:
        return UNTIMED
    its = array("I")
    its.frombytes(ends)
    past = max(now - shift, 0)  # 0 is no end, whatever the shift
    left = [end for end in its if end > past]
    ended = len(its) - its.count(0) - len(left)
    return Timing(len(left), ended, min(left) + shift, max(left) + shift) if left else Timing(ended=ended)


def whole(shift: float) -> int:
    """Return by how many whole seconds to move ends that have moved with the clock; never too few."""
    return math.ceil(shift)
