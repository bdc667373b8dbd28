# SPDX-License-Identifier: GPL-2.0
"""What FlowSpec rules are as filters, and filters as rules: names, actions and rates."""

from __future__ import annotations

import re
from collections.abc import Iterable

from xdpguard.errors import UsageError
from xdpguard.policy.filter import Filter, check_name
from xdpguard.policy.filters import FilterEntry
from xdpguard.policy.flowspec.rule import Does
from xdpguard.policy.flowspec.text import Imported
from xdpguard.policy.matching.writing import written

_LONGEST = 56  # characters of a name, with room for a number behind it
_HOUR = 3600
_END = "."  # of a label in a name


def does_of(its: Filter) -> Does:
    """Return what a filter does, as FlowSpec says it."""
    limit = its.limit
    if limit is None:
        return Does(its.action)
    shared = limit.per == "filter"
    if limit.unit == "packets":
        return Does("limit", limit.per_second, "packets", shared)
    return Does("limit", limit.per_second / 8, "bytes", shared)


def label_start(label: str) -> str:
    """Return what the names of a label's filters, and of no other, begin with. Raise UsageError if it is no label."""
    if label:
        check_name(label)
        if _END in label:
            raise UsageError(f"a label has no {_END}, which ends it in the names", "write - or _ instead")
        if len(label) > _LONGEST // 2:
            raise UsageError(f"the label is longer than {_LONGEST // 2} characters", "give a shorter one")
    return label and f"{label}{_END}"


def entries(rules: Iterable[Imported], shadow: bool, reason: str, start: str = "") -> list[FilterEntry]:
    """Return rules as filters to add, in their order, each with a name of its own that begins with ``start``."""
    names: set[str] = set()
    found = []
    for rule in rules:
        name = _name(rule, start, names)
        names.add(name)
        action, limit = ("", _rate(rule.does)) if rule.does.action == "limit" else (rule.does.action, "")
        found.append(FilterEntry(name, written(rule.match), action, limit, shadow=shadow, reason=reason))
    return found


def _name(rule: Imported, start: str, taken: set[str]) -> str:
    named = re.sub(r"[^A-Za-z0-9_.-]", "-", rule.name).lstrip("_.-")
    named = named or (str(rule.line) if start else f"flowspec-{rule.line}")
    plain = (named if named.startswith(start) else start + named)[:_LONGEST]
    name, number = plain, 1
    while name in taken:
        number += 1
        name = f"{plain}-{number}"
    return name


def _rate(does: Does) -> str:
    """Write a rate in whole packets or bits: by the hour where a second has less than one."""
    if does.unit == "bytes":
        return f"{max(1, round(does.rate * 8))}bit/s"
    return f"{round(does.rate)}/s" if does.rate >= 1 else f"{max(1, round(does.rate * _HOUR))}/h"
