# SPDX-License-Identifier: GPL-2.0
"""Collect a list's contents block by block: entries, faults, notes."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.errors import UsageError
from xdpguard.lists.formats.blocks import BLANK, Lines, Numbers, Positions, Six, solve, unsolved
from xdpguard.lists.formats.entries import HIDDEN, Entry, decoded, entry, hides_address, shown
from xdpguard.lists.formats.exceptions import Exceptions
from xdpguard.lists.formats.gathered import Gathered
from xdpguard.lists.formats.lines import SEVERAL, Meaning, meaning, several
from xdpguard.lists.formats.notes import Notes
from xdpguard.lists.formats.single import Single
from xdpguard.lists.ranges import Ranges
from xdpguard.lists.timed import Given
from xdpguard.units import counted

MANY_FAULTS = 100_000  # from which more faults than entries mean that it is not a list
FAULTS = 20  # maximum kept, with line and reason
MOST = 1 << 26  # entries


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
    ending: int = 0  # entries with an end
    exceptions: int = 0
    given: int = 0  # entries in the file; exceptions may have cut them into more
    ends: Given | None = None  # of the entries; None if none has one
    first_end: int = 0  # the first and the last of them, Unix time
    last_end: int = 0


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
        self._gathered = Gathered()

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
        """Record an address after an exclusion mark. Raise UsageError if it is not one."""
        self._exceptions.add(text, line, marked=True)

    def read_lines_as(self, read: Callable[[str, float], Meaning]) -> None:
        """Read lines with this function in place of `lines.meaning`; slower, as no line is read by arithmetic."""
        self._read = read

    def values(self, values: Sequence[str], lines: Sequence[int], ends: Sequence[int] = ()) -> None:
        """Add entries from cells or strings, each with its line; an empty one is a fault.

        ``ends``: the end of each, as `Notes.end` returns it, 0 for none; empty if none has one.
        """
        if not values:
            return
        text = "\n".join(values)
        if text.count("\n") != len(values) - 1:
            text = "\n".join(value.replace("\n", "\ufffd") for value in values)
        self.block((text + "\n").encode("utf-8", "replace"), np.array(lines, dtype=np.intp), blanks=False, ends=ends)

    def block(self, text: bytes, numbers: int | Positions, *, blanks: bool = True, ends: Sequence[int] = ()) -> None:
        """Add whole lines, given the number of the first or of each; blank ones are faults unless allowed.

        ``ends``: as in `values`.
        """
        found, six, rest = solve(text) if self._read is meaning or not blanks else unsolved(text)
        if isinstance(numbers, int):
            numbers = np.arange(numbers, numbers + len(found.state))
        single, until = Single(), dict[int, int]()
        for at, raw in rest:
            line, number = decoded(raw), int(numbers[at])
            if blanks:
                said, end = self._meaning(line, number)
                if end:
                    until[at] = end
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
        self._add(found, six, single, _by_line(ends, until, len(found.state)))

    def _meaning(self, line: str, number: int) -> tuple[Entry | str | None, int]:
        """Return the entry of a line, or why it has none; None if it needs none. And its end, 0 for none."""
        said = self._read(line, self.notes.now)
        if said.remark:
            self.notes.remark(said.remark, number)
        if said.let_in:
            self.let_in(said.let_in, number, said.why)
        elif said.out:
            self.notes.leave_out(said.out)
        elif said.exception:
            self.exception(said.exception, number)
        elif (end := self.notes.end(said.end)) is not None:
            return said.entry or said.fault or None, end
        return None, 0

    def _add(self, found: Lines, six: Six, single: Single, ends: Numbers | None) -> None:
        self._cleared += int(found.cleared.sum()) + single.cleared
        self._entries += self._gathered.add(found, six, single, ends)
        if self._entries > MOST:
            raise UsageError(f"{self._name}: more than {MOST:,} entries", "split it into several lists")
        if self._skipped > max(MANY_FAULTS, self._entries):
            first = self.faults[0]
            entries = counted(self._entries, "entry", "entries")
            raise UsageError(
                f"{self._name}: not a list: {self._skipped:,} lines without an address, {entries};"
                f" line {first.line}, {first.text!r}, is {first.why}",
                "write one address or prefix per line",
            )

    def parsed(self, form: str) -> Parsed:
        """Return everything collected so far, without the exceptions."""
        its, notes = self._gathered.without(self._exceptions), self.notes
        return Parsed(
            form,
            *its[:5],
            self._cleared,
            self._skipped,
            self.faults,
            list(notes.said(len(self._exceptions))),
            its.ranges6,
            self.reading or form,
            notes.left_out,
            notes.ending,
            len(self._exceptions),
            self._entries,
            its.ends,
            notes.first_end,
            notes.last_end,
        )


def _by_line(ends: Sequence[int], until: Mapping[int, int], count: int) -> Numbers | None:
    """Return the ends of lines, given of each or by line; None if there are none."""
    if not until:
        return np.array(ends, np.uint32) if any(ends) else None
    found = np.zeros(count, np.uint32)
    found[list(until)] = list(until.values())
    return found
