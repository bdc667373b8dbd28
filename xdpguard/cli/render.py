# SPDX-License-Identifier: GPL-2.0
"""Output: JSON for machines, tables for people, one line for a note or an error."""

from __future__ import annotations

import select
from collections.abc import Sequence

import typer

from xdpguard import units
from xdpguard.errors import XdpguardError

counted = units.counted


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


def say(text: str) -> None:
    """Print lines on standard output; what could steer a terminal is shown as escapes."""
    typer.echo(units.visible(text, keep="\n"))


def note(text: str) -> None:
    """Print a note on standard error."""
    typer.echo(units.visible(f"xdpguard: note: {text}"), err=True)


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
    typer.echo(units.visible(f"xdpguard: {error}" + (f"; {error.remedy}" if error.remedy else "")), err=True)
    if verbose and error.details:
        typer.echo(units.visible(error.details.rstrip(), keep="\n\t"), err=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", right: str = "") -> None:
    """Print a table. ``right``: names of the right-aligned columns, separated by spaces."""
    from xdpguard.cli import table

    table.show(columns, rows, title, right.split())
