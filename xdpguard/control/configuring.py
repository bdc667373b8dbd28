# SPDX-License-Identifier: GPL-2.0
"""Put a configuration in force: its lists, its rules, and the filters, which may ask these lists."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from xdpguard.control import needed
from xdpguard.control.filter_lists import FilterLists
from xdpguard.control.plan import Loaded, Plan, asked, unforced
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.tables.default import InForce
from xdpguard.errors import XdpguardError
from xdpguard.policy.filter import Filter
from xdpguard.policy.rule import CONFIG, NewRule


class Wanted(NamedTuple):
    """What is to be in force: rules of a configuration, all filters in order, the default, and plans of its lists
    (enforced, shadow).
    """

    rules: list[NewRule]
    filters: list[Filter]
    default: InForce
    plans: tuple[Plan, Plan]


class Configured(NamedTuple):
    """What came of a configuration: its lists that were new or changed, and the errors of those not loaded."""

    lists: list[Loaded]
    errors: dict[str, XdpguardError]


def put(ruleset: Ruleset, wanted: Wanted, places: Collection[str] | None, awaited: Collection[str] = ()) -> list[str]:
    """Put it in force, as part of a change; return notes on filters that ask lists that are not there.

    ``places``: namespaces whose needs are let through; None: somebody was there to see a refusal. ``awaited``: lists
    that may be missing. Raise XdpguardError, by the end of the change, if another is.
    """
    if places is not None:
        coming = (unforced(wanted.plans[0].puts), wanted.filters, wanted.default, asked(ruleset.store, *wanted.plans))
        needed.keep(ruleset.rules, needed.conflicts(ruleset.store, {"", *places}, wanted.rules, *coming))
    for its, plan in zip((ruleset.lists, ruleset.shadow_lists), wanted.plans, strict=True):
        if plan.puts or plan.drops:
            its.apply([(it.its, it.entries) for it in plan.puts], plan.drops)
    ruleset.purge()
    ruleset.rules.replace_source(CONFIG, wanted.rules)
    ruleset.filters.apply(wanted.filters, awaited)
    pairs = FilterLists(ruleset.store).missing(ruleset.filters.alive())
    return [f"there is no list {name}: the filter {it.name}, which asks it, matches nothing" for it, name in pairs]
