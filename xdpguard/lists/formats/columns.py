# SPDX-License-Identifier: GPL-2.0
"""Lists in columns: find the columns with the addresses. Where names and content leave a doubt, refuse."""

from __future__ import annotations

from collections.abc import Sequence

from xdpguard.errors import UsageError
from xdpguard.lists.formats import judges, names
from xdpguard.lists.formats.choice import Choice, header_of
from xdpguard.lists.formats.entries import has_address
from xdpguard.lists.formats.layout import Layout
from xdpguard.lists.formats.masks import could_be_length, is_mask, is_wildcard
from xdpguard.lists.formats.request import Request
from xdpguard.lists.formats.rows import (
    BLANKS,
    DELIMITERS,
    Row,
    cell,
    holds_address,
    is_entry,
    split,
)

_TITLES = 6  # lines


def recognise(name: str, sample: Sequence[str], comments: Sequence[str], request: Request) -> Layout | None:
    """Find the addresses in a file's first lines; ``comments`` are the last ones before them, one often the header.

    Raise UsageError if more than one reading is possible.
    """
    rows_of = {delimiter: split(sample, delimiter) for delimiter in DELIMITERS}
    asked = bool(request.column or request.prefix_column or request.format == "csv")
    if asked:  # by whatever splits most lines
        rows_of = dict(sorted(rows_of.items(), key=lambda item: -_several(item[1])))
    for delimiter, rows in rows_of.items():
        header = header_of(rows[0])
        wide = delimiter != BLANKS or (asked or _all_in_columns(rows[1:]))
        if wide and names.known(header) and not holds_address(rows[0]) and not is_entry(sample[0]):
            return Choice(name, delimiter, header, True, rows[1:], request).made()
    plain = sum(map(is_entry, sample)) * 2 >= len(sample) and not asked
    for delimiter, rows in rows_of.items():
        if plain and not (delimiter == ";" and _second_counts(rows)):
            continue  # lines that make sense without columns; a semicolon then starts a comment
        if delimiter == BLANKS and not (asked or _all_in_columns(rows)):
            continue
        header = _header_in(comments, delimiter, rows)
        if not asked and _several(rows) * 2 < len(rows):
            continue
        if found := Choice(name, delimiter, header, False, rows, request).made():
            return found
    if asked:
        raise UsageError(f"{name}: no column of addresses", "check the column, or leave it to the content")
    return None


def titles(sample: Sequence[str]) -> int:
    """Return how many lines without an address stand above a header, such as the title of a spreadsheet."""
    for at, line in enumerate(sample[:_TITLES]):
        if has_address(line):
            return 0
        headers = [header_of(split([line], delimiter)[0]) for delimiter in DELIMITERS if delimiter != BLANKS]
        if any(len(header) > 1 and names.known(header) for header in headers):
            return at
        if any(sum(map(bool, header)) > 1 for header in headers):
            return 0
    return 0


def _header_in(comments: Sequence[str], delimiter: str, rows: list[Row]) -> Row:
    """Return the last comment that names the columns of these rows, as a header; empty if none does."""
    width = max(map(len, rows))
    widths = (width,) if any(cell(row, width - 1) for row in rows) else (width, width - 1)
    for comment in reversed(comments):
        header = header_of(split([comment.lstrip("#; ")], delimiter)[0])
        if names.known(header) and len(header) in widths and not holds_address(header):
            return header
    return []


def _several(rows: list[Row]) -> int:
    """Return how many rows have several cells."""
    return sum(len(row) > 1 for row in rows)


def _second_counts(rows: list[Row]) -> bool:
    """Return whether what follows the first semicolon is not a comment: in most rows an address, a prefix length or a
    netmask, or in all of them a word that blocks or lets in.
    """
    if judges.unnamed(1, [cell(row, 1) for row in rows]):
        return True
    seconds = [(cell(row, 0), cell(row, 1)) for row in rows]
    good = sum(bool(text) and (is_entry(text) or could_be_length(first, text)) for first, text in seconds)
    return good * 2 >= len(rows)


def _all_in_columns(rows: list[Row]) -> bool:
    """Return whether each row begins with an address, and a second one, a netmask or a number after it."""
    if not rows:
        return False
    firsts = [cell(row, 1) for row in rows]
    good = sum(is_entry(cell(row, 0)) for row in rows)
    return (
        good * 2 >= len(rows)
        and all(
            (len(row) > 1 and (is_entry(text) or text.isdecimal() or is_mask(text) or is_wildcard(text)))
            or len(row) < 2
            for row, text in zip(rows, firsts, strict=True)
        )
        and sum(len(row) > 1 for row in rows) * 2 > len(rows)
    )
