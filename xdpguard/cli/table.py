# SPDX-License-Identifier: GPL-2.0
"""Print tables: for people, as wide as the terminal; whole lines into pipes and with -o wide; -o tsv for machines."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence

import typer

from xdpguard import units
from xdpguard.cli import fitting, output
from xdpguard.cli.columns import Cell, Column
from xdpguard.cli.output import paint

_GAP = "  "
_INDENT = "    "


def show(columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], title: str) -> None:
    """Print a table in the form that was asked for."""
    table = [[it if isinstance(it, Cell) else Cell(it) for it in row] for row in rows]
    if output.form() == "tsv":
        lines = tsv(columns, table)
    else:
        wide = output.form() == "wide"
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() and not wide else None
        lines = laid_out(columns, table, title, room, wide)
    if output.another_table():
        typer.echo()
    # In one piece: a hundred thousand lines would each be flushed.
    typer.echo("\n".join(lines))


def tsv(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> Iterator[str]:
    """Yield a table as tab-separated values: a line of names, then whole, exact values; tabs and controls escaped."""
    yield "\t".join(it.key for it in columns)
    for row in rows:
        yield "\t".join(units.visible(it.value) for it in row)


def laid_out(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], title: str, room: int | None, wide: bool
) -> Iterator[str]:
    """Yield the lines of a table for people. ``room``: columns of the terminal; None: as many as it takes."""
    texts = [[_shown(it.wide if wide and it.wide is not None else it.text) for it in row] for row in rows]
    heads = [it.name for it in columns]
    widths = [max(map(fitting.width, cells)) for cells in zip(heads, *texts, strict=True)]
    chosen = fitting.fit(columns, widths, len(_GAP), sys.maxsize if room is None else room)
    title = _shown(title)
    if title:
        yield paint(title if room is None else fitting.clipped(title, room, "end", _mark()), "bold")
    if chosen is None:
        assert room is not None  # any table fits where there is no limit
        for texts_of_row in texts:
            yield from record(heads, texts_of_row, room)
        return
    kept = [columns[it] for it in chosen.places]
    yield paint(_line([it.name for it in kept], kept, chosen.widths, [""] * len(kept)), "bold")
    rule = sum(chosen.widths) + len(_GAP) * (len(kept) - 1)
    yield paint(("─" if output.speaks_unicode() else "-") * rule, "dim")
    for row, cells in zip(rows, texts, strict=True):
        colours = [row[it].colour or columns[it].colour for it in chosen.places]
        yield _line([cells[it] for it in chosen.places], kept, chosen.widths, colours)
    hidden = [it.name for place, it in enumerate(columns) if place not in chosen.places]
    if hidden and room is not None:
        text = f"not shown: {', '.join(hidden)}"
        remedy = "; -o wide shows all"
        yield paint(fitting.clipped(text, room - len(remedy), "end", _mark()) + remedy, "dim")


def _line(
    cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], colours: Sequence[output.Colour]
) -> str:
    line = ""
    for text, column, width, colour in zip(cells, columns, widths, colours, strict=True):
        cut = fitting.clipped(text, width, column.clip, _mark()) if column.clip else text
        blank = " " * (width - fitting.width(cut))
        line += (blank + paint(cut, colour) if column.right else paint(cut, colour) + blank) + _GAP
    return line.rstrip()


def _mark() -> str:
    return "…" if output.speaks_unicode() else "..."


def _shown(text: str) -> str:
    """Return text as the terminal can show it, and without what could steer the terminal."""
    text = units.visible(text)
    if text.isascii():
        return text
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def record(names: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """Yield a row that no table has room for, as lines of names and cells, broken between words only."""
    line = ""
    for name, cell in zip(names, row, strict=True):
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
