# SPDX-License-Identifier: GPL-2.0
"""What columns without a name leave in doubt: whether they rule out rows, whether they hold addresses, too."""

from __future__ import annotations

from collections.abc import Sequence

from xdpguard.errors import UsageError
from xdpguard.lists.formats import judges, names, words
from xdpguard.lists.formats.entries import addresses_in, shown
from xdpguard.lists.formats.layout import Layout
from xdpguard.lists.formats.rows import Column, Row, cell, is_entry


def refuse(name: str, found: Layout, rows: list[Row], columns: Sequence[Column]) -> None:
    """Raise UsageError if columns that no header names could change what the file means."""
    if names.known(found.header):
        return
    others = [it for it in columns if it.at not in (found.first, found.last, found.length)]
    for column in others:
        said = list(dict.fromkeys(column.filled))
        own = found.header[column.at] if column.at < len(found.header) else ""
        if judges.judge(column.at, own) or judges.flagged(column.at, own, column.filled):
            continue
        if len(column.filled) == len(rows) and words.are_flags(said):
            teller = "its name does not tell" if own else "no header tells"
            raise UsageError(
                f"{name}: column {found.named(column.at)} holds {' and '.join(map(shown, said[:2]))}, and {teller} "
                "whether that decides over the row",
                f"--column {found.first + 1} takes every row; a header such as ip,enabled would decide",
            )
    if found.last is None:
        _refuse_glued(name, found, rows, others)


def _refuse_glued(name: str, found: Layout, rows: list[Row], others: list[Column]) -> None:
    """Refuse where most rows have further addresses with other text around them, as the lists in rules have."""
    glued: dict[int, int] = {}
    for row in rows:
        own = set(addresses_in(cell(row, found.first)))
        for it in others:
            text = cell(row, it.at)
            if text and not is_entry(text) and not own.issuperset(addresses_in(text)):
                glued[it.at] = glued.get(it.at, 0) + 1
    places = [at for at, number in glued.items() if number * 2 > len(rows)]
    if places:
        listed = ", ".join(found.named(at) for at in sorted(places)[:5])
        raise UsageError(
            f"{name}: column {found.named(found.first)} holds addresses, and so does the text in {listed}",
            f"--column {found.first + 1} takes the addresses of that column only",
        )
