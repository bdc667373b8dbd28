# SPDX-License-Identifier: GPL-2.0
"""Filters as a text that people can read and edit, TOML, and back: in the same file as rules, in their order.

[[filters]]
name = "long-dns"
match = "udp sport 53 meta length > 512"
action = "drop"                       # or: limit = "1000/s", with burst and per
mode = "enforce"                      # or shadow
origin = "cli"
reason = "amplification"
created = 2026-03-01T10:00:00+00:00
expires = 2026-03-01T10:10:00+00:00   # without it: for good
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from xdpguard import units
from xdpguard.errors import UsageError
from xdpguard.policy.filter import Filter, NewFilter
from xdpguard.policy.filters import FilterEntry, new_filter
from xdpguard.policy.rule import CLI, MODES

_TEXTS = ("name", "match", "action", "limit", "burst", "per", "mode", "origin", "reason")
_TIMES = ("created", "expires")
_FIRST, _LAST = -62_135_596_800, 253_402_300_799  # Unix time that TOML has words for: years 1 to 9999
_ORIGIN = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def written(filters: Iterable[Filter]) -> Iterator[str]:
    """Yield filters as text, a paragraph each."""
    for it in filters:
        its = {"name": it.name, "match": it.text}
        if it.limit:
            its |= {"limit": it.limit.rate, "burst": it.limit.burst_text, "per": it.limit.whose}
        else:
            its |= {"action": it.action}
        its |= {"mode": it.mode, "origin": it.source, "reason": it.reason}
        lines = ["\n[[filters]]", *(f"{key} = {quoted(value)}" for key, value in its.items())]
        lines.append(f"created = {written_moment(it.created)}")
        if it.expires is not None:
            lines.append(f"expires = {written_moment(it.expires)}")
        yield "\n".join(lines) + "\n"


def parsed(label: str, tables: object, now: float) -> list[NewFilter]:
    """Parse such tables. Raise UsageError that names the first one at fault; ``label`` names the file."""
    if not isinstance(tables, list) or not all(isinstance(it, dict) for it in tables):
        raise UsageError(f"{label}: filters is not a list of tables", "write each filter as [[filters]]")
    found: dict[str, NewFilter] = {}
    for number, table in enumerate(tables, start=1):
        try:
            its = _parsed(table, now)
            if its.name in found:
                raise UsageError(f"{its.name} is there twice", "give each filter its own name")
        except UsageError as error:
            raise UsageError(f"{label}: filter {number}: {error}", f"nothing was changed; {error.remedy}") from error
        found[its.name] = its
    return list(found.values())


def _parsed(table: Mapping[str, Any], now: float) -> NewFilter:
    unknown = next((key for key in table if key not in (*_TEXTS, *_TIMES)), None)
    if unknown is not None:
        raise UsageError(f"unknown key {unknown}", f"allowed here: {', '.join((*_TEXTS, *_TIMES))}")
    for key in ("name", "match"):
        if key not in table:
            raise UsageError(f"{key} is missing", f"allowed here: {', '.join((*_TEXTS, *_TIMES))}")
    texts = {key: _text(table, key) for key in _TEXTS if key in table}
    mode, origin = texts.pop("mode", MODES[0]), checked_origin(texts.pop("origin", CLI))
    if mode not in MODES:
        raise UsageError(f"not a mode: {mode!r}", f"write one of {', '.join(MODES)}")
    created, expires = (moment_of(table, key) for key in _TIMES)
    return new_filter(
        FilterEntry(**texts, shadow=mode == "shadow"), origin, now if created is None else created, expires
    )


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table[key]
    if not isinstance(value, str):
        raise UsageError(f"{key} is not a text", f'write it in quotes: {key} = "..."')
    return value


def checked_origin(text: str) -> str:
    """Return an origin. Raise UsageError if it is not one."""
    if not _ORIGIN.fullmatch(text):
        raise UsageError(f"not an origin: {text!r}", "write cli, config, guard or another name in small letters")
    return text


def moment_of(table: Mapping[str, Any], key: str) -> float | None:
    """Return a time of a table as Unix time; None without it. Raise UsageError without a zone, or out of range."""
    value = table.get(key)
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise UsageError(f"{key} is not a time with its zone", "write it as 2026-03-01T10:00:00Z")
    seconds = value.timestamp()
    if not _FIRST <= seconds <= _LAST:  # in UTC
        raise UsageError(f"{key} is out of range", "write a time of the years 1 to 9999, UTC")
    return seconds


def quoted(text: str) -> str:
    """Return a text as a string of TOML."""
    whole = json.dumps(text.encode("utf-8", "replace").decode("utf-8"), ensure_ascii=False)
    return "".join(f"\\u{ord(it):04x}" if units.is_control(it) else it for it in whole)


def written_moment(seconds: float) -> str:
    """Return a Unix time as TOML writes times; one that it has no words for, as the nearest that it has."""
    return datetime.fromtimestamp(min(max(seconds, _FIRST), _LAST), UTC).isoformat()
