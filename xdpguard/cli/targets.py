# SPDX-License-Identifier: GPL-2.0
"""Sources and ports as given on the command line or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from xdpguard.cli import render
from xdpguard.errors import UsageError
from xdpguard.lists.parse import LONGEST_LINE, parse_lines
from xdpguard.policy.target import Port, Prefix, parse_ports, parse_prefix

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TARGET]...", help="Addresses, CIDR prefixes, or - for standard input.", show_default=False
    ),
]


def prefixes(words: Sequence[str] | None) -> list[Prefix]:
    """Return the sources given as arguments, and those on standard input if - is among them."""
    if not words:
        raise UsageError("no target given", "name addresses or prefixes, or - to read them from standard input")
    found: dict[Prefix, None] = {}
    for word in words:
        if word == "-":
            lines = parse_lines("stdin", _standard_input())
            for text in lines.notes:
                render.note(text)
            if lines.cleared > len(lines.notes):
                more = render.counted(lines.cleared - len(lines.notes), "more line")
                render.note(f"... and {more} with host bits set")
            found.update(dict.fromkeys(lines.prefixes))
            continue
        prefix, cleared = parse_prefix(word)
        if cleared:
            render.note(f"{word} has host bits set; taken as {prefix}")
        found[prefix] = None
    return list(found)


def _standard_input() -> Iterator[bytes]:
    if sys.stdin is None:
        raise UsageError("standard input is closed", "redirect it from a file: xdpguard block - < FILE")
    # A bounded read: an endless line must not exhaust memory.
    return iter(lambda: sys.stdin.buffer.readline(LONGEST_LINE + 2), b"")


def ports_of(words: Sequence[str], more: Sequence[str] | None) -> list[Port]:
    """Return the ports given as options and among the targets."""
    found: dict[Port, None] = {}
    for word in [*words, *(more or [])]:
        for part in word.split(","):
            found.update(dict.fromkeys(parse_ports(part)))
    return list(found)
