# SPDX-License-Identifier: GPL-2.0
"""Split lines into cells, and weigh what columns hold."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Sequence
from typing import NamedTuple

from xdpguard.lists.formats.entries import Entry, entry, has_address
from xdpguard.lists.formats.masks import is_mask, is_wildcard
from xdpguard.lists.formats.reasons import packed

BLANKS = " "  # as a delimiter: any number of blanks and tabs
DELIMITERS = (",", "\t", ";", BLANKS)
TITLES = {",": "CSV", "\t": "tab-separated columns", ";": "semicolon-separated columns", BLANKS: "columns"}
_LOWEST = 1 << 24  # two integer columns that never reach 1.0.0.0 are not addresses
_EPOCH = range(946_684_800, 2_147_483_648)  # seconds from 2000 to 2038
_ALIGNED = 8  # bits of two ends that are those of networks, on average

Row = list[str]


class Rows(NamedTuple):
    """Lines as rows: their cells, the index of each one's first line, and of lines that leave a quote open."""

    rows: list[Row]
    starts: Sequence[int]
    stray: Sequence[int] = ()


def split(texts: Sequence[str], delimiter: str) -> list[Row]:
    """Split each line into cells; a quoted cell may go on over several lines."""
    return split_rows(texts, delimiter).rows


def split_rows(texts: Sequence[str], delimiter: str) -> Rows:
    """Split lines as `split` does. A quote that is not closed in a row like the others ends with its line."""
    each = range(len(texts))
    if delimiter == BLANKS:
        return Rows([text.split() for text in texts], each)
    if not any('"' in text for text in texts):
        return Rows([text.split(delimiter) for text in texts], each)
    rows = list(csv.reader(texts, delimiter=delimiter, skipinitialspace=True))
    if len(rows) == len(texts):
        return Rows(rows, each)
    with contextlib.suppress(csv.Error):
        found = _over_lines(texts, delimiter)
        if len(set(map(len, found.rows))) == 1:
            return found
    single = [next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), []) for text in texts]
    return Rows(single, each, [at for at, text in enumerate(texts) if text.count('"') % 2])


def _over_lines(texts: Sequence[str], delimiter: str) -> Rows:
    """Split lines of which some are the middle of a quoted cell. Raise csv.Error if a quote is not closed."""
    reader = csv.reader((text + "\n" for text in texts), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[Row] = []
    starts: list[int] = []
    start = 0
    for row in reader:
        rows.append(row)
        starts.append(start)
        start = reader.line_num
    return Rows(rows, starts)


def cell(row: Row, at: int) -> str:
    """Return a cell without blanks around it; empty beyond the row's end."""
    return row[at].strip() if at < len(row) else ""


def is_entry(text: str) -> bool:
    """Return whether a cell is an address, prefix or range."""
    return isinstance(entry(text), Entry)


def _is_entries(text: str) -> bool:
    """Return whether a cell is an entry, or several, each on a line of its own."""
    return all(map(is_entry, text.split("\n")))


def holds_address(row: Row) -> bool:
    """Return whether a row has an address anywhere, so that it is not a header."""
    return any(has_address(text) or is_entry(text) for text in row if text.strip())


class Column(NamedTuple):
    """What a column holds: its cells that are not empty, and how many of them are what."""

    at: int
    rows: int
    filled: list[str]
    entries: int
    masks: int
    wildcards: int

    @classmethod
    def of(cls, rows: list[Row], at: int) -> Column:
        """Weigh a column of these rows."""
        filled = [text for row in rows if (text := cell(row, at)) and text != "-"]
        zeros = filled.count("0.0.0.0")
        masks, wildcards = sum(map(is_mask, filled)), sum(map(is_wildcard, filled))
        return cls(at, len(rows), filled, sum(map(_is_entries, filled)), masks and masks + zeros, wildcards)

    @property
    def addresses(self) -> bool:
        """Whether most cells are addresses, prefixes or ranges, and not netmasks."""
        return self.entries > 0 and self.entries * 2 >= len(self.filled) and not self.is_mask

    @property
    def is_mask(self) -> bool:
        """Whether all cells are netmasks, or all are wildcard masks."""
        count = len(self.filled)
        zeros = self.filled.count("0.0.0.0")
        return bool(count) and (self.masks == count or (self.wildcards == count > zeros))


def number(text: str) -> int | None:
    """Return the integer in a cell, of at most 39 digits; None if it is not one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 40 else None


def address_number(text: str) -> int | None:
    """Return an address or integer as a number; None if it is neither."""
    raw = packed(text)
    return number(text) if raw is None else int.from_bytes(raw, "big")


def are_ranges(pairs: list[tuple[str, str]]) -> bool:
    """Return whether pairs are the first and last addresses of networks, and not two hosts each.

    The ends of networks are aligned: many bits of the first are zero, and of the last one.
    """
    bits = ranges = 0
    for one, other in pairs:
        first, last = address_number(one), address_number(other)
        if first is None or last is None or first > last or (":" in one) != (":" in other):
            return False
        if first == last:
            continue
        if first & 1 or not last & 1:
            return False
        bits += _zeros(first) + _zeros(last + 1)
        ranges += 1
    return ranges > 0 and bits >= _ALIGNED * ranges


def are_integers(pairs: list[tuple[str, str]], named: bool) -> bool:
    """Return whether pairs of integers are addresses; ``named``: their header says so."""
    numbers = [(a, b) for one, other in pairs if (a := number(one)) is not None and (b := number(other)) is not None]
    if sum(low <= high for low, high in numbers) * 2 <= len(pairs) or max(high for _, high in numbers) < _LOWEST:
        return False
    if named:
        return True
    if all(low in _EPOCH and high in _EPOCH for low, high in numbers) or any(
        1 << 32 <= high < 0xFFFF << 32 for _, high in numbers
    ):
        return False  # times, in seconds or milliseconds
    return len(numbers) == len(pairs) and are_ranges(pairs)


def _zeros(value: int) -> int:
    return (value & -value).bit_length() - 1 if value else 32
