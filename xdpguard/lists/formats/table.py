# SPDX-License-Identifier: GPL-2.0
"""Read the rows of a list in columns."""

from __future__ import annotations

import socket

from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.decisions import skip_reason
from xdpguard.lists.formats.ends import duration
from xdpguard.lists.formats.entries import Entry, addresses_in, decoded, entry, has_address
from xdpguard.lists.formats.judging import lasting
from xdpguard.lists.formats.layout import Layout
from xdpguard.lists.formats.masks import joined
from xdpguard.lists.formats.names import NAMED
from xdpguard.lists.formats.rows import Row, cell, is_entry, number, split_rows
from xdpguard.lists.formats.words import has_clear_words, speaks_alone

_WORDS = "words that may let in, in columns that do not decide"
_TITLE = "words above the header, passed over"
_OTHERS = "addresses in other columns, not taken"
_STRAY = "a quote that is not closed on its line, so that the next line is read as a row of its own"


class Table:
    """Reads rows, all by one layout."""

    def __init__(self, layout: Layout, collector: Collector, spare: int = 0, titles: int = 0) -> None:
        """``spare``: lines before the header or first row that are neither; ``titles``: how many of them to tell."""
        self._layout = layout
        self._collector = collector
        header, own = layout.header, {layout.first, layout.last, layout.length}
        self._named = {at for at, name in enumerate(header) if name}
        self._passed_over = own | {at for at, name in enumerate(header) if name in NAMED}
        self._titles = range(spare - titles, spare)
        self._passed = 0
        self._spare = spare + layout.headed  # rows at the beginning that hold no data
        self._scope, self._kind, self._duration, self._simulated = (
            next((header.index(word) for word in words if word in header), len(header))
            for words in (("scope",), ("action", "type"), ("expiration", "duration"), ("simulated",))
        )
        collector.reading = str(layout)

    def block(self, text: bytes, first: int) -> None:
        """Add whole lines."""
        layout = self._layout
        kept = [
            (at, line)
            for at, line in enumerate(decoded(text).split("\n"), start=first)
            if (bare := line.strip()) and bare[0] != "#" and (bare[0] != ";" or layout.delimiter == ";")
        ]
        for at, _ in kept[: self._spare]:
            if self._passed in self._titles:
                self._collector.notes.remark(_TITLE, at)
            self._passed += 1
        passed = min(self._spare, len(kept))
        self._spare -= passed
        del kept[:passed]
        values: list[str] = []
        numbers: list[int] = []
        ends: list[int] = []
        judges, decisions = layout.judges, layout.decisions
        speaking = not decisions and has_clear_words(text)
        rows = split_rows([line for _, line in kept], layout.delimiter)
        for start in rows.stray:
            self._collector.notes.remark(_STRAY, kept[start][0])
        for start, row in zip(rows.starts, rows.rows, strict=True):
            at = kept[start][0]
            value, end = self._decision(row) if decisions else (_address(row, layout), 0)
            if judges and end is not None:
                end = self._lasting(row, value, at)
            if end is not None:
                ends.append(end)
                values.append(value.strip().replace("\n", ",") if "\n" in value else value)
                numbers.append(at)
                if speaking and any(map(speaks_alone, row)):
                    self._collector.notes.remark(_WORDS, at)
                if self._holds_others(row, value):
                    self._collector.notes.remark(_OTHERS, at)
        self._collector.values(values, numbers, ends)

    def _lasting(self, row: Row, value: str, line: int) -> int | None:
        now = self._collector.notes.now
        said = (judge.verdict(cell(row, judge.at), now) for judge in self._layout.judges)
        return lasting(said, value, line, self._collector)

    def _holds_others(self, row: Row, value: str) -> bool:
        """Return whether there are addresses in cells that no header names, or that its names do not tell of."""
        for at, text in enumerate(row):
            if at in self._passed_over or ("." not in text and ":" not in text):
                continue
            if is_entry(text) if at in self._named else has_address(text):
                own = set(addresses_in(value))
                if not own.issuperset(addresses_in(text)):
                    return True
        return False

    def _decision(self, row: Row) -> tuple[str, int | None]:
        """Return the address of a decision, and its end: 0 for none, None if it does not block."""
        value = cell(row, self._layout.first)
        scope = cell(row, self._scope)
        if not scope and value.partition(":")[0].lower() in ("ip", "range"):
            scope, _, value = value.partition(":")
        elif not scope:
            scope = "ip" if isinstance(entry(value), Entry) else value.partition(":")[0]
        simulated = cell(row, self._simulated).lower() == "true"
        left = cell(row, self._duration)
        if reason := skip_reason(scope, cell(row, self._kind) or "ban", left, simulated):
            self._collector.notes.leave_out(reason)
            return value, None
        seconds = duration(left)
        notes = self._collector.notes
        return value, notes.end(None if seconds is None else notes.now + seconds)


def _address(row: Row, layout: Layout) -> str:
    first = cell(row, layout.first)
    if layout.last is None:
        return first if layout.length is None else joined(first, cell(row, layout.length), layout.wildcard)
    last = cell(row, layout.last)
    if layout.integers and (low := number(first)) is not None and (high := number(last)) is not None:
        return _dotted(low, high)
    return f"{first}-{last}" if first or last else ""


def _dotted(first: int, last: int) -> str:
    if max(first, last) < 1 << 32:
        return "-".join(socket.inet_ntoa(value.to_bytes(4, "big")) for value in (first, last))
    if max(first, last) < 1 << 128:
        return "-".join(socket.inet_ntop(socket.AF_INET6, value.to_bytes(16, "big")) for value in (first, last))
    return f"{first}-{last}"
