# SPDX-License-Identifier: GPL-2.0
"""Output: JSON for machines, tables for people, one line for a note or an error."""

from __future__ import annotations

import re
import select
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from xdpguard import units
from xdpguard.cli import output
from xdpguard.errors import XdpguardError

if TYPE_CHECKING:
    from xdpguard.cli.columns import Cell, Column

counted = units.counted
_NAME = re.compile(r" *(\S+ {2,})?")


def print_json(value: object) -> None:
    """Print a JSON document on one line. ``value``: a struct of answers, or a list of them."""
    import json

    import msgspec

    # Not with msgspec alone: file names may not be UTF-8, and terminals may show only ASCII.
    typer.echo(json.dumps(msgspec.to_builtins(value)))


def json_line(value: object) -> str:
    """Return a JSON document as a compact line, quickly enough for thousands of lines per second."""
    import msgspec

    text = msgspec.json.encode(value).decode()
    if text.isascii():
        return text
    import json

    return json.dumps(msgspec.to_builtins(value), separators=(",", ":"))


def say(text: str, colour: output.Colour = "", only: str = "", whole: bool = False) -> None:
    """Print lines on standard output; what could steer a terminal is shown as escapes.

    ``colour``: of all of it, or of the first place that has ``only``. ``whole``: what is to be copied is not broken;
    other lines are, between words, where the terminal would break an address. With -o tsv they go to standard error,
    so that standard output holds tables alone.
    """
    text = units.visible(text, keep="\n")
    if not whole and sys.stdout.isatty() and output.form() != "wide":
        room = shutil.get_terminal_size().columns
        text = "\n".join(_broken(line, room) if len(line) > room else line for line in text.split("\n"))
    before, part, after = text.partition(only) if only else ("", text, "")
    typer.echo(before + output.paint(part, colour) + after, err=output.form() == "tsv")


def _broken(line: str, room: int) -> str:
    """Break a line between words; the rest is indented as it is, or below what follows its name."""
    import textwrap

    named = _NAME.match(line)
    indent = named.end() if named and named.end() <= room // 2 else 0
    return textwrap.fill(line, room, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)


def note(text: str) -> None:
    """Print a note on standard error."""
    typer.echo(output.paint(units.visible(f"xdpguard: note: {text}"), "yellow"), err=True)


def reader_gone(descriptor: int) -> bool:
    """Return whether a descriptor is a pipe without a reader (| head)."""
    watch = select.poll()
    watch.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in watch.poll(0))


def failure(error: XdpguardError, verbose: bool) -> None:
    """Print an error and its remedy in one line; with ``verbose`` also its details. Several errors have a line each."""
    for each in getattr(error, "each", ()):
        failure(each, verbose)
    if hasattr(error, "each"):
        return
    line = units.visible(f"xdpguard: {error}" + (f"; {error.remedy}" if error.remedy else ""))
    typer.echo(output.paint(line, "red"), err=True)
    if verbose and error.details:
        typer.echo(units.visible(error.details.rstrip(), keep="\n\t"), err=True)


def print_table(
    columns: Sequence[Column | str], rows: Sequence[Sequence[str | Cell]], title: str = "", right: str = ""
) -> None:
    """Print a table. ``right``: names of columns, separated by spaces, that are aligned right, as a Column may say."""
    from xdpguard.cli import table
    from xdpguard.cli.columns import Column

    numbers = right.split()
    table.show([it if isinstance(it, Column) else Column(it, right=it in numbers) for it in columns], rows, title)
