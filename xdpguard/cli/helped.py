# SPDX-License-Identifier: GPL-2.0
"""The help of a command in the terminal's width: examples and definitions in columns, broken between words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby

_INDENT = 4  # of the rows, below a heading of their own
_MEANING = 30  # columns that a meaning has at least beside its example; below it otherwise
_GAP = re.compile(r" {2,}")


def fitted(text: str, width: int) -> str:
    """Return the help of a command with its rows laid out. ``width``: columns; an example itself is never broken."""
    lines: list[str] = []
    for is_row, group in groupby(text.splitlines(), lambda line: re.match(rf" {{{_INDENT}}}\S", line) is not None):
        run = list(group)
        lines += columns([line.strip() for line in run], width) if is_row else run
    return "\n".join(lines)


def columns(rows: Iterable[str], width: int) -> Iterator[str]:
    """Lay out rows, each a name or an example, and after two spaces or more what it means."""
    pairs = [_GAP.split(row, maxsplit=1) for row in rows]
    beside = [len(it[0]) for it in pairs if len(it) > 1 and len(it[0]) <= width - 2 * _INDENT - _MEANING]
    column = _INDENT + max(beside, default=0) + _INDENT
    for name, *meaning in pairs:
        line = " " * _INDENT + name
        if not meaning or len(line) > column - 2:
            yield line
            line = ""
        for its in meaning:
            yield from textwrap.wrap(
                its,
                width,
                initial_indent=line.ljust(column),
                subsequent_indent=" " * column,
                break_long_words=False,
                break_on_hyphens=False,
            )
