# SPDX-License-Identifier: GPL-2.0
"""Rules and list entries that hold an address, in the order in which the program asks them, as plain values."""

from __future__ import annotations

import math
import time
from typing import Any

from xdpguard.control.entries import RuleHits
from xdpguard.control.lists import ListHits
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.sys import abi
from xdpguard.policy.hits import NO_SPLIT, Split
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Kind, Prefix
from xdpguard.telemetry import attribution

Plain = dict[str, Any]


def rule_as_json(found: RuleHits) -> Plain:
    """A rule with its age, what is left of its life (seconds), and its hits."""
    rule, now = found.rule, time.time()
    return attribution.rule_as_json(rule) | {
        "created": int(rule.created),
        "age": max(0, int(now - rule.created)),
        "expires": None if rule.expires is None else math.ceil(rule.expires),
        "left": None if rule.expires is None else max(0, math.ceil(rule.expires - now)),
        "packets": found.packets,
        "bytes": found.bytes,
    }


def list_as_json(found: ListHits, entry: Prefix | None) -> Plain:
    """A list, and the entry in it that holds an address."""
    its = found.its
    return {
        "entry": "list",
        "list": its.name,
        "holds": str(entry) if entry else None,
        "file": its.file or None,
        "source": its.source,
        "loaded": int(its.loaded),
        "packets": found.packets,
        "bytes": found.bytes,
    }


def _split(split: Split | None) -> Plain:
    split = split or NO_SPLIT
    return {name: {"packets": hits.packets, "bytes": hits.bytes} for name, hits in split._asdict().items()}


class Entries:
    """What one instance has on sources and ports."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._store = ruleset.store
        self._rules, self._shadow_rules = ruleset.rules, ruleset.shadow_rules
        self._lists, self._shadow_lists = ruleset.lists, ruleset.shadow_lists

    def covering(self, kind: Kind, address: Prefix) -> list[Plain]:
        """Rules in force of a kind that hold an address, the longest prefix first: the first one is asked first."""
        return self._plain(self._store.covering(kind, address, time.time()))

    def of_slot(self, slot: int, source: Prefix | None) -> Plain:
        """The rule whose hits are counted in a slot; ``source``: an address it holds, if it is for sources."""
        kinds: tuple[Kind, ...] = ("allow", "block")
        near = [rule for kind in kinds for rule in self._store.covering(kind, source)] if source else []
        ports = self._store.rules("port")
        found = next((rule for rule in [*near, *ports] if rule.slot == slot), None)
        return self._plain([found])[0] if found else {"entry": "rule", "slot": slot}

    def lists(self, address: Prefix) -> list[tuple[int, Plain]]:
        """Numbers of the lists that hold an address, with the entry: the longest prefix first, then the first list."""
        found = []
        for item in self._lists.in_force():
            entry = self._lists.stored.entries(item.its.name).holding(address)
            if entry is not None:
                found.append((-entry.length, item.its.number, list_as_json(item, entry)))
        return [(number, plain) for _, number, plain in sorted(found, key=lambda it: it[:2])]

    def list_of(self, number: int, address: Prefix) -> Plain:
        """The list of that number."""
        for item in self._lists.in_force():
            if item.its.number == number:
                return list_as_json(item, self._lists.stored.entries(item.its.name).holding(address))
        return {"entry": "list", "number": number}

    def shadow(self, address: Prefix) -> list[Plain]:
        """Shadow entries that hold an address, in the order in which they are asked: the first one counts."""
        covering = self._store.covering("block", address, time.time(), "shadow")
        found = [rule_as_json(it) | _split(it.split) for it in self._shadow_rules.with_hits(covering)]
        lists = []
        for item in self._shadow_lists.in_force():
            entry = self._shadow_lists.stored.entries(item.its.name).holding(address)
            if entry is not None:
                plain = list_as_json(item, entry) | {"shadow": True} | _split(item.split)
                lists.append((-entry.length, item.its.number, plain))
        return found + [plain for _, _, plain in sorted(lists, key=lambda it: it[:2])]

    def shadow_at(self, place: int, source: Prefix) -> Plain:
        """The shadow entry whose hits are counted at a place; ``source``: an address it holds."""
        if place < abi.SHADOW_RULES:
            covering = self._store.covering("block", source, mode="shadow")
            rules = self._shadow_rules.with_hits([rule for rule in covering if rule.slot == place])
            found = [rule_as_json(it) | _split(it.split) for it in rules]
            return found[0] if found else {"entry": "rule", "slot": place}
        for item in self._shadow_lists.in_force():
            its = item.its
            if its.number == place - abi.SHADOW_RULES:
                entry = self._shadow_lists.stored.entries(its.name).holding(source)
                return list_as_json(item, entry) | {"shadow": True} | _split(item.split)
        return {"entry": "list", "number": place - abi.SHADOW_RULES}

    def _plain(self, rules: list[Rule]) -> list[Plain]:
        return [rule_as_json(found) for found in self._rules.with_hits(rules)] if rules else []
