# SPDX-License-Identifier: GPL-2.0
"""Collect a list's contents block by block: entries, faults, notes."""

from __future__ import annotations

from array import array
from bisect import insort
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xdpguard.errors import UsageError
from xdpguard.lists.formats.blocks import BLANK, ENTRY, Bytes, Halves, Lines, Numbers, Positions, Six, solve
from xdpguard.lists.formats.entries import Entry, decoded, entry, shown
from xdpguard.lists.ranges import Ranges

MANY_FAULTS = 100_000  # from which more faults than entries mean that it is not a list
FAULTS = 20  # maximum kept, with line and reason
SETS = 1000  # maximum counted
MOST = 1 << 26  # entries

_Scalar = TypeVar("_Scalar", bound=np.generic)
_LOWER = (1 << 64) - 1


class Fault(NamedTuple):
    """A line that should have an entry but has none."""

    line: int
    text: str
    why: str


class Parsed(NamedTuple):
    """The contents of a list in its own order, with duplicates; numbers in host order."""

    format: str
    first4: NDArray[np.uint32]
    last4: NDArray[np.uint32]
    high6: NDArray[np.uint64]
    low6: NDArray[np.uint64]
    length6: NDArray[np.uint8]
    cleared: int
    skipped: int
    faults: list[Fault]
    notes: list[str]
    ranges6: Ranges

    @property
    def given(self) -> int:
        """How many entries there are."""
        return self.first4.size + self.high6.size + self.ranges6.size


class _Single:
    """Entries parsed one by one, with their lines, in arrays: objects would take ten times the memory."""

    def __init__(self) -> None:
        self.lines4, self.first, self.last = array("q"), array("L"), array("L")
        self.lines6, self.high, self.low, self.lengths = array("q"), array("Q"), array("Q"), array("B")
        self.ranges = tuple(array("Q") for _ in range(4))
        self.cleared = 0

    def add(self, line: int, said: Entry) -> None:
        """Add the entries of a line."""
        self.cleared += said.cleared
        for first, last in said.ranges4:
            self.lines4.append(line)
            self.first.append(first)
            self.last.append(last)
        for network, length in said.prefixes6:
            self.lines6.append(line)
            self.high.append(network >> 64)
            self.low.append(network & _LOWER)
            self.lengths.append(length)
        for first, last in said.ranges6:
            for column, half in zip(self.ranges, (*divmod(first, 1 << 64), *divmod(last, 1 << 64)), strict=True):
                column.append(half)


class Collector:
    """Collects entries, faults and notes. Blocks and values must come in file order."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._entries = 0
        self.notes: list[str] = []
        self._sets: dict[str, None] = {}
        self.faults: list[Fault] = []
        self._left_out: Counter[str] = Counter()
        self._cleared = 0
        self._skipped = 0
        self._four: list[tuple[Numbers, Numbers]] = []
        self._six: list[tuple[Halves, Halves, Bytes]] = []
        self._ranges: list[tuple[Halves, ...]] = []

    @property
    def empty(self) -> bool:
        """Whether there is no entry yet."""
        return not self._entries

    def fault(self, line: int, text: str, why: str) -> None:
        """Record a line that lacks its entry."""
        self._skipped += 1
        if len(self.faults) < FAULTS or line < self.faults[-1].line:
            insort(self.faults, Fault(line, shown(text), why), key=lambda fault: fault.line)
            del self.faults[FAULTS:]

    def leave_out(self, what: str, number: int = 1) -> None:
        """Count entries that do not block: exceptions, decisions that do not ban, elements with a port."""
        what = shown(what)
        self._left_out[what if what in self._left_out or len(self._left_out) < FAULTS else "others"] += number

    def came_from(self, name: str) -> None:
        """Record the set an entry came from; of several sets, not all need be meant as block lists."""
        if len(self._sets) < SETS:
            self._sets[name] = None

    def values(self, values: Sequence[str], lines: Sequence[int]) -> None:
        """Add entries from cells or strings, each with its line; an empty one is a fault."""
        if not values:
            return
        text = "\n".join(values)
        if text.count("\n") != len(values) - 1:
            text = "\n".join(value.replace("\n", "\ufffd") for value in values)
        self.block((text + "\n").encode("utf-8", "replace"), np.array(lines, dtype=np.intp), blanks=False)

    def block(self, text: bytes, numbers: int | Positions, *, blanks: bool = True) -> None:
        """Add whole lines, given the number of the first or of each; blank ones are faults unless allowed."""
        found, six, rest = solve(text)
        if isinstance(numbers, int):
            numbers = np.arange(numbers, numbers + len(found.state))
        single = _Single()
        for at, raw in rest:
            line = decoded(raw)
            said = entry(line)
            if isinstance(said, Entry):
                single.add(at, said)
            elif said is not None:
                self.fault(int(numbers[at]), line.strip(), said)
            else:
                found.state[at] = BLANK
        if not blanks:
            for number in numbers[found.state == BLANK].tolist():
                self.fault(number, "", "empty, where an address should be")
        self._add(found, six, single)

    def _add(self, found: Lines, six: Six, single: _Single) -> None:
        four = found.state == ENTRY
        first, last, high, low, lengths = found.first[four], found.last[four], six.high, six.low, six.lengths
        self._cleared += int(found.cleared.sum()) + single.cleared
        if single.lines4:
            order = np.argsort(np.concatenate([np.flatnonzero(four), np.array(single.lines4)]), kind="stable")
            first = np.concatenate([first, np.array(single.first, dtype=np.uint32)])[order]
            last = np.concatenate([last, np.array(single.last, dtype=np.uint32)])[order]
        if single.lines6:
            order = np.argsort(np.concatenate([six.lines, np.array(single.lines6)]), kind="stable")
            high = np.concatenate([high, np.array(single.high, dtype=np.uint64)])[order]
            low = np.concatenate([low, np.array(single.low, dtype=np.uint64)])[order]
            lengths = np.concatenate([lengths, np.array(single.lengths, dtype=np.uint8)])[order]
        if len(first):
            self._four.append((first, last))
        if len(lengths):
            self._six.append((high, low, lengths))
        if single.ranges[0]:
            self._ranges.append(tuple(np.array(column, np.uint64) for column in single.ranges))
        self._entries += len(first) + len(lengths) + len(single.ranges[0])
        if self._entries > MOST:
            raise UsageError(f"{self._name}: more than {MOST:,} entries", "split it into several lists")
        if self._skipped > max(MANY_FAULTS, self._entries):
            first = self.faults[0]
            raise UsageError(
                f"{self._name}: not a list: {self._skipped:,} lines without an address, {self._entries:,} entries;"
                f" line {first.line}, {first.text!r}, is {first.why}",
                "write one address or prefix per line",
            )

    def parsed(self, form: str) -> Parsed:
        """Return everything collected so far."""
        notes = self.notes + [f"left out: {what} ({number})" for what, number in self._left_out.items()]
        if len(self._sets) > 1:
            names = list(map(shown, self._sets))
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            notes.append(f"entries of {len(names)} sets: {', '.join(names[:5])}{more}")
        return Parsed(
            form,
            _joined([first for first, _ in self._four], np.uint32),
            _joined([last for _, last in self._four], np.uint32),
            _joined([high for high, _, _ in self._six], np.uint64),
            _joined([low for _, low, _ in self._six], np.uint64),
            _joined([lengths for _, _, lengths in self._six], np.uint8),
            self._cleared,
            self._skipped,
            self.faults,
            notes,
            Ranges.of(*(_joined([part[at] for part in self._ranges], np.uint64) for at in range(4))),
        )


def _joined(parts: list[NDArray[_Scalar]], kind: type[_Scalar]) -> NDArray[_Scalar]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)
