# SPDX-License-Identifier: GPL-2.0
"""Rules as a text that people can read and edit, TOML, and back; filters beside them: exchange_filters.py.

    [[rules]]
    kind = "block"                        # allow, block or port
    target = "198.51.100.7"               # an address or prefix; for a port: 8080/tcp
    mode = "enforce"                      # or shadow
    origin = "cli"
    reason = "ssh brute force"
    created = 2026-03-01T10:00:00+00:00
    expires = 2026-03-01T10:10:00+00:00   # without it: for good

What several origins want of one target is an entry for each of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from xdpguard import units
from xdpguard.errors import UsageError
from xdpguard.policy import exchange_filters
from xdpguard.policy.filter import NewFilter
from xdpguard.policy.rule import CLI, MODES, Mode, NewRule, Rule
from xdpguard.policy.target import KINDS, Kind, Target, parse_ports, parse_prefix

_T = TypeVar("_T", bound=str)
_KEYS = ("kind", "target", "mode", "origin", "reason", "created", "expires")
HEAD = "# Rules of xdpguard; read them again with: xdpguard import FILE\n"


class Exported(NamedTuple):
    """What such a text holds: rules, and filters in order."""

    rules: list[Entry]
    filters: list[NewFilter]


class Entry(NamedTuple):
    """A rule, or the part that one origin has in it, and its mode."""

    rule: NewRule
    mode: Mode


def written(rules: Iterable[Rule]) -> Iterator[str]:
    """Yield rules as text, a paragraph for each of their origins."""
    yield HEAD
    for rule in rules:
        for part in rule.parts:
            lines = [
                "\n[[rules]]",
                f"kind = {exchange_filters.quoted(rule.kind)}",
                f"target = {exchange_filters.quoted(str(rule.target))}",
                f"mode = {exchange_filters.quoted(rule.mode)}",
                f"origin = {exchange_filters.quoted(part.source)}",
                f"reason = {exchange_filters.quoted(part.reason)}",
                f"created = {exchange_filters.written_moment(rule.created)}",
            ]
            if part.expires is not None:
                lines.append(f"expires = {exchange_filters.written_moment(part.expires)}")
            yield "\n".join(lines) + "\n"


def parse(label: str, data: bytes, now: float) -> Exported:
    """Parse such a text. ``label`` names it in errors; ``now``: Unix time, for entries that do not tell their age.

    Raises UsageError that names the first entry at fault.
    """
    import tomllib

    try:
        found = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{label}: not UTF-8, at byte {error.start}", "export it again") from error
    except (RecursionError, ValueError) as error:  # TOMLDecodeError is a ValueError, as is an overlong number
        raise UsageError(f"{label}: {error}", "give a file that `xdpguard rules --export` wrote") from error
    tables, filters = found.pop("rules", []), found.pop("filters", [])
    if found or not isinstance(tables, list) or not all(isinstance(it, dict) for it in tables):
        what = f"unknown key {next(iter(found))}" if found else "rules is not a list of tables"
        raise UsageError(f"{label}: {what}", "write each rule as [[rules]], as `xdpguard rules --export` does")
    entries: list[Entry] = []
    for number, table in enumerate(tables, start=1):
        try:
            entries += _entries(table, now)
        except UsageError as error:
            raise UsageError(f"{label}: rule {number}: {error}", f"nothing was changed; {error.remedy}") from error
    return Exported(entries, exchange_filters.parsed(label, filters, now))


def _entries(table: dict[str, Any], now: float) -> Iterator[Entry]:
    unknown = next((key for key in table if key not in _KEYS), None)
    if unknown is not None:
        raise UsageError(f"unknown key {unknown}", f"allowed here: {', '.join(_KEYS)}")
    kind: Kind = _one_of(table, "kind", KINDS)
    mode: Mode = _one_of(table, "mode", MODES, "enforce")
    if mode == "shadow" and kind != "block":
        raise UsageError(f"mode shadow does not go with kind {kind}", "shadow rules are blocks of sources")
    origin, reason = exchange_filters.checked_origin(_text(table, "origin", CLI)), _text(table, "reason", "")
    if any(map(units.is_control, reason)):
        raise UsageError("the reason has control characters in it", "give plain text in one line")
    created, expires = (exchange_filters.moment_of(table, key) for key in ("created", "expires"))
    for target in _targets(kind, _text(table, "target")):
        yield Entry(NewRule(kind, target, reason, origin, now if created is None else created, expires), mode)


def _targets(kind: Kind, text: str) -> list[Target]:
    if kind == "port":
        return list(parse_ports(text))
    prefix, cleared = parse_prefix(text)
    if cleared:
        raise UsageError(f"{text} has host bits set", f"write {prefix}")
    return [prefix]


def _one_of(table: dict[str, Any], key: str, choices: tuple[_T, ...], default: str | None = None) -> _T:
    text = _text(table, key, default)
    for choice in choices:
        if choice == text:
            return choice
    raise UsageError(f"not a {key}: {text!r}", f"write one of {', '.join(choices)}")


def _text(table: dict[str, Any], key: str, default: str | None = None) -> str:
    value = table.get(key, default)
    if value is None:
        raise UsageError(f"{key} is missing", f"allowed here: {', '.join(_KEYS)}")
    if not isinstance(value, str):
        raise UsageError(f"{key} is not a text", f'write it in quotes: {key} = "..."')
    return value
