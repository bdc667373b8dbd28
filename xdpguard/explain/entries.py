# SPDX-License-Identifier: GPL-2.0
"""Rules, list entries and filters that decide about a packet or an address, as the program looks them up."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from typing import Any

from xdpguard.control.lists import Lists
from xdpguard.control.results import ListHits, RuleHits
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.sys import abi
from xdpguard.explain.answers import (
    EndedEntry,
    Filter,
    NamedList,
    Shadow,
    ShadowList,
    ShadowRule,
    UnknownFilter,
    UnknownList,
    UnknownRule,
    split_fields,
)
from xdpguard.explain.answers import Rule as RuleAnswer
from xdpguard.policy.hits import NO_SPLIT
from xdpguard.policy.matching.model import Field, Match
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import PROTOCOL_NUMBERS, Kind, Port, Prefix


def _rule_fields(found: RuleHits) -> dict[str, Any]:
    rule = found.rule
    return {
        "kind": rule.label,
        "target": str(rule.target),
        "reason": rule.reason,
        "source": rule.source,
        **_times(rule.created, rule.expires),
        "packets": found.packets,
        "bytes": found.bytes,
    }


def _times(created: float, expires: float | None) -> dict[str, Any]:
    now = time.time()
    return {
        "created": int(created),
        "age": max(0, int(now - created)),
        "expires": None if expires is None else math.ceil(expires),
        "left": None if expires is None else max(0, math.ceil(expires - now)),
    }


Held = tuple[Prefix, int | None]  # an entry of a list, and its end


def _list_fields(found: ListHits, held: Held | None) -> dict[str, Any]:
    its, (entry, end) = found.its, held or (None, None)
    return {
        "name": its.name,
        "holds": str(entry) if entry else None,
        "expires": end,
        "left": None if end is None else max(0, math.ceil(end - time.time())),
        "file": its.file or None,
        "source": its.source,
        "loaded": int(its.loaded),
        "packets": found.packets,
        "bytes": found.bytes,
    }


class Entries:
    """One instance's entries on sources and ports, and its filters."""

    def __init__(self, ruleset: Ruleset) -> None:
        self._store = ruleset.store
        self._rules, self._shadow_rules = ruleset.rules, ruleset.shadow_rules
        self._lists, self._shadow_lists = ruleset.lists, ruleset.shadow_lists
        self._filters = ruleset.filters

    def covering(self, kind: Kind, address: Prefix) -> list[RuleAnswer]:
        """Return the rules of a kind, in force, that contain an address, by longest prefix: the first one decides."""
        return self._answers(self._store.covering(kind, address, time.time()))

    def shadow_rules(self, prefix: Prefix) -> list[ShadowRule]:
        """Return the shadow rules that contain all of a prefix."""
        return self._shadow_answers(self._store.covering("block", prefix, time.time(), "shadow"))

    def inside(self, prefix: Prefix) -> list[Rule]:
        """Return the rules in force for part of a prefix."""
        held = [it for kind in ("allow", "block") for it in self._store.rules(kind) if it.alive(time.time())]
        return [it for it in held if isinstance(it.target, Prefix) and it.target != prefix and prefix.covers(it.target)]

    def answers(self, rules: list[Rule]) -> list[RuleAnswer]:
        """Return enforced rules with their hits."""
        return self._answers(rules)

    def closing(self, port: Port) -> RuleAnswer | None:
        """Return the rule in force that closes a port."""
        rule = self._store.find("port", [port]).get(port)
        return self._answers([rule])[0] if rule and rule.alive(time.time()) else None

    def naming(self, port: Port) -> list[Filter | UnknownFilter]:
        """Return the filters that test for a destination port and match this one, in their order."""
        return [self.filter_of(it.slot) for it in self._filters.alive() if _names(it.match, port)]

    def of_slot(self, slot: int, source: Prefix | None) -> RuleAnswer | UnknownRule:
        """Return the rule whose hits are counted in a slot; ``source``: an address it contains, if it has any."""
        kinds: tuple[Kind, ...] = ("allow", "block")
        near = [rule for kind in kinds for rule in self._store.covering(kind, source)] if source else []
        ports = self._store.rules("port")
        found = next((rule for rule in [*near, *ports] if rule.slot == slot), None)
        return self._answers([found])[0] if found else UnknownRule(slot=slot)

    def lists(self, address: Prefix) -> list[tuple[int, NamedList]]:
        """Return the lists that contain an address, each with its number: by longest prefix, then by number."""
        found = _containing(self._lists, address)
        return [(item.its.number, NamedList(**_list_fields(item, entry))) for item, entry in found]

    def ended(self, address: Prefix) -> list[EndedEntry]:
        """Return the entries of lists that contained an address until they ended."""
        found, now = [], time.time()
        for lists in (self._lists, self._shadow_lists):
            for its in (it for it in lists.stored.all() if it.timing.ended):
                held = lists.stored.entries(its.name).entry(address)
                if held and held[1] is not None and held[1] <= now:
                    shadow = lists.mode == "shadow"
                    found.append(EndedEntry(name=its.name, shadow=shadow, holds=str(held[0]), ended=held[1]))
        return found

    def list_of(self, number: int, address: Prefix) -> NamedList | UnknownList:
        """Return the list of a number; ``address``: one that it contains."""
        for item in self._lists.in_force():
            if item.its.number == number:
                return NamedList(**_list_fields(item, self._lists.stored.in_force(item.its.name).entry(address)))
        return UnknownList(number=number)

    def filter_of(self, slot: int) -> Filter | UnknownFilter:
        """Return the filter whose hits are counted in a slot."""
        for its, hits in self._filters.in_force():
            if its.slot == slot:
                return Filter(
                    name=its.name,
                    match=its.text,
                    action=its.does,
                    reason=its.reason,
                    source=its.source,
                    **_times(its.created, its.expires),
                    packets=hits.packets,
                    bytes=hits.bytes,
                )
        return UnknownFilter(slot=slot)

    def filter_names(self, slots: Collection[int]) -> list[str]:
        """Return the names of the filters that count in some slots, in the order in which they are asked."""
        return [it.name for it in self._filters.alive() if it.slot in slots] if slots else []

    def shadow(self, address: Prefix) -> list[ShadowRule | ShadowList]:
        """Return the shadow entries that contain an address, in order of precedence: the first one counts."""
        found = self._shadow_answers(self._store.covering("block", address, time.time(), "shadow"))
        return [*found, *(_shadow_list(*it) for it in _containing(self._shadow_lists, address))]

    def shadow_at(self, place: int, source: Prefix) -> Shadow:
        """Return the shadow entry whose hits are counted at a place; ``source``: an address it contains."""
        if place < abi.SHADOW_RULES:
            covering = self._store.covering("block", source, mode="shadow")
            found = self._shadow_answers([rule for rule in covering if rule.slot == place])
            return found[0] if found else UnknownRule(slot=place)
        for item in self._shadow_lists.in_force():
            its = item.its
            if its.number == place - abi.SHADOW_RULES:
                return _shadow_list(item, self._shadow_lists.stored.in_force(its.name).entry(source))
        return UnknownList(number=place - abi.SHADOW_RULES)

    def _answers(self, rules: list[Rule]) -> list[RuleAnswer]:
        return [RuleAnswer(**_rule_fields(it)) for it in self._rules.hits.of(rules)] if rules else []

    def _shadow_answers(self, rules: list[Rule]) -> list[ShadowRule]:
        found = self._shadow_rules.hits.of(rules)
        return [ShadowRule(**_rule_fields(it), **split_fields(it.split or NO_SPLIT)) for it in found]


def _names(match: Match, port: Port) -> bool:
    """Return whether a match has a test of the destination port, and this one passes it and that of the protocol."""
    wanted = {Field.DPORT: port.number, Field.PROTOCOL: PROTOCOL_NUMBERS[port.protocol]}
    tests = [it for it in match.tests if it.field in wanted]
    return any(it.field is Field.DPORT for it in tests) and all(
        any(first <= wanted[it.field] <= last for first, last in it.ranges) for it in tests
    )


def _containing(lists: Lists, address: Prefix) -> list[tuple[ListHits, Held]]:
    """Return the lists that contain an address, with their entry: by longest prefix, then by number."""
    pairs = ((item, lists.stored.in_force(item.its.name).entry(address)) for item in lists.in_force())
    found = [(item, held) for item, held in pairs if held is not None]
    return sorted(found, key=lambda it: (-it[1][0].length, it[0].its.number))


def _shadow_list(item: ListHits, held: Held | None) -> ShadowList:
    return ShadowList(**_list_fields(item, held), **split_fields(item.split or NO_SPLIT))
