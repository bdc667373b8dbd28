# SPDX-License-Identifier: GPL-2.0
"""Format numbers, byte counts, times and durations for people."""

from __future__ import annotations

import time
import unicodedata

_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
_DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def number(value: int | str) -> str:
    """Format 1234567 as 1,234,567; return text unchanged."""
    return f"{value:,}" if isinstance(value, int) else value


def byte_count(value: float) -> str:
    """Format a number of bytes with a decimal unit: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError


def moment(seconds: float) -> str:
    """Format a Unix time as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def span(seconds: float) -> str:
    """Format a duration in seconds by its two largest units: 1h 5m."""
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def about(seconds: float) -> str:
    """Format a duration in seconds roughly, in few letters: 95s, 26m, 5h 20m, 3d."""
    left = max(0, seconds)
    if left < 99.5:
        return f"{round(left)}s"
    if left < 3570:
        return f"{round(left / 60)}m"
    # Two units where the first alone would be off by more than a twentieth.
    for unit, size, lower, part in (("h", 3600, "m", 60), ("d", 86_400, "h", 3600)):
        if left < 9.5 * size:
            whole, rest = divmod(round(left / part), size // part)
            return f"{whole}{unit} {rest}{lower}" if rest else f"{whole}{unit}"
        if left < 47.5 * size and unit == "h":
            return f"{round(left / size)}h"
    return f"{round(left / 86_400):,}d"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun: 1 rule, 1,200 rules."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def is_control(letter: str) -> bool:
    """Return whether a character could change what a terminal shows of others: controls, line ends, direction marks."""
    return unicodedata.category(letter) in _CONTROLS or letter in _DIRECTIONS


def visible(text: str, keep: str = "") -> str:
    """Return text with such characters, and those that no encoding has, as escapes. ``keep``: characters left as is."""
    if text.isprintable():
        return text
    return "".join(_escape(it) if it not in keep and is_control(it) else it for it in text)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
