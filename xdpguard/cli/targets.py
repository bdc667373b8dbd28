# SPDX-License-Identifier: GPL-2.0
"""Sources and ports as given on the command line or standard input."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from xdpguard.cli import render
from xdpguard.errors import UsageError
from xdpguard.lists.parse import LONGEST_LINE, parse_lines
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import Port, Prefix, parse_ports, parse_prefix

Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TARGET]...",
        help="Addresses, CIDR prefixes, ranges (a-b), host names, or - for standard input.",
        show_default=False,
    ),
]
_EVERY = ("all", "any", "everything", "everyone", "*")
_WITH_ALL = ("unblock", "promote")
_WITH_PORTS = ("block", "unblock")
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}$)(?:{_LABEL}\.)+[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?")


def prefixes(words: Sequence[str] | None, command: str = "block", names: bool = True) -> list[Prefix]:
    """Return the sources given as arguments, and those on standard input if - is among them.

    ``command``: what they are for, in errors; ``names``: whether host names are looked up.
    """
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
        found.update(dict.fromkeys(_sources(word, command, names)))
    return list(found)


def _sources(word: str, command: str, names: bool) -> Iterator[Prefix]:
    """Yield what a word stands for."""
    try:
        parsed = parse_sources(word)
    except UsageError as error:
        if something := _word(word, command) or _file_or_interface(word, command):
            raise something from error
        if not names or not _HOST.fullmatch(word):
            raise
        yield from _looked_up(word)
        return
    for prefix, cleared in parsed:
        if cleared:
            render.note(f"{word} has host bits set; taken as {prefix}")
        yield prefix


def _word(word: str, command: str) -> UsageError | None:
    """Return what to say of a word of the language, or of a port; None if it is another."""
    if word.casefold() in _EVERY:
        remedy = f"all: xdpguard {command} --all" if command in _WITH_ALL else "every source is 0.0.0.0/0 and ::/0"
        return UsageError(f"not an address or prefix: {word!r}", remedy)
    if word == "for":
        return UsageError("'for' is an option", "write it with two dashes: --for 10m")
    if word in ("port", "tcp", "udp"):
        remedy = "a port has an option of its own: --port 22, --port 53/udp"
    else:
        try:
            parse_ports(word)
        except UsageError:
            return None
        remedy = f"a port has an option of its own: --port {word}"
    if command not in _WITH_PORTS:
        remedy = f"{command} is for sources; to pass a port: xdpguard filter add NAME 'tcp dport PORT' --pass"
    return UsageError(f"not an address or prefix: {word!r}", remedy)


def _file_or_interface(word: str, command: str) -> UsageError | None:
    """Return what to say of a word that is the name of a file, or of an interface; None if it is neither."""
    try:
        if Path(word).is_file():
            return UsageError(f"{word} is a file", f"read its lines with: xdpguard {command} - < {shlex.quote(word)}")
        if "/" not in word and word.strip(".") and Path("/sys/class/net", word).exists():
            return UsageError(f"{word} is an interface", f"{command} takes addresses, and is for every interface")
    except (OSError, ValueError):  # too long, or no name of a file
        return None
    return None


def _looked_up(name: str) -> list[Prefix]:
    """Return the addresses of a host, and say which they are."""
    import socket

    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UsageError(
            f"not an address or prefix: {name!r}, and no host of that name is found: {error.strerror or error}",
            "write an address or a prefix: 198.51.100.7, 198.51.100.0/24, 2001:db8::/32",
        ) from error
    found = list(dict.fromkeys(parse_prefix(str(it[4][0]).partition("%")[0])[0] for it in answers))
    shown = ", ".join(map(str, found))
    render.note(
        f"{name} is {shown} at the moment: rules are for these addresses, which other names may share, and do not"
        " follow the name"
    )
    return found


def _standard_input() -> Iterator[bytes]:
    if sys.stdin is None:
        raise UsageError("standard input is closed", "redirect it from a file: xdpguard block - < FILE")
    # A bounded read: an endless line must not exhaust memory.
    return iter(lambda: sys.stdin.buffer.readline(LONGEST_LINE + 2), b"")


def ports_of(words: Sequence[str], more: Sequence[str] | None) -> list[Port]:
    """Return the ports given as options and among the targets. Raise UsageError if a source is among these."""
    found: dict[Port, None] = {}
    for word in [*words, *(more or [])]:
        try:
            found.update(dict.fromkeys(parse_ports(word)))
        except UsageError as error:
            raise (_joined(word, words[0]) if word in (more or []) else None) or error from error
    return list(found)


def _joined(word: str, port: str) -> UsageError | None:
    """Return what to say of a source beside a port; None if it is no source."""
    try:
        source = parse_sources(word)[0][0]
    except UsageError:
        return None
    number, _, protocol = port.partition("/")
    match = f"{'ip6' if source.version == 6 else 'ip'} saddr {source} {protocol or 'tcp'} dport {number}"
    remedy = f"use a filter: xdpguard filter add NAME '{match}' --drop"
    return UsageError(f"a rule joins no source and port: {word} with --port {port}", remedy)
