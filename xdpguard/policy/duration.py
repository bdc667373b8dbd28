# SPDX-License-Identifier: GPL-2.0
"""Durations as people write them: ``90s``, ``1h30m``, ``10min``, ``1 hour``. Parsers raise UsageError."""

from __future__ import annotations

import re

from xdpguard.errors import UsageError

_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 604_800),
}
_FOREVER = ("permanent", "forever", "never")
_PART = re.compile(r"([0-9]{1,12})\s*([a-z]+)\s*")
_INTERVAL = re.compile(r"([0-9]{1,9})ms")
_LONGEST = 100 * 365 * 86_400
_FORMS = "write a number above 0 and a unit: 90s, 10m, 2h, 7d, 4w or 1h30m"


def parse_life(text: str | None) -> int | None:
    """Parse what --for takes: a duration, or ``permanent``; return seconds, None for good or if nothing is given."""
    return None if text is None or text.strip() in _FOREVER else parse_duration(text)


def end_of(life: str | None, now: float) -> float | None:
    """Return the Unix time at which what begins ``now`` ends; ``life`` as for `parse_life`."""
    seconds = parse_life(life)
    return None if seconds is None else now + seconds


def parse_duration(text: str) -> int:
    """Parse ``90s``, ``10min``, ``1h30m`` or ``2 days``; return seconds."""
    parts = list(_PART.finditer(text.strip()))
    whole = "".join(part[0] for part in parts) == text.strip()
    sizes = [_SECONDS.get(part[2], 0) for part in parts]
    if not whole or not all(sizes) or sizes != sorted(set(sizes), reverse=True):
        raise _wrong(text, [part[2] for part in parts if part[2] not in _SECONDS] if whole else [])
    seconds = sum(int(part[1]) * size for part, size in zip(parts, sizes, strict=True))
    if not 0 < seconds <= _LONGEST:
        raise _wrong(text, [])
    return seconds


def parse_interval(text: str) -> float:
    """Parse a possibly short duration: ``500ms``, or what `parse_duration` accepts; return seconds."""
    match = _INTERVAL.fullmatch(text.strip())
    if match and int(match[1]) > 0:
        return int(match[1]) / 1000
    try:
        return float(parse_duration(text))
    except UsageError as error:
        raise UsageError(str(error), "write a whole number above 0 and a unit: 500ms, 90s, 10m, 2h") from error


def parse_within(text: str, least: float, most: float) -> float:
    """Parse what `parse_interval` accepts; return seconds. Raise UsageError if it is outside these bounds."""
    seconds = parse_interval(text)
    if not least <= seconds <= most:
        raise UsageError(f"{text!r} is out of range", f"{_short(least)} to {_short(most)}")
    return seconds


def _short(seconds: float) -> str:
    """Format a bound: 500ms, 10s, 7d."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= _SECONDS[unit] and not seconds % _SECONDS[unit]:
            return f"{seconds / _SECONDS[unit]:g}{unit}"
    return f"{seconds * 1000:g}ms"


def looks_like_one(text: str) -> bool:
    """Return whether a word is a duration."""
    try:
        parse_duration(text)
    except UsageError:
        return False
    return True


def _wrong(text: str, units: list[str]) -> UsageError:
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    word = text.strip()
    if word.isdecimal() and word.isascii() and 0 < len(word) <= 12 and int(word):
        return UsageError(f"not a duration: {shown} has no unit", f"write {word}s, {word}m, {word}h or {word}d")
    if word in _FOREVER:
        return UsageError(f"not a duration: {shown}", f"an end is needed here: {_FORMS}")
    if units and units[0] in ("y", "yr", "year", "years", "mo", "month", "months"):
        return UsageError(f"not a duration: {shown}", "months and years differ in length: write days, such as 365d")
    if units:
        return UsageError(f"not a duration: {shown}: {units[0]!r} is not a unit", _FORMS)
    return UsageError(f"not a duration: {shown}", _FORMS)
