# SPDX-License-Identifier: GPL-2.0
"""Whether a row is an entry, by what its columns say about it."""

from __future__ import annotations

from collections.abc import Iterable

from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.judges import Verdict


def lasting(verdicts: Iterable[Verdict], value: str, line: int, collector: Collector) -> int | None:
    """Return until when an address blocks: 0 for good, None if a verdict says that it does not.

    The latter is counted, and what is unclear is noted.
    """
    notes = collector.notes
    end: float | None = None
    for said in verdicts:
        if said.let_in:
            collector.let_in(value, line, said.let_in)
            return None
        if said.out:
            notes.leave_out(said.out)
            return None
        if said.unclear:
            notes.remark(said.unclear, line)
        if said.end is not None:
            end = said.end if end is None else min(end, said.end)
    return notes.end(end)
