# SPDX-License-Identifier: GPL-2.0
"""When an entry ends: moments and durations as exports write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_NEVER = frozenset(
    ("", "-", "0", "never", "none", "null", "nil", "permanent", "perm", "forever", "infinite", "n/a", "no")
)
_NUMBER = re.compile(r"[0-9]{1,19}(?:\.[0-9]{1,9})?")
_DURATION = re.compile(r"-?(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|ms|w|d|h|m|s))+")
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|ms|w|d|h|m|s)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_MILLISECONDS = 1e11  # numbers from here on are milliseconds: in seconds, the year 5138
_EARLIEST = 1e8  # seconds; numbers below are durations

_ZONE = re.compile(r" ?(?:UTC|GMT)$")


def duration(text: str) -> float | None:
    """Return the seconds of a duration such as 3h59m or 9s6ms; negative if it has passed; None if it is not one."""
    if not _DURATION.fullmatch(text):
        return None
    total = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    return -total if text.startswith("-") else total


def end_of(text: str, now: float, span: bool = False) -> float | str | None:
    """Return the end an entry names, as Unix time; None for never; the text itself if it cannot be read.

    ``span``: numbers are seconds from now. A date without a time is its last second, without a zone that of UTC.
    """
    text = text.strip()
    if text.lower() in _NEVER:
        return None
    if (seconds := duration(text)) is not None:
        return now + seconds
    if _NUMBER.fullmatch(text) and (span or len(text) != 8):  # eight digits are a date
        return _number(float(text), now, span) or text
    return _moment(text) or text


def _number(number: float, now: float, span: bool) -> float:
    """Return the end that a number names; 0 if it is too small for one."""
    if span:
        return now + number
    if number >= _MILLISECONDS:
        return number / 1000
    return number if number >= _EARLIEST else 0.0


def _moment(text: str) -> float:
    """Return the Unix time of a date; 0 if it is not a date."""
    try:
        found = datetime.fromisoformat(_ZONE.sub("+00:00", text))
        if len(text) <= 10:
            found += timedelta(days=1)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        return 0.0
