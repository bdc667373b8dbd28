# SPDX-License-Identifier: GPL-2.0
"""Collect a list's contents block by block: entries, faults, notes."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from xdpguard.errors import UsageError
from xdpguard.lists.formats.blocks import BLANK, ENTRY, Bytes, Halves, Lines, Numbers, Positions, Six, solve, unsolved
from xdpguard.lists.formats.entries import HIDDEN, Entry, decoded, entry, hides_address, shown
from xdpguard.lists.formats.exceptions import Exceptions
from xdpguard.lists.formats.lines import SEVERAL, Meaning, meaning, several
from xdpguard.lists.formats.notes import Notes
from xdpguard.lists.formats.single import Single
from xdpguard.lists.ranges import Ranges

MANY_FAULTS = 100_000  # from which more faults than entries mean that it is not a list
FAULTS = 20  # maximum kept, with line and reason
MOST = 1 << 26  # entries

_Scalar = TypeVar("_Scalar", bound=np.generic)


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
    reading: str = ""  # what the file was taken for
    left_out: int = 0  # rows and entries that do not block
    ending: int = 0  # entries with an end, which are taken without it
    exceptions: int = 0
    given: int = 0  # entries in the file; exceptions may have cut them into more


class Collector:
    """Collects entries, faults and notes. Blocks and values must come in file order."""

    def __init__(self, name: str, now: float = 0.0) -> None:
        """``now`` is Unix time, to tell which entries have ended."""
        self._name = name
        self.notes = Notes(now)
        self.reading = ""
        self._entries = 0
        self._exceptions = Exceptions(name)
        self._read: Callable[[str, float], Meaning] = meaning
        self.faults: list[Fault] = []
        self._cleared = 0
        self._skipped = 0
        self._four: list[tuple[Numbers, Numbers]] = []
        self._six: list[tuple[Halves, Halves, Bytes]] = []
        self._ranges: list[tuple[Halves, ...]] = []

    @property
    def entries(self) -> int:
        """The number of entries so far."""
        return self._entries

    @property
    def skipped(self) -> int:
        """The number of faults so far."""
        return self._skipped

    @property
    def left_out(self) -> int:
        """The number of entries left out so far, exceptions included."""
        return self.notes.left_out + len(self._exceptions)

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

    def refused(self, line: int, why: str, remedy: str) -> UsageError:
        """Return the error that refuses the file for what a line says."""
        return UsageError(f"{self._name}:{line}: {why}", remedy)

    def let_in(self, text: str, line: int, why: str) -> None:
        """Record an address that the list lets in: it is kept out of larger entries, too."""
        self.notes.leave_out(why)
        if isinstance(entry(text), Entry):
            self._exceptions.add(text, line, marked=False)

    def exception(self, text: str, line: int) -> None:
        """Record an address after an exclusion mark. Raise UsageError if it is none."""
        self._exceptions.add(text, line, marked=True)

    def read_lines_as(self, read: Callable[[str, float], Meaning]) -> None:
        """Read lines with this function in place of `lines.meaning`; slower, as no line is read by arithmetic."""
        self._read = read

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
        found, six, rest = solve(text) if self._read is meaning or not blanks else unsolved(text)
        if isinstance(numbers, int):
            numbers = np.arange(numbers, numbers + len(found.state))
        single = Single()
        for at, raw in rest:
            line, number = decoded(raw), int(numbers[at])
            if blanks:
                said = self._meaning(line, number)
            elif isinstance(said := entry(line), Entry) and hides_address(line):
                said = HIDDEN
            elif isinstance(said, str) and (found_more := several(line)):
                self.notes.remark(SEVERAL, number)
                said = found_more
            if isinstance(said, Entry):
                single.add(at, said)
            elif said is not None:
                self.fault(number, line.strip(), said)
            else:
                found.state[at] = BLANK
        if not blanks:
            for number in numbers[found.state == BLANK].tolist():
                self.fault(number, "", "empty, where an address should be")
        self._add(found, six, single)

    def _meaning(self, line: str, number: int) -> Entry | str | None:
        """Return the entry of a line, or why it has none; None if it needs none."""
        said = self._read(line, self.notes.now)
        if said.remark:
            self.notes.remark(said.remark, number)
        if said.let_in:
            self.let_in(said.let_in, number, said.why)
        elif said.out:
            self.notes.leave_out(said.out)
        elif said.exception:
            self.exception(said.exception, number)
        elif said.end is None or self.notes.ends(said.end):
            return said.entry or said.fault or None
        return None

    def _add(self, found: Lines, six: Six, single: Single) -> None:
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
        """Return everything collected so far, without the exceptions."""
        first, last = self._exceptions.cut4(
            _joined([first for first, _ in self._four], np.uint32), _joined([last for _, last in self._four], np.uint32)
        )
        high, low, lengths = self._exceptions.cut6(
            _joined([high for high, _, _ in self._six], np.uint64),
            _joined([low for _, low, _ in self._six], np.uint64),
            _joined([lengths for _, _, lengths in self._six], np.uint8),
        )
        return Parsed(
            form,
            *(first, last, high, low, lengths),
            self._cleared,
            self._skipped,
            self.faults,
            list(self.notes.said(len(self._exceptions))),
            self._exceptions.cut_ranges6(
                Ranges.of(*(_joined([part[at] for part in self._ranges], np.uint64) for at in range(4)))
            ),
            self.reading or form,
            self.notes.left_out,
            self.notes.ending,
            len(self._exceptions),
            self._entries,
        )


def _joined(parts: list[NDArray[_Scalar]], kind: type[_Scalar]) -> NDArray[_Scalar]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=kind)
