# SPDX-License-Identifier: GPL-2.0
"""Lists that another system decides: put in force, or counting in shadow mode, as far as this host takes them.

What this host needs is let through whatever they hold (needed.py), as with lists of the configuration file. A list of
another origin with the same name is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.control import safety
from xdpguard.control.controller import Controller
from xdpguard.control.plan import NO_PLAN, Plan, Prepared, asked, unforced
from xdpguard.errors import XdpguardError
from xdpguard.policy.foreign import ForeignLimits
from xdpguard.policy.hits import NO_SPLIT
from xdpguard.store.lists import NamedList
from xdpguard.store.timing import timing

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet


class Given(NamedTuple):
    """A list as the other system has it. ``mark``: differs whenever its entries do."""

    name: str
    mark: str
    entries: AddressSet


class ForeignLists:
    """The lists of one origin. The caller holds the instance's lock."""

    def __init__(
        self, session: Controller, origin: str, limits: ForeignLimits, places: Collection[str] = ("",)
    ) -> None:
        """``places``: namespaces that count as the host besides those in which it is attached."""
        self._session = session
        self._origin = origin
        self._limits = limits
        self._places = places
        rules = session.ruleset
        shadow = limits.mode == "shadow"
        self._lists, self._others = (rules.shadow_lists, rules.lists) if shadow else (rules.lists, rules.shadow_lists)

    def held(self) -> dict[str, NamedList]:
        """Return the origin's lists in this mode."""
        return {it.name: it for it in self._lists.stored.all() if it.source == self._origin}

    def misplaced(self) -> list[str]:
        """Return the origin's lists in the other mode."""
        return [it.name for it in self._others.stored.all() if it.source == self._origin]

    def taken_by(self, name: str) -> str:
        """Return whose list a name is here, if it is another's; else an empty text."""
        there = self._lists.stored.find(name)
        return there.source if there is not None and there.source != self._origin else ""

    def marked(self, mark: str) -> str:
        """Return the mark of a list as it is stored: what is left out of it depends on the limits, too."""
        return f"{mark}:{self._limits.shortest4}:{self._limits.shortest6}"

    def has(self, name: str, mark: str) -> bool:
        """Return whether a list is here as it is to be."""
        there = self._lists.stored.find(name)
        return there is not None and there.source == self._origin and there.stamp == self.marked(mark)

    def entries(self, name: str) -> AddressSet:
        """Return what a list holds here, also what has ended."""
        return self._lists.stored.entries(name)

    def put(self, its: Given) -> NamedList:
        """Put a list in force, or swap it. Raise XdpguardError, with nothing changed, if it is refused.

        Prefixes that are shorter than this origin may block are left out, and counted as skipped.
        """
        if whose := self.taken_by(its.name):
            raise XdpguardError(f"{its.name} is a list of this host already, of {whose}", "give one another name")
        entries = its.entries.no_shorter(self._limits.shortest4, self._limits.shortest6)
        safety.check_everybody(its.name, entries)
        before, now = self._lists.stored.find(its.name), time.time()
        ends = timing(entries.packed_ends(), 0, now)
        named = NamedList(
            name=its.name,
            number=before.number if before else self._lists.stored.free_number(),
            source=self._origin,
            file="",
            stamp=self.marked(its.mark),
            format=self._origin,
            loaded=now,
            given=len(its.entries),
            entries=len(entries) - ends.ended,
            duplicates=0,
            skipped=len(its.entries) - len(entries),
            forced=False,
            packets=before.packets if before else 0,
            bytes=before.bytes if before else 0,
            mode=self._lists.mode,
            split=before.split if before else NO_SPLIT,
            timing=ends,
        )
        plan = Plan([Prepared(named, entries, before, [], [], "", 0)], [], {})
        plans = (NO_PLAN, plan) if self._limits.mode == "shadow" else (plan, NO_PLAN)
        with self._lists.changes.begin():
            coming = asked(self._session.store, *plans)
            self._session.keep_needed(self._places, unforced(plan.puts), coming)
            self._lists.put(named, entries)
        return named

    def drop(self, names: Collection[str]) -> None:
        """Remove some of the origin's lists. Raise XdpguardError if one stays."""
        if names:
            self._lists.apply([], names)

    def drop_misplaced(self, names: Collection[str]) -> None:
        """Remove some of the origin's lists in the other mode. Raise XdpguardError if one stays."""
        if names:
            self._others.apply([], names)
