# SPDX-License-Identifier: GPL-2.0
"""Import rules: one change, all or nothing, that is refused where the commands for single rules would refuse."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from xdpguard.control import needed, openness, safety
from xdpguard.control.results import Put
from xdpguard.control.ruleset import Ruleset
from xdpguard.errors import XdpguardError
from xdpguard.policy.exchange import Entry
from xdpguard.policy.rule import MODES
from xdpguard.policy.target import Kind, Port, Prefix
from xdpguard.store.database import Store

_ORDER: tuple[Kind, ...] = ("allow", "block", "port")  # what is allowed protects from the blocks after it


class Imported(NamedTuple):
    """The result: each rule as it was and is, and how many entries were left out, having ended."""

    puts: list[Put]
    ended: int


def load(ruleset: Ruleset, entries: Sequence[Entry], force: bool) -> Imported:
    """Add rules, all or none; where one is there already, the longer end and the first reason of each origin stay.

    Raises XdpguardError if they cut off what this host needs, unless ``force``; or if they do not fit.
    """
    now = time.time()
    alive = [it for it in entries if it.rule.expires is None or it.rule.expires > now]
    puts: list[Put] = []
    if not force:
        openness.check(ruleset.store, [it.rule for it in alive if it.mode == "enforce" and it.rule.kind == "allow"])
    with ruleset.changes.begin():
        for mode in MODES:
            into = ruleset.rules if mode == "enforce" else ruleset.shadow_rules
            for kind in _ORDER:
                rules = [it.rule for it in alive if it.mode == mode and it.rule.kind == kind]
                if mode == "enforce" and kind == "block" and not force:
                    _check_blocks(ruleset.store, [(it.target, it.expires) for it in rules], now)
                if mode == "enforce" and kind == "port" and not force:
                    safety.check_ports(ruleset.store, [it.target for it in rules if isinstance(it.target, Port)])
                if rules:
                    puts += into.add_rules(rules).puts
        if force:
            needed.accept(ruleset.store, blocks=[it.rule.target for it in alive if it.mode == "enforce"])
    return Imported(puts, len(entries) - len(alive))


def _check_blocks(store: Store, blocks: Sequence[tuple[object, float | None]], now: float) -> None:
    by_end: dict[float | None, list[Prefix]] = {}
    for target, end in blocks:
        assert isinstance(target, Prefix)
        by_end.setdefault(end, []).append(target)
    try:
        # As if all were for good: one look at this host, which is enough nearly always.
        safety.check_block(store, [target for its in by_end.values() for target in its])
    except XdpguardError:
        for end, targets in by_end.items():
            safety.check_block(store, targets, None if end is None else end - now)
