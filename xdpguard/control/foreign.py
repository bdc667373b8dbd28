# SPDX-License-Identifier: GPL-2.0
"""Entries that another system decides: the fleet, a bridge, fail2ban. This host decides what of them is in force.

Each origin has parts of its own in rules, beside those of the command line and the configuration file, and filters of
its own. It never beats a local allow rule nor what this host needs; what is refused is decided again at each `replace`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple

from xdpguard.control import needs
from xdpguard.control.entries import Entries
from xdpguard.control.foreign_filters import ForeignFilters
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.sys.abi import SHADOW_RULES
from xdpguard.net.sockets import Protected
from xdpguard.policy.filter import NewFilter
from xdpguard.policy.foreign import Entry, ForeignLimits, Judge, Refused, check_origin, plain
from xdpguard.policy.origins import later
from xdpguard.policy.rule import SAFETY, NewRule
from xdpguard.policy.target import KINDS, Kind, Prefix, Target, parse_stored
from xdpguard.store import origins
from xdpguard.store.origins import Key
from xdpguard.units import counted


class Answer(NamedTuple):
    """What became of the entries that an origin wants.

    ``taken``: in force, or counting in shadow mode, from now on or since before; ``ended``: those that end before they
    begin; ``changed``: whether anything had to be changed; ``in_force``: the kernel has tables.
    """

    taken: list[Entry]
    ended: list[Entry]
    refused: list[Refused]
    changed: bool
    in_force: bool


class Foreign:
    """The entries of one origin. The caller holds the instance's lock; each method makes one change, or none."""

    def __init__(
        self,
        ruleset: Ruleset,
        origin: str,
        limits: ForeignLimits | None = None,
        keep: Iterable[tuple[Prefix, str]] = (),
        places: Collection[str] = ("",),
        needed: Collection[Protected] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``keep``: what this origin must not block besides what the host needs, such as the server that it comes from,
        each with its role, as text that fits after "is"; ``places``: namespaces that count as the host besides.
        ``needed``: what `needs.now` returned moments ago, for whoever puts many entries, one after the other.
        """
        check_origin(origin)
        self.origin = origin
        self.limits = limits or ForeignLimits()
        self._store = ruleset.store
        self._changes = ruleset.changes
        shadow = self.limits.mode == "shadow"
        self._rules = ruleset.shadow_rules if shadow else ruleset.rules
        self._others = ruleset.rules if shadow else ruleset.shadow_rules
        self._filters = ForeignFilters(ruleset.filters, origin, self.limits.mode, now)
        self._keep = [Protected(prefix, role) for prefix, role in keep]
        self._places = places
        self._needed = needed
        self._now = now

    def replace(self, wanted: Iterable[Entry]) -> Answer:
        """Make these exactly what the origin has here, as far as it may; where there is no room, the first ones."""
        return self._make(wanted, whole=True)

    def put(self, wanted: Iterable[Entry]) -> Answer:
        """Add entries, or give those that are there the end and the reason that they have now."""
        return self._make(wanted, whole=False)

    def remove(self, kind: Kind, targets: Collection[Target]) -> int:
        """Remove what the origin wants of rules; return of how many. What is not there is no error."""
        keys = [(kind, str(target)) for target in targets]
        gone = {its: origins.parts_of(self._store, its.mode, self.origin, keys) for its in (self._rules, self._others)}
        for its in gone:
            with self._store.transaction():
                origins.forget_lapsed(self._store, its.mode, self.origin, kind, targets)
        if any(gone.values()):
            with self._changes.begin():
                for its, held in gone.items():
                    self._leave(its, held)
        return len({key for held in gone.values() for key in held})

    def remove_filters(self, names: Collection[str]) -> int:
        """Remove filters of the origin; return how many. What is not there is no error."""
        return self._filters.remove(names)

    def _make(self, wanted: Iterable[Entry], whole: bool) -> Answer:
        there = needs.now(self._store, self._places) if self._needed is None else self._needed
        needed = [*there, *self._keep]
        allowed = list(self._allowed())
        judge = Judge(
            self.limits,
            self._now(),
            ((it, "allowed here") for it in allowed),
            ((it.address, it.words) for it in needed),
        )
        its = _Sorted(self.origin, judge, wanted, self._now())
        if whole:
            origins.forget_unwanted(self._store, self._rules.mode, self.origin, set(its.keys))
            origins.forget_unwanted(self._store, self._others.mode, self.origin, ())
        keys, names = (None, None) if whole else (its.keys, its.names)
        held, moved = (
            origins.parts_of(self._store, entries.mode, self.origin, keys) for entries in (self._rules, self._others)
        )
        self._cut(its, held, whole)
        gone = [key for key in held if key not in its.rules]
        new = [rule for key, rule in its.rules.items() if held.get(key) != (rule.reason, rule.expires)]
        planned, denied = self._filters.planned(its.filters, names, needed, allowed)
        its.deny(denied)
        changed = bool(gone or moved or new or planned is not None)
        if changed:
            with self._changes.begin():
                self._leave(self._others, moved)
                self._leave(self._rules, gone)
                for kind in {rule.kind for rule in new}:
                    self._rules.add_rules([rule for rule in new if rule.kind == kind], replace=True)
                if planned is not None:
                    self._filters.apply(planned)
        return Answer(
            [*its.rules.values(), *its.filters.values()], its.ended, its.refused, changed, self._changes.attached()
        )

    def _allowed(self) -> Iterator[Prefix]:
        """Yield what others let through. What lets a needed address through while it is needed is no decision."""
        now = self._now()
        for rule in self._store.rules("allow"):
            if any(
                part.source not in (self.origin, SAFETY) and (part.expires is None or part.expires > now)
                for part in rule.parts
            ):
                assert isinstance(rule.target, Prefix)
                yield rule.target

    def _cut(self, its: _Sorted, held: Collection[Key], whole: bool) -> None:
        """Refuse what is too many: the last ones, but of a few that are put none that is there already."""
        there = 0
        # Counting what the origin has takes long where there is much, so it is bounded first.
        if not whole and self._store.highest_slot(self._rules.mode) + 1 + len(its.rules) > self.limits.max_entries:
            there = origins.count_of(self._store, self._rules.mode, self.origin) - len(held)
        most = self.limits.max_entries - there
        if len(its.rules) > most:
            order = list(its.rules) if whole else sorted(its.rules, key=lambda key: key not in held)
            why = f"this origin may have {counted(self.limits.max_entries, 'entry', 'entries')}"
            its.refuse_those(order[max(0, most) :], why)
        fresh = [key for key in its.rules if key not in held]
        room = self._rules.left(len(fresh))
        if len(fresh) > room:
            stored = {(it.kind, str(it.target)): it for it in self._store.rules(mode=self._rules.mode)}
            # A target that others hold as well needs no more room, and frees none.
            fresh = [key for key in fresh if key not in stored]
            room += sum(1 for key in held if key not in its.rules and stored[key].origins == [self.origin])
            shadow = f"there is room for {SHADOW_RULES:,} shadow rules"
            why = shadow if self.limits.mode == "shadow" else "the tables have no room for more rules"
            its.refuse_those(fresh[int(room) :], why)

    def _leave(self, entries: Entries, gone: Collection[Key]) -> None:
        """Remove what the origin wants of rules, within a change."""
        for kind in KINDS:
            targets = [parse_stored(kind, text) for its, text in gone if its == kind]
            if targets:
                entries.leave(list(entries.found(kind, targets).values()), lambda part: part.source != self.origin)


class _Sorted:
    """What an origin wants, sorted into what may be put in force, what has ended and what is refused.

    ``keys`` and ``names``: of all rules and filters that were asked for.
    """

    def __init__(self, origin: str, judge: Judge, wanted: Iterable[Entry], now: float) -> None:
        self.rules: dict[Key, NewRule] = {}
        self.filters: dict[str, NewFilter] = {}
        self.ended: list[Entry] = []
        self.refused: list[Refused] = []
        self.keys: list[Key] = []
        self.names: list[str] = []
        for entry in wanted:
            if isinstance(entry, NewFilter):
                self.names.append(entry.name)
            else:
                self.keys.append((entry.kind, str(entry.target)))
            if why := judge.refusal(entry):
                self.refused.append(Refused(entry.name if isinstance(entry, NewFilter) else entry.target, why))
            elif judge.ended(entry):
                self.ended.append(entry)
            elif isinstance(entry, NewFilter):
                self.filters[entry.name] = entry._replace(reason=plain(entry.reason), source=origin, created=now)
            else:
                self._add(NewRule(entry.kind, entry.target, plain(entry.reason), origin, now, entry.expires))

    def _add(self, rule: NewRule) -> None:
        there = self.rules.get(self.keys[-1])
        if there is not None:  # asked for twice: the later end
            rule = there._replace(expires=later(there.expires, rule.expires))
        self.rules[self.keys[-1]] = rule

    def refuse_those(self, keys: Iterable[Key], why: str) -> None:
        """Refuse some of the rules."""
        for key in keys:
            self.refused.append(Refused(self.rules.pop(key).target, why))

    def deny(self, refused: Iterable[Refused]) -> None:
        """Refuse some of the filters."""
        for its in refused:
            del self.filters[str(its.target)]
            self.refused.append(its)
