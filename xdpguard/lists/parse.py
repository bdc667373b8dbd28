# SPDX-License-Identifier: GPL-2.0
"""Targets from lines of text: one a line, # and ; start a comment, empty lines are skipped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from xdpguard.errors import UsageError
from xdpguard.policy.target import Prefix, parse_prefix

LONGEST_LINE = 4096


class Lines(NamedTuple):
    """What a text held: the prefixes, each once, and notes worth telling (host bits cleared)."""

    prefixes: list[Prefix]
    notes: list[str]


def parse_lines(name: str, lines: Iterable[bytes]) -> Lines:
    """Reads targets. UsageError naming file and line when one is none, or when there are none at all."""
    found: dict[Prefix, None] = {}
    notes: list[str] = []
    for number, raw in enumerate(lines, start=1):
        if len(raw) > LONGEST_LINE:
            raise UsageError(f"{name}:{number}: the line is longer than {LONGEST_LINE} characters", "one target a line")
        text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").split("#")[0].split(";")[0].strip()
        if not text:
            continue
        try:
            prefix, cleared = parse_prefix(text)
        except UsageError as error:
            raise UsageError(f"{name}:{number}: {error}", f"nothing was changed; {error.remedy}") from error
        if cleared:
            notes.append(f"{name}:{number}: {text} has host bits set; taken as {prefix}")
        found[prefix] = None
    if not found:
        raise UsageError(f"{name}: no targets", "give one address or prefix a line")
    return Lines(list(found), notes)
