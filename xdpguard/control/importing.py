# SPDX-License-Identifier: GPL-2.0
"""Import rules and filters: one change, all or nothing, refused where the commands for single ones would refuse."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from xdpguard.control import needed, openness, safety
from xdpguard.control.filter_order import with_new
from xdpguard.control.results import Put
from xdpguard.control.ruleset import Ruleset
from xdpguard.errors import XdpguardError
from xdpguard.policy.exchange import Exported
from xdpguard.policy.filter import NewFilter
from xdpguard.policy.origins import later
from xdpguard.policy.rule import CLI, CONFIG, MODES, NewRule, Rule
from xdpguard.policy.target import Kind, Port, Prefix
from xdpguard.store.database import Store

_ORDER: tuple[Kind, ...] = ("allow", "block", "port")  # what is allowed protects from the blocks after it


class Imported(NamedTuple):
    """The result: each rule as it was and is, the filters that are new, those that were there, and how many entries
    were left out, having ended.
    """

    puts: list[Put]
    ended: int
    filters: list[str]
    there: list[str]


def load(ruleset: Ruleset, given: Exported, force: bool) -> Imported:
    """Add rules and filters, all or none; where one is there already, the longer end and the first reason of each
    origin stay. New filters are asked after those that are there, in the order of the file.

    What was of a configuration file there, and is of none here, is from then on as if made by hand: the next attach or
    reload would remove it otherwise.

    Raises XdpguardError if they cut off what this host needs, unless ``force``; if they do not fit; or if there is
    another filter of the same name.
    """
    now, entries = time.time(), given.rules
    filters = [it for it in given.filters if it.expires is None or it.expires > now]
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
                    held = into.found(kind, [it.target for it in rules])
                    puts += into.add_rules([_of_here(it, held.get(it.target)) for it in rules]).puts
        new = _add_filters(ruleset, filters, force)
        if force:
            targets = [it.rule.target for it in alive if it.mode == "enforce"]
            needed.accept(ruleset.store, blocks=targets, filters=[it.name for it in filters])
    there = [it.name for it in filters if it.name not in new]
    return Imported(puts, len(entries) - len(alive) + len(given.filters) - len(filters), new, there)


def _of_here(its: NewRule, held: Rule | None) -> NewRule:
    """Return a rule of a configuration file as one made by hand, unless that of this host has it."""
    return its._replace(source=CLI) if its.source == CONFIG and not (held and held.part(CONFIG)) else its


def _add_filters(ruleset: Ruleset, filters: Sequence[NewFilter], force: bool) -> list[str]:
    """Add filters; return the names of those that are new."""
    now = time.time()
    held = ruleset.filters.stored.all()
    there = {it.name: it for it in held if it.alive(now)}
    wanted = held
    for it in filters:
        old = there.get(it.name)
        if old is None:
            own = it._replace(source=CLI) if it.source == CONFIG else it
            wanted = with_new(wanted, own, "", replace=False)
            continue
        if (old.match, old.action, old.limit, old.mode) != (it.match, it.action, it.limit, it.mode):
            raise XdpguardError(
                f"there is another filter {it.name}: {old.does} {old.text}",
                f"nothing was changed; remove it first: xdpguard filter remove {it.name}; or rename it in the file",
            )
        kept = old._replace(expires=later(old.expires, it.expires), reason=old.reason or it.reason)
        wanted = [kept if its.name == it.name else its for its in wanted]
    if not force and filters:
        safety.check_filters(ruleset.store, [it for it in wanted if it.alive(now)])
    ruleset.filters.apply(wanted)
    return [it.name for it in filters if it.name not in there]


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
