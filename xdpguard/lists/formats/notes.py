# SPDX-License-Identifier: GPL-2.0
"""What there is to tell about a list beside its entries: what was left out, what was read with a remark."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from xdpguard.lists.formats.entries import shown
from xdpguard.lists.formats.words import lets_in
from xdpguard.lists.timed import LATEST

_KINDS = 20  # maximum told apart
_SETS = 1000  # maximum counted
_NAMED = 5


class Notes:
    """Counts, and the sentences that tell them."""

    def __init__(self, now: float) -> None:
        """``now`` is Unix time, to tell which entries have ended."""
        self.now = now
        self._left_out: Counter[str] = Counter()
        self._remarks: dict[str, tuple[int, int]] = {}  # number of lines, the first of them
        self.ending = 0  # entries that have an end
        self.first_end = self.last_end = 0  # the first and the last of them, Unix time
        self._sets: dict[str, None] = {}

    @property
    def left_out(self) -> int:
        """The number of entries left out."""
        return self._left_out.total()

    def leave_out(self, what: str, number: int = 1) -> None:
        """Count entries that do not block: decisions that do not ban, elements with a port, rows that say allow."""
        what = shown(what)
        self._left_out[what if what in self._left_out or len(self._left_out) < _KINDS else "others"] += number

    def end(self, end: float | None) -> int | None:
        """Count an entry by its end (Unix time, None: it has none).

        Return the end in whole seconds, rounded up, 0 for none: so late a one cannot be told apart from none. Return
        None if it has ended.
        """
        if end is None or end > LATEST:
            return 0
        if end <= self.now:
            self.leave_out("entries that have ended")
            return None
        whole = math.ceil(end)
        self.ending += 1
        self.first_end, self.last_end = min(self.first_end or whole, whole), max(self.last_end, whole)
        return whole

    def remark(self, what: str, line: int) -> None:
        """Count a line that is read with a remark, such as words that are taken for comments."""
        number, first = self._remarks.get(what, (0, line))
        if number or len(self._remarks) < _KINDS:
            self._remarks[what] = (number + 1, min(first, line))

    def came_from(self, name: str) -> None:
        """Record the set an entry came from; of several sets, not all need be meant as block lists."""
        if len(self._sets) < _SETS:
            self._sets[name] = None

    def said(self, exceptions: int) -> Iterator[str]:
        """Yield a sentence for whatever was counted."""
        for what, number in self._left_out.items():
            yield f"left out: {what} ({number})"
        if exceptions:
            yield f"exceptions: {exceptions}, kept out of the entries that hold {'it' if exceptions == 1 else 'them'}"
        for what, (number, line) in self._remarks.items():
            yield f"{what}: {number:,} {'lines, the first is line' if number > 1 else 'line:'} {line}"
        for name in [it for it in self._sets if lets_in(it)][:_NAMED]:
            yield f"the set {shown(name)} holds what is let in, by its name; its entries are taken to block"
        if len(self._sets) > 1:
            names = list(map(shown, self._sets))
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"entries of {len(names)} sets: {', '.join(names[:_NAMED])}{more}"
