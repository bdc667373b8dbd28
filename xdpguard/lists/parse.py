# SPDX-License-Identifier: GPL-2.0
"""Read targets from lines of text: one per line, or several with commas; # and ; start a comment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from xdpguard.errors import UsageError
from xdpguard.policy.sources import parse_sources
from xdpguard.policy.target import Prefix

LONGEST_LINE = 4096
MOST_LINES = 4_000_000
MOST = 1 << 20  # targets: rules of their own, each with a reason and a counter; lists hold millions
NOTES = 10  # kept
_AS_LIST = "load so many as a list: xdpguard lists load NAME -"


class Lines(NamedTuple):
    """The prefixes of a text, each once; how many lines had host bits set, and notes on the first of them."""

    prefixes: list[Prefix]
    notes: list[str]
    cleared: int


def parse_lines(name: str, lines: Iterable[bytes]) -> Lines:
    """Read targets. Raise UsageError, with file and line, if a line is not one, or if there are none."""
    found: dict[Prefix, None] = {}
    notes: list[str] = []
    changed = 0
    for number, raw in enumerate(lines, start=1):
        if number > MOST_LINES:
            raise UsageError(f"{name}: more than {MOST_LINES:,} lines", f"nothing was changed; {_AS_LIST}")
        if len(raw) > LONGEST_LINE:
            raise UsageError(
                f"{name}:{number}: the line is longer than {LONGEST_LINE} characters", "write one target per line"
            )
        text = raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").split("#")[0].split(";")[0].strip()
        if not text:
            continue
        try:
            sources = parse_sources(text)
        except UsageError as error:
            raise UsageError(f"{name}:{number}: {error}", f"nothing was changed; {error.remedy}") from error
        for prefix, cleared in sources:
            changed += cleared
            if cleared and len(notes) < NOTES:
                notes.append(f"{name}:{number}: {text} has host bits set; taken as {prefix}")
            found[prefix] = None
        if len(found) > MOST:
            raise UsageError(f"{name}: more than {MOST:,} targets", f"nothing was changed; {_AS_LIST}")
    if not found:
        raise UsageError(f"{name}: no targets", "write one address or prefix per line")
    return Lines(list(found), notes, changed)
