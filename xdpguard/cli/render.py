# SPDX-License-Identifier: GPL-2.0
"""Output: JSON for machines, tables for people, one line for a note or an error."""

from __future__ import annotations

import json
import select
import shutil
import sys
from collections.abc import Sequence
from typing import Any

import typer

from xdpguard.errors import XdpguardError

_MANY_ROWS = 1000


def print_json(value: object) -> None:
    """One JSON document, on one line. ``value``: a struct of answers, or made of such."""
    import msgspec

    # Not by msgspec alone: names of files may hold what is no UTF-8, and terminals may show no more than ASCII.
    typer.echo(json.dumps(msgspec.to_builtins(value)))


def json_line(value: object) -> str:
    """The same as a line, without blanks and quickly: for thousands of lines a second."""
    import msgspec

    return msgspec.json.encode(value).decode()


def note(text: str) -> None:
    """Something worth knowing, on standard error."""
    typer.echo(f"xdpguard: note: {text}", err=True)


def reader_gone(descriptor: int) -> bool:
    """Whether that is a pipe from which nobody reads any more (| head)."""
    watch = select.poll()
    watch.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in watch.poll(0))


def failure(error: XdpguardError, verbose: bool) -> None:
    """An error and its remedy, in one line; with -v everything that is known of it."""
    typer.echo(f"xdpguard: {error}" + (f"; {error.remedy}" if error.remedy else ""), err=True)
    if verbose and error.details:
        typer.echo(error.details.rstrip(), err=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", right: str = "") -> None:
    """A table. Columns whose names stand in ``right``, separated by spaces, are set to the right."""
    if len(rows) > _MANY_ROWS:
        _print_plain(columns, rows)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", title_style="bold", pad_edge=False)
    numeric = set(right.split())
    for column in columns:
        table.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _width())
    console.print(table)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Laying out a hundred thousand rows prettily would take a minute."""
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _width() -> int:
    """Wide enough that a pipe gets whole lines."""
    return max(160, shutil.get_terminal_size().columns)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)
