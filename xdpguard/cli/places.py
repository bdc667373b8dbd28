# SPDX-License-Identifier: GPL-2.0
"""The options for an interface and its network namespace, shared by all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from xdpguard.errors import UsageError


def given(context: typer.Context, parameter: typer.CallbackParam, value: str | None) -> str | None:
    """Refuse an empty value that was typed, such as that of a variable that is not set."""
    source = context.get_parameter_source(parameter.name or "")
    if value == "" and source is not None and source.name == "COMMANDLINE":
        raise UsageError(f"{parameter.opts[0]} is empty", "name one, or leave the option out")
    return value


_WORDS = "a name, 'pid N' (that of process N), a path, or . (this command's own)."
Interface = Annotated[
    str,
    typer.Option(
        "--interface",
        "-i",
        metavar="IFACE",
        help="Only this interface; an alternative name works, too.",
        callback=given,
    ),
]
_NETNS = typer.Option("--netns", metavar="NETNS", help=f"Network namespace: {_WORDS}", callback=given)
Netns = Annotated[str | None, _NETNS]
OneNetns = Annotated[str, _NETNS]


def key(name: str, netns: str) -> str:
    """Return an interface's key in JSON: NAME, or NAME@NETNS in another namespace, whatever else is attached."""
    return f"{name}@{netns}" if netns else name
