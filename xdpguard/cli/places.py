# SPDX-License-Identifier: GPL-2.0
"""The options that say which interface is meant, in which network namespace: the same for every command."""

from __future__ import annotations

from typing import Annotated

import typer

_WORDS = "a name, 'pid N' (that of a process), a path, or . (this command's own)."
Interface = Annotated[
    str,
    typer.Option("--interface", "-i", metavar="IFACE", help="Only this interface; an alternative name will do."),
]
Netns = Annotated[str | None, typer.Option("--netns", metavar="NETNS", help=f"Network namespace: {_WORDS}")]
OneNetns = Annotated[str, typer.Option("--netns", metavar="NETNS", help=f"Network namespace: {_WORDS}")]


def key(name: str, netns: str) -> str:
    """What an interface is called in JSON: NAME, or NAME@NETNS in another namespace, whatever else is attached."""
    return f"{name}@{netns}" if netns else name
