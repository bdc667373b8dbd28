# SPDX-License-Identifier: GPL-2.0
"""Lists in JSON lines, an object on each: Spamhaus' lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from xdpguard.lists.formats import judges, words
from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.entries import decoded
from xdpguard.lists.formats.judging import lasting

_LINES = re.compile(rb'\s*\{[^{}\n]*"(?:cidr|sblid|type)"\s*:[^{}\n]*\}[ \t]*(?:\n|$)')
_OBJECTS = re.compile(rb"\s*\{[^{}\n]*\}[ \t]*\n\s*\{")
_OWN = frozenset(("cidr", "sblid", "rir"))


def is_lines(head: bytes) -> bool:
    """Return whether each line is an object, as in Spamhaus' lists."""
    # Bounded, as it would be slow for a line of megabytes.
    return any(pattern.match(head, 0, 4096) for pattern in (_LINES, _OBJECTS))


def has_cidr(line: str) -> bool:
    """Return whether a line is an object as in Spamhaus' lists of prefixes."""
    return _LINES.match(line.encode(), 0, 4096) is not None and '"asn"' not in line


def spamhaus(text: bytes, number: int, collector: Collector) -> None:
    """Add whole lines, each an object with ``cidr``; the last one describes the list itself."""
    values: list[str] = []
    numbers: list[int] = []
    ends: list[int] = []
    for at, line in enumerate(text.split(b"\n"), start=number):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and isinstance(found.get("cidr"), str):
            end = lasting(_verdicts(found, collector.notes.now), found["cidr"], at, collector)
            if end is not None:
                values.append(found["cidr"])
                numbers.append(at)
                ends.append(end)
        elif not isinstance(found, dict) or found.get("type") != "metadata":
            collector.fault(at, decoded(line).strip(), 'not an object with "cidr"')
    collector.values(values, numbers, ends)


def _verdicts(found: dict[str, Any], now: float) -> Iterator[judges.Verdict]:
    """Yield what the members of an object say about its prefix."""
    for key in sorted(found.keys() - _OWN):
        judge = judges.judge(0, words.normal(key))
        if judge and isinstance(found[key], (str, int, float)):
            yield judge.verdict(str(found[key]), now)
