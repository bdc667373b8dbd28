# SPDX-License-Identifier: GPL-2.0
"""The form of what a command prints (-o, --json) and its colours (--color, NO_COLOR), for all commands."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, Literal

import typer

from xdpguard.errors import UsageError

Form = Literal["", "wide", "tsv", "json"]
Colour = Literal["", "red", "green", "yellow", "dim", "bold"]
FORMS = ("wide", "tsv", "json")
_COLOURS = {"auto": None, "always": True, "never": False}


class _State:
    """What the running command was asked for."""

    form: Form = ""
    tables = 0  # printed so far


_state = _State()


def begin(context: typer.Context, colour: str) -> None:
    """Start a command. ``colour``: the value of --color."""
    _state.form, _state.tables = "", 0
    choose(context, colour)


def choose(context: typer.Context, colour: str) -> None:
    """Let what is printed in a context have colours or not."""
    if colour not in _COLOURS:
        raise UsageError(f"--color {colour} is unknown", "give auto, always or never")
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") in ("dumb", "unknown")
    # Every typer.echo of the command follows it; None: colours on a terminal, none elsewhere.
    context.color = False if colour == "auto" and plain else _COLOURS[colour]


def form() -> Form:
    """Return the form that was chosen; empty: tables that fit the terminal."""
    return _state.form


def another_table() -> bool:
    """Count a table that is printed now; return whether one was printed before it."""
    _state.tables += 1
    return _state.tables > 1


def _output(context: typer.Context, value: str) -> str:
    """Remember the form. Eager, so that --json sees it."""
    if value not in ("", *FORMS):
        raise UsageError(f"-o {value} is unknown", f"give one of {', '.join(FORMS)}")
    if not context.resilient_parsing:
        _state.form = value  # type: ignore[assignment]
    return value


def _json(value: bool) -> bool:
    """Return whether JSON is wanted, by --json or by -o json."""
    if value and _state.form not in ("", "json"):
        raise UsageError(f"--json and -o {_state.form} cannot be combined", "give one of them")
    return value or _state.form == "json"


def json_option(text: str = "Print JSON.") -> Any:
    """Return the option --json, which -o json sets as well. ``text``: its help."""
    return typer.Option("--json", help=text, callback=_json)


Json = Annotated[bool, json_option()]
Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT",
        help="wide (every column, nothing clipped, times as dates), tsv or json.",
        is_eager=True,
        callback=_output,
        show_default=False,
    ),
]


def expect_table(there: bool, remedy: str) -> None:
    """Raise UsageError if -o wide or tsv was given where the command prints no table."""
    if not there and _state.form in ("wide", "tsv"):
        raise UsageError(f"-o {_state.form} is for tables, and this prints none", remedy)


def paint(text: str, colour: Colour) -> str:
    """Return text in a colour; what prints it takes the colour away where none is wanted."""
    if not colour or not text:
        return text
    if colour in ("dim", "bold"):
        return typer.style(text, **{colour: True})
    return typer.style(text, fg=colour)


def speaks_unicode() -> bool:
    """Return whether standard output can show lines and an ellipsis."""
    return (sys.stdout.encoding or "").lower().startswith("utf")
