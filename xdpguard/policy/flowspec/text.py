# SPDX-License-Identifier: GPL-2.0
"""Filters as the text of FlowSpec rules, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec import exabgp, exabgpjson, gobgp, gobgpjson
from xdpguard.policy.flowspec.conversion import does_of, matches_of, rules_of
from xdpguard.policy.flowspec.jsonvalues import is_json, values
from xdpguard.policy.flowspec.rule import Does, Rule, ordered
from xdpguard.policy.matching.model import Match
from xdpguard.units import visible

Form = Literal["gobgp", "exabgp"]
FORMS: tuple[Form, ...] = ("gobgp", "exabgp")


class Imported(NamedTuple):
    """What a rule asks of a filter. ``name``: of the rule, if it has one; ``line``: where it is, or its number."""

    name: str
    line: int
    match: Match
    does: Does


def written(match: Match, does: Does, form: Form, name: str = "filter") -> str:
    """Return the rules that say a filter, a line each; raise UsageError for what FlowSpec cannot say."""
    rules = ordered(rules_of(match, does))
    if form == "gobgp":
        return "\n".join(gobgp.written(it) for it in rules)
    names = [name] if len(rules) == 1 else [f"{name}-{at}" for at in range(1, len(rules) + 1)]
    return "\n".join(exabgp.written(rule, it) for rule, it in zip(rules, names, strict=True))


def read(text: str, label: str) -> list[Imported]:
    """Return the filters that rules stand for, in the order in which FlowSpec asks the rules, not that of the text.

    ``text``: commands or JSON of GoBGP, routes or JSON of ExaBGP, called ``label`` in errors. Raise UsageError for the
    first rule that is wrong or has no meaning here; none is left out.
    """
    try:
        rules = _once(_rules(text))
        found = [it for rule in ordered(rules) for it in filters_of(rule, *rules[rule])]
    except UsageError as error:
        raise UsageError(f"{visible(label)}: {error}", error.remedy) from error
    if not found:
        raise UsageError(f"{visible(label)}: no FlowSpec rule in it", "write the commands of GoBGP or routes of ExaBGP")
    return found


def _rules(text: str) -> Iterable[tuple[int, str, Rule]]:
    if is_json(text):
        its = values(text)
        return exabgpjson.read(its) if its and exabgpjson.is_event(its[0]) else gobgpjson.read(its)
    return exabgp.read(text) if "{" in re.sub("#[^\n]*", "", text) else _commands(text)


def _once(rules: Iterable[tuple[int, str, Rule]]) -> dict[Rule, tuple[int, str]]:
    """Return rules with their lines and names; one that is there twice must do the same both times."""
    found: dict[tuple[object, ...], Rule] = {}
    places: dict[Rule, tuple[int, str]] = {}
    for line, name, rule in rules:
        before = found.setdefault(rule[:2], rule)
        if before.actions != rule.actions:
            raise UsageError(
                f"line {line}: the rule of line {places[before][0]} again, with other actions", "leave one of them out"
            )
        places.setdefault(rule, (line, name))
    return places


def _commands(text: str) -> Iterator[tuple[int, str, Rule]]:
    for line, command in enumerate(text.splitlines(), 1):
        if not command.strip() or command.lstrip().startswith("#"):
            continue
        try:
            yield line, "", gobgp.read(command)
        except UsageError as error:
            raise UsageError(f"line {line}: {error}", error.remedy) from error


def filters_of(rule: Rule, line: int, name: str) -> list[Imported]:
    """Return the filters that a rule stands for, in their order. Raise UsageError for what has no meaning here."""
    try:
        matches, actions = matches_of(rule), does_of(rule.actions)
        if len(matches) > 1 and any(it.action == "limit" for it in actions):
            raise UsageError("a limit of the port of either side", "write source-port and destination-port rules")
    except UsageError as error:
        raise UsageError(f"line {line}: {error}", error.remedy) from error
    return [Imported(name, line, match, does) for match in matches for does in actions]
