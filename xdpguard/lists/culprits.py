# SPDX-License-Identifier: GPL-2.0
"""Which entry denied a packet, by the number that the data plane gave it. Quick, and made for many questions."""

from __future__ import annotations

import time
from typing import Any

from xdpguard.lists.store import Store
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix

_KEPT = 4096  # answers
_TRUE_FOR = 2.0  # s; rules come and go

Plain = dict[str, Any]


class Culprits:
    """What the store says of entries. A slot that belongs to another rule by now is taken for one that has gone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rules: dict[int, Rule | None] = {}
        self._lists: dict[int, str] = {}
        self._since = 0.0

    def rule(self, slot: int, source: bytes | None, at: float) -> Plain:
        """The rule of a slot that denied this source, at that Unix time."""
        self._refresh()
        if slot not in self._rules:
            self._rules[slot] = self._store.of_slot(slot)
        rule = self._rules[slot]
        # A second more: the rule's time was taken before it was in force, but clocks are set.
        if rule is None or rule.created > at + 1 or not _holds(rule, source):
            return {"entry": "rule", "kind": "block", "target": None, "reason": "", "source": None}
        return {
            "entry": "rule",
            "kind": rule.kind,
            "target": str(rule.target),
            "reason": rule.reason,
            "source": rule.source,
        }

    def list(self, number: int) -> Plain:
        """The list of a number."""
        self._refresh()
        if number not in self._lists:
            rows = self._store.execute("SELECT name FROM lists WHERE number = ?", (number,))
            self._lists[number] = rows[0][0] if rows else ""
        return {"entry": "list", "list": self._lists[number] or None}

    def _refresh(self) -> None:
        now = time.monotonic()
        if now - self._since > _TRUE_FOR or len(self._rules) > _KEPT:
            self._rules.clear()
            self._lists.clear()
            self._since = now


def _holds(rule: Rule, source: bytes | None) -> bool:
    target = rule.target
    if not isinstance(target, Prefix) or source is None:
        return True
    if len(target.network) != len(source):
        return False
    apart = int.from_bytes(target.network, "big") ^ int.from_bytes(source, "big")
    return apart >> (len(source) * 8 - target.length) == 0


def in_words(entry: Plain | None) -> str:
    """An entry, in a few words; empty for none."""
    if entry is None:
        return ""
    if entry["entry"] == "list":
        return f"list {entry['list']}" if entry["list"] else "a list that has gone since"
    if entry["target"] is None:
        return "a rule that has gone since"
    return f"rule {entry['target']}" + (f" ({entry['reason']})" if entry["reason"] else "")
