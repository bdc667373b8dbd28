# SPDX-License-Identifier: GPL-2.0
"""Tables as text. Plain ASCII that fits is laid out here just as rich would, because loading rich takes longer."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

import typer

_MANY_ROWS = 1000
_NARROWEST_PIPE = 160  # columns; wide enough that a pipe gets whole lines
_GAP = "   "


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, right: Sequence[str]) -> None:
    """Print a table. ``right``: names of the right-aligned columns."""
    if len(rows) > _MANY_ROWS:
        _show_plain(columns, rows)
        return
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else max(_NARROWEST_PIPE, shutil.get_terminal_size().columns)
    lines = laid_out(columns, rows, title, right) if sys.stdout.encoding.lower().startswith("utf") else []
    if not lines or len(lines[0]) > width:
        show_rich(columns, rows, title, right, None if terminal else width)
        return
    head = 2 if title else 1
    bold = os.environ.get("TERM") not in ("dumb", "unknown")
    for number, line in enumerate(lines):
        typer.echo(typer.style(line, bold=True) if bold and number in (0, head) else line)


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


def show_rich(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, right: Sequence[str], width: int | None
) -> None:
    """Print a table with rich: for other alphabets, and for tables wider than ``width`` or the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    Console(file=sys.stdout, highlight=False, width=width).print(table)


def _show_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows without aligning them, because with rich a hundred thousand rows would take a minute."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
