# SPDX-License-Identifier: GPL-2.0
"""What decides about a source once a change is made: the rules and lists that hold it, in sentences for a user."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from xdpguard.control.results import until
from xdpguard.control.ruleset import Ruleset
from xdpguard.policy.rule import CONFIG, Rule
from xdpguard.policy.target import Prefix

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_NAMED = 3  # entries that a sentence names


class Standing:
    """The entries of an instance as they are now."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._store = ruleset.store
        self._stored = ruleset.lists.stored
        self._now = time.time()
        self._lists: list[tuple[str, AddressSet]] | None = None
        self._inside: dict[str, list[tuple[Prefix, Rule]]] = {}

    def allowed(self, target: Prefix) -> Rule | None:
        """Return the allow rule that holds all of a source, or None."""
        return next(iter(self._store.covering("allow", target, self._now)), None)

    def dropped(self, target: Prefix) -> str:
        """Say what drops all of a source, or part of it, although it has no block of its own; empty if nothing does."""
        if self.allowed(target):
            return ""
        whole = [_rule_words(target, rule) for rule in self._store.covering("block", target, self._now)[:1]]
        lists = list(self._listed(target))
        whole += [f"the list {name} holds {entry}{end}" for name, entry, end in lists if entry.covers(target)]
        if whole:
            return f"dropped: {' and '.join(whole)}; let it through with: xdpguard allow {target}"
        parts = [str(rule.target) for rule in self.inside("block", target)]
        some = [f"{_some(parts)} inside it {'is' if len(parts) == 1 else 'are'} blocked"] * bool(parts)
        some += [f"the list {name} holds {entry}{end}" for name, entry, end in lists]
        return f"dropped in part: {' and '.join(some)}" if some else ""

    def passing(self, target: Prefix) -> str:
        """Say which allow rules let all of a source, or part of it, through; empty if none does."""
        rule = self.allowed(target)
        if rule:
            what = f"{target} is" if rule.target == target else f"{target} is inside {rule.target}, which is"
            end = "" if rule.expires is None else f" {until(rule.expires)}"
            return f"{what} allowed{end}: the allow rule overrides it"
        parts = [str(rule.target) for rule in self.inside("allow", target)]
        return f"{_some(parts)} inside {target} stays allowed: the allow rule overrides it" if parts else ""

    def allowed_of(self, name: str) -> Iterator[str]:
        """Say which allow rules let entries of a list through, or parts of them."""
        rules = [it for it in self._store.rules("allow") if it.expires is None or it.expires > self._now]
        held = self._stored.in_force(name) if rules else None
        parts = [str(it.target) for it in rules if isinstance(it.target, Prefix) and held and held.holding(it.target)]
        if parts:
            yield f"{_some(parts)}, which the list {name} contains, stays allowed: the allow rule overrides it"

    def inside(self, kind: str, target: Prefix) -> list[Rule]:
        """Return the rules of a kind for parts of a source."""
        if target.is_address:
            return []
        if kind not in self._inside:
            rules = self._store.rules("allow" if kind == "allow" else "block")
            alive = (it for it in rules if it.expires is None or it.expires > self._now)
            self._inside[kind] = [(it.target, it) for it in alive if isinstance(it.target, Prefix)]
        return [rule for prefix, rule in self._inside[kind] if prefix != target and target.covers(prefix)]

    def _listed(self, target: Prefix) -> Iterator[tuple[str, Prefix, str]]:
        """Yield the lists that hold a source, or part of it, each with such an entry and until when, in words."""
        if self._lists is None:
            self._lists = [(it.name, self._stored.in_force(it.name)) for it in self._stored.all()]
        for name, entries in self._lists:
            found = entries.entry(target)
            if found is not None:
                entry, end = found
                yield name, entry, f" {until(end)}" if end else ""


def _rule_words(target: Prefix, rule: Rule) -> str:
    end = "" if rule.expires is None else f" {until(rule.expires)}"
    if rule.target == target:
        by = " by the configuration file" if rule.source == CONFIG else ""
        return f"it is blocked{by}{end}"
    return f"it is inside {rule.target}, which is blocked{end}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
