# SPDX-License-Identifier: GPL-2.0
"""Attribute a dropped packet to the entry that blocked it, by the number the data plane reports. Cached for speed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct, field

from xdpguard.policy.filter import Filter
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore
from xdpguard.store.lists import ListStore

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_MAX_CACHED = 4096  # cached answers
_CACHE_TTL = 2.0  # s; entries change
_TOLERANCE = 1.0  # s: an entry's time predates its effect, but clocks can be set
_MISMATCH_TTL = 0.1  # s, if an entry does not match: its slot may have just been reused


class RuleEntry(Struct, frozen=True, kw_only=True, tag_field="entry", tag="rule"):
    """A rule that decided: what it is, why, and whose. No target and no source: it was removed since."""

    kind: str
    target: str | None
    reason: str
    source: str | None


class ListEntry(Struct, frozen=True, tag_field="entry", tag="list"):
    """A list that decided. No name: it was removed or changed since."""

    name: str | None = field(name="list")


class FilterEntry(Struct, frozen=True, kw_only=True, tag_field="entry", tag="filter"):
    """A filter that decided, and why it is there. No name: it was removed since."""

    name: str | None = field(name="filter")
    reason: str


class Attribution:
    """Looks up entries in the store. If a slot or number now belongs to another entry, the original counts as gone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[int, Rule | None] = {}
        self._lists: dict[int, _List] = {}
        self._filters: dict[int, Filter | None] = {}
        self._since = 0.0

    def rule(self, slot: int, source: bytes | None, at: float) -> RuleEntry:
        """Return the rule of a slot that blocked this source at that Unix time."""
        self._refresh(_CACHE_TTL)
        rule = self._rule(slot)
        if not _decided(rule, source, at) and self._refresh(_MISMATCH_TTL):
            rule = self._rule(slot)
        if rule is None or not _decided(rule, source, at):
            return RuleEntry(kind="block", target=None, reason="", source=None)
        return RuleEntry(kind=rule.label, target=str(rule.target), reason=rule.reason, source=rule.source)

    def list(self, number: int, source: bytes | None, at: float) -> ListEntry:
        """Return the list of a number that blocked this source at that Unix time."""
        self._refresh(_CACHE_TTL)
        its = self._list(number)
        if not its.decided(source, at) and self._refresh(_MISMATCH_TTL):
            its = self._list(number)
        return ListEntry(its.name if its.decided(source, at) else None)

    def filter(self, slot: int, at: float) -> FilterEntry:
        """Return the filter of a slot that dropped a packet at that Unix time."""
        self._refresh(_CACHE_TTL)
        its = self._filter(slot)
        if not _made_before(its, at) and self._refresh(_MISMATCH_TTL):
            its = self._filter(slot)
        if its is None or not _made_before(its, at):
            return FilterEntry(name=None, reason="")
        return FilterEntry(name=its.name, reason=its.reason)

    def _filter(self, slot: int) -> Filter | None:
        if slot not in self._filters:
            self._filters[slot] = FilterStore(self._store).of_slot(slot)
        return self._filters[slot]

    def _rule(self, slot: int) -> Rule | None:
        if slot not in self._rules:
            self._rules[slot] = self._store.of_slot(slot)
        return self._rules[slot]

    def _list(self, number: int) -> _List:
        if number not in self._lists:
            query = "SELECT name, loaded FROM lists WHERE mode = 'enforce' AND number = ?"
            rows = self._store.execute(query, (number,))
            self._lists[number] = _List(self._store, *(rows[0] if rows else ("", 0.0)))
        return self._lists[number]

    def _refresh(self, most: float) -> bool:
        """Discard answers if they are older than ``most`` seconds or too many; return whether that was the case."""
        now = time.monotonic()
        if now - self._since <= most and len(self._rules) <= _MAX_CACHED:
            return False
        self._rules.clear()
        self._lists.clear()
        self._filters.clear()
        self._since = now
        return True


class _List:
    """A list; without a name if no list has that number."""

    def __init__(self, store: Store, name: str, loaded: float) -> None:
        self.name = name
        self._store, self._loaded = store, loaded
        self._entries: AddressSet | None = None

    def decided(self, source: bytes | None, at: float) -> bool:
        """Return whether it may have blocked this source then. A list loaded later did if it holds the source now."""
        if not self.name or source is None:
            return False
        if self._loaded <= at:
            return True
        if self._entries is None:
            self._entries = ListStore(self._store).entries(self.name)
        return self._entries.holding(Prefix(source, len(source) * 8)) is not None


def _made_before(its: Filter | None, at: float) -> bool:
    return its is not None and its.created <= at + _TOLERANCE


def _decided(rule: Rule | None, source: bytes | None, at: float) -> bool:
    return rule is not None and rule.kind == "block" and rule.created <= at + _TOLERANCE and _holds(rule, source)


def _holds(rule: Rule, source: bytes | None) -> bool:
    target = rule.target
    if not isinstance(target, Prefix) or source is None:
        return True
    if len(target.network) != len(source):
        return False
    apart = int.from_bytes(target.network, "big") ^ int.from_bytes(source, "big")
    return apart >> (len(source) * 8 - target.length) == 0


def describe(entry: RuleEntry | ListEntry | FilterEntry | None) -> str:
    """Describe an entry in a few words; empty for none."""
    if entry is None:
        return ""
    if isinstance(entry, ListEntry):
        return f"list {entry.name}" if entry.name else "a list that was removed or changed since"
    if isinstance(entry, FilterEntry):
        why = f" ({entry.reason})" if entry.reason else ""
        return f"filter {entry.name}{why}" if entry.name else "a filter that was removed since"
    if entry.target is None:
        return "a rule that was removed since"
    return f"rule {entry.target}" + (f" ({entry.reason})" if entry.reason else "")
