# SPDX-License-Identifier: GPL-2.0
"""Whether a row is an entry, by what its columns say about it."""

from __future__ import annotations

from collections.abc import Iterable

from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.judges import Verdict


def ruled_out(verdicts: Iterable[Verdict], value: str, line: int, collector: Collector) -> bool:
    """Return whether a verdict says that an address does not block; that is counted, and what is unclear is noted."""
    notes = collector.notes
    end: float | None = None
    for said in verdicts:
        if said.let_in:
            collector.let_in(value, line, said.let_in)
            return True
        if said.out:
            notes.leave_out(said.out)
            return True
        if said.unclear:
            notes.remark(said.unclear, line)
        if said.end is not None:
            end = said.end if end is None else min(end, said.end)
    return end is not None and not notes.ends(end)
