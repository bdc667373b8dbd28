# SPDX-License-Identifier: GPL-2.0
"""The options for an interface and its network namespace, shared by all commands."""

from __future__ import annotations

from typing import Annotated

import typer

_WORDS = "a name, 'pid N' (that of process N), a path, or . (this command's own)."
Interface = Annotated[
    str,
    typer.Option("--interface", "-i", metavar="IFACE", help="Only this interface; an alternative name works, too."),
]
Netns = Annotated[str | None, typer.Option("--netns", metavar="NETNS", help=f"Network namespace: {_WORDS}")]
OneNetns = Annotated[str, typer.Option("--netns", metavar="NETNS", help=f"Network namespace: {_WORDS}")]


def key(name: str, netns: str) -> str:
    """Return an interface's key in JSON: NAME, or NAME@NETNS in another namespace, whatever else is attached."""
    return f"{name}@{netns}" if netns else name
