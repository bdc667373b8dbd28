# SPDX-License-Identifier: GPL-2.0
"""Which entry denied a packet, by the number that the data plane gave it. Quick, and made for many questions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from msgspec import Struct, field

from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix
from xdpguard.store.database import Store
from xdpguard.store.lists import Shelf

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_KEPT = 4096  # answers
_TRUE_FOR = 2.0  # s; rules come and go
_WRONG_FOR = 0.1  # s, when one does not fit: its slot may have been given to another one just now


class RuleEntry(Struct, frozen=True, kw_only=True, tag_field="entry", tag="rule"):
    """A rule that decided: what it is, why, and whose. No target and no source: it has gone since."""

    kind: str
    target: str | None
    reason: str
    source: str | None


class ListEntry(Struct, frozen=True, tag_field="entry", tag="list"):
    """A list that decided. No name: it has gone or changed since."""

    name: str | None = field(name="list")


class Culprits:
    """What the store says of entries. A slot or number that belongs to another one by now is taken for one that has
    gone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[int, Rule | None] = {}
        self._lists: dict[int, _List] = {}
        self._since = 0.0

    def rule(self, slot: int, source: bytes | None, at: float) -> RuleEntry:
        """The rule of a slot that denied this source, at that Unix time."""
        self._refresh(_TRUE_FOR)
        rule = self._rule(slot)
        if not _decided(rule, source, at) and self._refresh(_WRONG_FOR):
            rule = self._rule(slot)
        if rule is None or not _decided(rule, source, at):
            return RuleEntry(kind="block", target=None, reason="", source=None)
        return RuleEntry(kind=rule.kind, target=str(rule.target), reason=rule.reason, source=rule.source)

    def list(self, number: int, source: bytes | None, at: float) -> ListEntry:
        """The list of a number that denied this source, at that Unix time."""
        self._refresh(_TRUE_FOR)
        its = self._list(number)
        if not its.decided(source, at) and self._refresh(_WRONG_FOR):
            its = self._list(number)
        return ListEntry(its.name if its.decided(source, at) else None)

    def _rule(self, slot: int) -> Rule | None:
        if slot not in self._rules:
            self._rules[slot] = self._store.of_slot(slot)
        return self._rules[slot]

    def _list(self, number: int) -> _List:
        if number not in self._lists:
            rows = self._store.execute("SELECT name, loaded FROM lists WHERE number = ?", (number,))
            self._lists[number] = _List(self._store, *(rows[0] if rows else ("", 0.0)))
        return self._lists[number]

    def _refresh(self, most: float) -> bool:
        """Forgets answers that are older than that, seconds, or too many; whether they were."""
        now = time.monotonic()
        if now - self._since <= most and len(self._rules) <= _KEPT:
            return False
        self._rules.clear()
        self._lists.clear()
        self._since = now
        return True


class _List:
    """A list; no name: none has that number."""

    def __init__(self, store: Store, name: str, loaded: float) -> None:
        self.name = name
        self._store, self._loaded = store, loaded
        self._entries: AddressSet | None = None

    def decided(self, source: bytes | None, at: float) -> bool:
        """Whether it may have denied this source then. One that was loaded since does so if it holds the source now."""
        if not self.name or source is None:
            return False
        if self._loaded <= at:
            return True
        if self._entries is None:
            self._entries = Shelf(self._store).entries(self.name)
        return self._entries.holding(Prefix(source, len(source) * 8)) is not None


def _decided(rule: Rule | None, source: bytes | None, at: float) -> bool:
    # A second more: the rule's time was taken before it was in force, but clocks are set.
    return rule is not None and rule.kind == "block" and rule.created <= at + 1 and _holds(rule, source)


def _holds(rule: Rule, source: bytes | None) -> bool:
    target = rule.target
    if not isinstance(target, Prefix) or source is None:
        return True
    if len(target.network) != len(source):
        return False
    apart = int.from_bytes(target.network, "big") ^ int.from_bytes(source, "big")
    return apart >> (len(source) * 8 - target.length) == 0


def in_words(entry: RuleEntry | ListEntry | None) -> str:
    """An entry, in a few words; empty for none."""
    if entry is None:
        return ""
    if isinstance(entry, ListEntry):
        return f"list {entry.name}" if entry.name else "a list that has gone or changed since"
    if entry.target is None:
        return "a rule that has gone since"
    return f"rule {entry.target}" + (f" ({entry.reason})" if entry.reason else "")
