# SPDX-License-Identifier: GPL-2.0
"""``[[filters]]``: filters in the configuration file, in force from each attach on, in the order of the file.

[[filters]]
name = "long-dns"
match = "udp sport 53 meta length > 512"
action = "drop"                     # drop, pass or count; or: limit = "1000/s", with burst and per
shadow = true
reason = "amplification"
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from xdpguard import units
from xdpguard.errors import UsageError
from xdpguard.policy.filter import ACTIONS, FILTERS, Action, NewFilter, check_name
from xdpguard.policy.keys import checked
from xdpguard.policy.limit import Limit, parse_limit
from xdpguard.policy.rule import Mode

_KINDS = tuple(it for it in ACTIONS if it != "limit")
_HEADER = re.compile(r"\s*\[\[\s*filters\s*\]\]")
_KEY = re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*=")


class FilterEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the ``[[filters]]``, as it is written: an action or a limit, as for ``filter add``."""

    name: str
    match: str
    action: str = ""
    limit: str = ""
    burst: str = ""
    per: str = "filter"
    shadow: bool = False
    reason: str = ""

    def filter(self, source: str, created: float) -> NewFilter:
        """Return the filter that it describes. Raise UsageError if it is none."""
        return new_filter(self, source, created, None)


class FilterFault(UsageError):
    """An error in one of the ``[[filters]]``: which one, from 0, and in which key of it."""

    def __init__(self, number: int, key: str, error: UsageError) -> None:
        super().__init__(str(error), error.remedy)
        self.number = number
        self.key = key

    def line(self, text: str) -> int:
        """Return the line of the file where it is."""
        lines = text.splitlines()
        starts = [number for number, line in enumerate(lines, start=1) if _HEADER.match(line)]
        if self.number >= len(starts):
            return starts[-1] if starts else 1
        first = starts[self.number]
        for number, line in enumerate(lines[first:], start=first + 1):
            if line.lstrip().startswith("["):
                break
            if (found := _KEY.match(line)) and found[1] == self.key:
                return number
        return first


def parse_filters(data: object, tell: Callable[[FilterFault], None]) -> tuple[FilterEntry, ...]:
    """Parse the tables. ``tell`` is called with each fault, and the filter that has it is left out."""
    if not isinstance(data, list) or not all(isinstance(it, dict) for it in data):
        tell(FilterFault(0, "", UsageError("expected a list of tables", "write each filter as [[filters]]")))
        return ()
    found: dict[str, FilterEntry] = {}
    for number, table in enumerate(data):
        try:
            its = _entry(number, table)
            if its.name in found:
                error = UsageError(f"{its.name} is there twice", "give each filter its own name")
                raise FilterFault(number, "name", error)
        except FilterFault as fault:
            tell(fault)
            continue
        found[its.name] = its
    if len(found) > FILTERS:
        tell(FilterFault(FILTERS, "", UsageError(f"{len(found):,} filters", f"there may be {FILTERS:,}")))
    return tuple(found.values())


def _entry(number: int, table: object) -> FilterEntry:
    faults: list[FilterFault] = []
    held = checked(table, FilterEntry, [], lambda keys, error: faults.append(FilterFault(number, "".join(keys), error)))
    if faults:
        raise faults[0]
    its: FilterEntry = msgspec.convert(held[0], FilterEntry, strict=True)
    _check(number, its)
    return its


def new_filter(its: FilterEntry, source: str, created: float, expires: float | None) -> NewFilter:
    """Return the filter that an entry describes. Raise UsageError if it is none."""
    from xdpguard.policy.matching.parsing import parse

    check_name(its.name)
    check_reason(its.reason)
    action, limit = _action(its)
    match = parse(its.match)
    mode: Mode = "shadow" if its.shadow else "enforce"
    text = " ".join(its.match.split())
    return NewFilter(its.name, text, match, action, limit, mode, its.reason, source, created, expires)


def check_reason(text: str) -> None:
    """Raise UsageError if a reason cannot be shown in a line."""
    if any(map(units.is_control, text)):
        raise UsageError("the reason contains control characters", "give plain text in one line")


def _action(its: FilterEntry) -> tuple[Action, Limit | None]:
    if its.limit:
        if its.action:
            raise UsageError("an action and a limit", "give one of them: a limit drops what is above its rate")
        return "limit", parse_limit(its.limit, its.burst, its.per)
    if its.burst or its.per != "filter":
        raise UsageError("burst and per go with a limit", 'give the rate, too: limit = "1000/s"')
    for action in _KINDS:
        if its.action == action:
            return action, None
    what = f"not an action: {its.action!r}" if its.action else "no action"
    raise UsageError(what, f'write action = "drop" (or {", ".join(_KINDS[1:])}), or limit = "1000/s"')


def _check(number: int, its: FilterEntry) -> None:
    try:
        check_name(its.name)
    except UsageError as error:
        raise FilterFault(number, "name", error) from error
    try:
        _action(its)
    except UsageError as error:
        key = "limit" if its.limit else "action"
        raise FilterFault(number, key, error) from error
    try:
        new_filter(its, "", 0.0, None)
    except UsageError as error:
        raise FilterFault(number, "match", error) from error
