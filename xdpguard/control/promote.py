# SPDX-License-Identifier: GPL-2.0
"""Promote shadow entries to enforced ones: a change of mode, all or none."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xdpguard.control import needed, safety
from xdpguard.control.filter_order import promoted
from xdpguard.control.filters import FilterWithHits
from xdpguard.control.loader import check_size
from xdpguard.control.results import ListHits, RuleHits
from xdpguard.control.ruleset import Ruleset
from xdpguard.errors import XdpguardError
from xdpguard.policy.filter import Filter
from xdpguard.policy.hits import NO_SPLIT, Split
from xdpguard.policy.origins import is_foreign
from xdpguard.policy.rule import CONFIG
from xdpguard.policy.target import Prefix, Target

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.store.lists import NamedList


@dataclass
class Promotion:
    """The shadow entries to promote, with notes for the user."""

    rules: list[RuleHits] = field(default_factory=list)
    lists: list[ListHits] = field(default_factory=list)
    filters: list[FilterWithHits] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    in_force: bool = False

    @property
    def split(self) -> Split:
        """What these rules and lists would have dropped so far."""
        total = NO_SPLIT
        for split in (*(it.split for it in self.rules), *(it.split for it in self.lists)):
            total = total.plus(split or NO_SPLIT)
        return total


def choose(
    ruleset: Ruleset,
    targets: Collection[Target],
    names: Collection[str],
    filters: Collection[str],
    everything: bool,
) -> Promotion:
    """Return the entries to promote. Raise XdpguardError naming the first that is missing or cannot be promoted."""
    rules = {it.rule.target: it for it in ruleset.shadow_rules.in_force()}
    lists = {it.its.name: it for it in ruleset.shadow_lists.in_force()}
    for target in targets:
        if target not in rules:
            raise XdpguardError(
                f"there is no shadow rule for {target}",
                "nothing was changed; xdpguard rules --kind shadow shows which exist",
            )
    for name in names:
        if name not in lists:
            known = ", ".join(lists) or "none"
            raise XdpguardError(f"there is no shadow list {name}", f"nothing was changed; shadow lists: {known}")
        if lists[name].its.source == CONFIG:
            raise XdpguardError(
                f"the configuration file makes {name} a shadow list",
                f"nothing was changed; remove shadow = true from [lists.{name}] there, and reload or attach again",
            )
    found = Promotion()
    chosen, notes = _filters(ruleset, filters, everything)
    found.filters, found.notes = chosen, notes
    if everything:
        found.rules = list(rules.values())
        found.lists = [it for it in lists.values() if it.its.source != CONFIG]
        for it in lists.values():
            if it.its.source == CONFIG:
                found.notes.append(f"{it.its.name} stays a shadow list: the configuration file says so")
    else:
        found.rules = [rules[target] for target in dict.fromkeys(targets)]
        found.lists = [lists[name] for name in dict.fromkeys(names)]
    others = {by for it in found.rules for by in it.rule.origins} | {it.its.source for it in found.filters}
    found.notes += [
        f"what is of origin {by} becomes a shadow entry again with the next update from there, while that is in shadow"
        " mode"
        for by in sorted(filter(is_foreign, others))
    ]
    if not found.rules and not found.lists and not found.filters:
        raise XdpguardError("there is nothing to promote", "; ".join(found.notes) or "no shadow rule, list or filter")
    return found


def _filters(ruleset: Ruleset, names: Collection[str], everything: bool) -> tuple[list[FilterWithHits], list[str]]:
    """Return the shadow filters of these names, or all that can be promoted, and notes on those that cannot."""
    held = ruleset.filters.in_force()
    if not everything:
        promoted([it.its for it in held], names)
        return [it for it in held if it.its.name in names], []
    shadow = [it for it in held if it.its.mode == "shadow"]
    notes = [
        f"{it.its.name} stays a shadow filter: the configuration file says so"
        for it in shadow
        if it.its.source == CONFIG
    ]
    return [it for it in shadow if it.its.source != CONFIG], notes


def check(ruleset: Ruleset, chosen: Promotion) -> None:
    """Refuse what would be refused as an enforced block or list, and what would have hit established peers."""
    targets: dict[float | None, list[Prefix]] = {}
    for it in chosen.rules:
        assert isinstance(it.rule.target, Prefix)
        targets.setdefault(it.rule.expires, []).append(it.rule.target)
    for end, its in targets.items():
        safety.check_block(ruleset.store, its, None if end is None else end - time.time())
    for named in (it.its for it in chosen.lists):
        check_size(named.name, named.given, ruleset.lists.stored.find(named.name))
        safety.check_list(ruleset.store, named.name, ruleset.shadow_lists.stored.in_force(named.name))
    if chosen.filters:
        safety.check_filters(ruleset.store, _with_filters(ruleset, chosen))
    splits = [(str(it.rule.target), "xdpguard rules", it.split) for it in chosen.rules]
    splits += [(f"the list {it.its.name}", "xdpguard lists show", it.split) for it in chosen.lists]
    hit = [(what, where, its.established.packets) for what, where, its in splits if its and its.established.packets]
    if hit:
        first, where, _ = hit[0]
        packets = sum(count for *_, count in hit)
        more = f" and {len(hit) - 1:,} more" if len(hit) > 1 else ""
        raise XdpguardError(
            f"{first}{more} would have dropped {packets:,} packet{'s' if packets != 1 else ''} of established peers",
            f"nothing was changed; check them ({where}); use --force to override",
        )


def promote(ruleset: Ruleset, chosen: Promotion, force: bool) -> None:
    """Enforce the entries, keeping reasons, origins and ends. At no moment does an entry neither count nor drop."""
    enforced = [it.rule.as_new() for it in chosen.rules]
    puts: list[tuple[NamedList, AddressSet]] = []
    for its in (it.its for it in chosen.lists):
        before = ruleset.lists.stored.find(its.name)
        taken = [it.number for it, _ in puts]
        number = before.number if before else ruleset.lists.stored.free_number(taken)
        if before and before.source == CONFIG:
            chosen.notes.append(
                f"{its.name} is in the configuration file: the file named there is loaded again with it"
            )
        new = its._replace(
            number=number,
            source=before.source if before else its.source,
            forced=force,
            packets=before.packets if before else 0,
            bytes=before.bytes if before else 0,
            mode="enforce",
            split=NO_SPLIT,
        )
        puts.append((new, ruleset.shadow_lists.stored.entries(its.name)))
    with ruleset.changes.begin():
        ruleset.rules.add_rules(enforced)
        if puts:
            ruleset.lists.apply(puts, [])
        ruleset.shadow_rules.remove_rules([it.rule for it in chosen.rules])
        if chosen.filters:
            ruleset.filters.apply(_with_filters(ruleset, chosen))
        if chosen.lists:
            ruleset.shadow_lists.apply([], [it.its.name for it in chosen.lists])
        if force:
            filters = [it.its.name for it in chosen.filters]
            needed.accept(ruleset.store, blocks=[it.rule.target for it in chosen.rules], filters=filters)
    chosen.in_force = ruleset.changes.attached()


def _with_filters(ruleset: Ruleset, chosen: Promotion) -> list[Filter]:
    """Return the filters, in order, once those are promoted that are chosen."""
    return promoted(ruleset.filters.stored.all(), [it.its.name for it in chosen.filters])
