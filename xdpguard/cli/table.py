# SPDX-License-Identifier: GPL-2.0
"""Tables as text. Plain ASCII that fits is laid out here just as rich would, because loading rich takes longer."""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Iterator, Sequence

import typer

from xdpguard import units

_MANY_ROWS = 1000
_NARROWEST_PIPE = 160  # columns; wide enough that a pipe gets whole lines
_GAP = "   "
_INDENT = "    "
_LONGEST_WORD = 43  # characters that a column keeps together: the longest IPv6 prefix; longer words are broken


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, right: Sequence[str]) -> None:
    """Print a table. ``right``: names of the right-aligned columns."""
    rows = [[_shown(cell) for cell in row] for row in rows]
    title = _shown(title)
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else max(_NARROWEST_PIPE, shutil.get_terminal_size().columns)
    if len(rows) > _MANY_ROWS:
        _show_plain(columns, rows, width)
        return
    lines = laid_out(columns, rows, title, right) if sys.stdout.encoding.lower().startswith("utf") else []
    if lines and len(lines[0]) <= width:
        head = 2 if title else 1
        bold = os.environ.get("TERM") not in ("dumb", "unknown")
        for number, line in enumerate(lines):
            typer.echo(typer.style(line, bold=True) if bold and number in (0, head) else line)
        return
    for gap in (len(_GAP), len(_GAP) - 1):
        widths = fitted(columns, rows, width, gap)
        if widths:
            show_rich(columns, rows, title, right, width, widths, gap)
            return
    _show_records(columns, rows, title, width)


def _shown(text: str) -> str:
    """Return text as the terminal can show it, and without what could steer the terminal."""
    text = units.visible(text)
    return text if text.isascii() else text.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding)


def laid_out(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, right: Sequence[str]) -> list[str]:
    """Return a table's lines, all of one length; none if padding with spaces is not enough."""
    table = [columns, *rows]
    if not all(it.isascii() and it.isprintable() and it == it.strip() for cells in (*table, [title]) for it in cells):
        return []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    inner = sum(widths) + len(_GAP) * (len(widths) - 1)
    if len(title) > inner + 2:
        return []
    bodies = [
        _GAP.join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(cells, widths, columns, strict=True)
        )
        for cells in table
    ]
    head, *others = (f" {body} " for body in bodies)
    blank = " " * (inner + 2)
    return [*([title.ljust(inner + 2)] if title else []), blank, head, f" {'─' * inner} ", *others, blank]


def fitted(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int, gap: int) -> list[int]:
    """Return widths of columns with which a table fits and no address is cut; none if there are no such widths."""
    from rich.cells import cell_len

    room = width - 2 - gap * (len(columns) - 1)
    cells = [[name, *(row[place] for row in rows)] for place, name in enumerate(columns)]
    widths = [max(1, *map(cell_len, its)) for its in cells]
    least = [max(1, *(min(cell_len(word), _LONGEST_WORD) for it in its for word in it.split())) for its in cells]
    if sum(least) > room:
        return []
    while sum(widths) > room:
        # What can give most gives first.
        place = max(range(len(widths)), key=lambda it: (widths[it] - least[it], widths[it]))
        widths[place] -= 1
    return widths


def show_rich(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str,
    right: Sequence[str],
    width: int,
    widths: Sequence[int] | None = None,
    gap: int = len(_GAP),
) -> None:
    """Print a table with rich: for other alphabets, and for tables whose cells take several lines."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    table.padding = (0, gap - 2, 0, 1)  # beside a blank of the box
    for column, its in zip(columns, widths or itertools.repeat(None), strict=False):
        table.add_column(column, justify="right" if column in right else "left", overflow="fold", width=its)
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=sys.stdout, highlight=False, width=width).print(table)


def _show_records(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, width: int) -> None:
    """Print a table too wide for the terminal row by row: what identifies it on a line, the rest below."""
    if title:
        typer.echo(title)
    for row in rows:
        for line in record(columns, row, width):
            typer.echo(line)


def record(columns: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """Yield the lines of a row: fields of a name and a cell, broken between words only."""
    line = ""
    for name, cell in zip(columns, row, strict=True):
        if not cell or cell == "-":
            continue
        field = f"{name} {cell}"
        for number, word in enumerate([field] if len(field) <= width - len(_INDENT) else field.split()):
            gap = ("  " if number == 0 else " ") if line.strip() else ""
            if line.strip() and len(line) + len(gap) + len(word) > width:
                yield line
                line, gap = _INDENT, ""
            line += gap + word
    if line.strip():
        yield line


def _show_plain(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> None:
    """Print rows without rich, with which a hundred thousand rows would take a minute."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) > width and sys.stdout.isatty():
        _show_records(columns, rows, "", width)
        return
    for row in (columns, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
