# SPDX-License-Identifier: GPL-2.0
"""What there is to tell about a list beside its entries: what was left out, what ends, what was read with a remark."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from xdpguard.lists.formats.entries import shown
from xdpguard.lists.formats.words import lets_in
from xdpguard.units import moment

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
        self._ends: tuple[int, float, float] = (0, 0.0, 0.0)  # number, the first, the last
        self._sets: dict[str, None] = {}

    @property
    def left_out(self) -> int:
        """The number of entries left out."""
        return self._left_out.total()

    @property
    def ending(self) -> int:
        """The number of entries that have an end."""
        return self._ends[0]

    def leave_out(self, what: str, number: int = 1) -> None:
        """Count entries that do not block: decisions that do not ban, elements with a port, rows that say allow."""
        what = shown(what)
        self._left_out[what if what in self._left_out or len(self._left_out) < _KINDS else "others"] += number

    def ends(self, end: float) -> bool:
        """Count an entry that ends at this Unix time; return whether it is still in force."""
        if end <= self.now:
            self.leave_out("entries that have ended")
            return False
        number, first, last = self._ends
        self._ends = (number + 1, min(first or end, end), max(last, end))
        return True

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
            yield f"exceptions: {exceptions}, kept out of the entries that hold them"
        number, first_end, last_end = self._ends
        if number:
            until = f"at {moment(first_end)}" if first_end == last_end else f"{moment(first_end)} to {moment(last_end)}"
            have = "entries have an end" if number > 1 else "entry has an end"
            yield f"{number:,} {have} ({until}), which a list does not keep: in force until the list is loaded again"
        for what, (number, line) in self._remarks.items():
            yield f"{what}: {number:,} {'lines, the first is line' if number > 1 else 'line:'} {line}"
        for name in [it for it in self._sets if lets_in(it)][:_NAMED]:
            yield f"the set {shown(name)} holds what is let in, by its name; its entries are taken to block"
        if len(self._sets) > 1:
            names = list(map(shown, self._sets))
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"entries of {len(names)} sets: {', '.join(names[:_NAMED])}{more}"
