# SPDX-License-Identifier: GPL-2.0
"""Changes of what drops and what only counts at once: promoting shadow entries, taking both away. All or nothing.

Everything is done within one transaction of the store, the kernel's part included. Whoever is killed in the middle has
not done it: the store is as it was, says that the maps may differ, and the next change brings them in line with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from xdpguard.control import needed, safety
from xdpguard.control.entries import INTERRUPTED, Dataplane, Rulebook
from xdpguard.control.lists import Listbook
from xdpguard.control.loader import CONFIG, check_size
from xdpguard.control.shadowbook import ShadowList, ShadowRule
from xdpguard.control.shadowing import Shadowing
from xdpguard.errors import XdpguardError
from xdpguard.policy.hits import NO_SPLIT, Split
from xdpguard.policy.rule import NewRule, Rule
from xdpguard.policy.target import Prefix, Target
from xdpguard.store.database import Store

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.store.lists import NamedList

_FORCE = "look at them (xdpguard rules); --force promotes all the same"


class Books(Protocol):
    """Where everything is kept."""

    store: Store
    rules: Rulebook
    lists: Listbook
    shadow: Shadowing


@dataclass
class Promotion:
    """Shadow entries that are to drop from now on, and what is to be known before."""

    rules: list[ShadowRule] = field(default_factory=list)
    lists: list[ShadowList] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    in_force: bool = False

    @property
    def split(self) -> Split:
        """What they would have dropped so far."""
        total = NO_SPLIT
        for split in (*(it.split for it in self.rules), *(it.split for it in self.lists)):
            total = total.plus(split)
        return total


class Promoter:
    """Changes both kinds of entries. Wants the instance's lock held."""

    def __init__(self, books: Books, dataplane: Dataplane, on_step: Callable[[str], None] = lambda step: None) -> None:
        self._store = books.store
        self._rules = books.rules
        self._lists = books.lists
        self._shadow = books.shadow
        self._dataplane = dataplane
        self._step = on_step

    def choose(self, targets: Collection[Target], names: Collection[str], everything: bool) -> Promotion:
        """The entries that are meant. XdpguardError naming the first that is not there, or cannot be promoted."""
        rules = {it.rule.target: it for it in self._shadow.rules.in_force()}
        lists = {it.found.its.name: it for it in self._shadow.lists.counted()}
        for target in targets:
            if target not in rules:
                raise XdpguardError(
                    f"there is no shadow rule for {target}",
                    "nothing was changed; xdpguard rules --kind shadow tells which there are",
                )
        for name in names:
            if name not in lists:
                known = ", ".join(lists) or "none"
                raise XdpguardError(f"there is no shadow list {name}", f"nothing was changed; shadow lists: {known}")
            if lists[name].found.its.source == CONFIG:
                raise XdpguardError(
                    f"{name} is a shadow list by the configuration file",
                    f"nothing was changed; take shadow = true out of [lists.{name}] there, and reload or attach again",
                )
        found = Promotion()
        if everything:
            found.rules = list(rules.values())
            found.lists = [it for it in lists.values() if it.found.its.source != CONFIG]
            for it in lists.values():
                if it.found.its.source == CONFIG:
                    found.notes.append(f"{it.found.its.name} stays a shadow list: the configuration file says so")
        else:
            found.rules = [rules[target] for target in dict.fromkeys(targets)]
            found.lists = [lists[name] for name in dict.fromkeys(names)]
        if not found.rules and not found.lists:
            raise XdpguardError("there is nothing to promote", "; ".join(found.notes) or "no shadow rule or list")
        return found

    def check(self, chosen: Promotion) -> None:
        """Refuses what a real block or load would be refused for, and what would have hit established peers."""
        for it in chosen.rules:
            target, end = it.rule.target, it.rule.expires
            assert isinstance(target, Prefix)
            safety.check_block(self._store, [target], None if end is None else end - time.time())
        for its in (it.found.its for it in chosen.lists):
            before = self._lists.shelf.find(its.name)
            check_size(its.name, its.given, before)
            safety.check_list(self._store, its.name, self._shadow.lists.shelf.entries(its.name))
        hit = [
            (str(it.rule.target), it.split.established.packets) for it in chosen.rules if it.split.established.packets
        ]
        hit += [
            (f"the list {it.found.its.name}", it.split.established.packets)
            for it in chosen.lists
            if it.split.established.packets
        ]
        if hit:
            packets, first = sum(count for _, count in hit), hit[0][0]
            more = f" and {len(hit) - 1:,} more" if len(hit) > 1 else ""
            raise XdpguardError(
                f"{first}{more} would have dropped {packets:,} packets of established peers",
                f"nothing was changed; {_FORCE}",
            )

    def promote(self, chosen: Promotion, force: bool) -> None:
        """Lets the entries drop, with their reasons, origins and ends."""
        held = self._store.find("block", [it.rule.target for it in chosen.rules])
        real = [_promoted(it.rule, held.get(it.rule.target)) for it in chosen.rules]
        puts: list[tuple[NamedList, AddressSet]] = []
        for its in (it.found.its for it in chosen.lists):
            before = self._lists.shelf.find(its.name)
            taken = [it.number for it, _ in puts]
            number = before.number if before else self._lists.shelf.free_number(taken)
            if before and before.source == CONFIG:
                chosen.notes.append(f"{its.name} stands in the configuration file: what that names comes back with it")
            new = its._replace(
                number=number,
                source=before.source if before else its.source,
                forced=force,
                packets=before.packets if before else 0,
                bytes=before.bytes if before else 0,
            )
            puts.append((new, self._shadow.lists.shelf.entries(its.name)))
        with self.all_or_nothing():
            if real:
                kept = self._rules.add_rules(real).kept
                if kept:
                    chosen.notes.append(f"{kept:,} of them stand in the configuration file and stay as they are there")
            self._step("lists")
            if puts:
                self._lists.apply(puts, [])
            self._step("shadow-rules")
            self._shadow.rules.remove([it.rule for it in chosen.rules])
            self._step("shadow-lists")
            if chosen.lists:
                self._shadow.lists.apply([], [it.found.its.name for it in chosen.lists])
            self._step("commit")
        if force:
            needed.accept(self._store, blocks=[it.rule.target for it in chosen.rules])
        self._step("done")
        chosen.in_force = self._dataplane.exists()

    def unblock(self, real: Sequence[Target], shadow: Sequence[Rule]) -> None:
        """Takes block rules and shadow rules away."""
        if not shadow:
            self._rules.remove("block", real)
            return
        with self.all_or_nothing():
            if real:
                self._rules.remove("block", real)
            self._step("shadow-rules")
            self._shadow.rules.remove(shadow)

    def drop_lists(self, real: Sequence[str], shadow: Sequence[str]) -> None:
        """Takes lists and shadow lists away."""
        if not (real and shadow):
            (self._lists if real else self._shadow.lists).apply([], real or shadow)
            return
        with self.all_or_nothing():
            self._lists.apply([], real)
            self._step("shadow-lists")
            self._shadow.lists.apply([], shadow)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What is done inside is done wholly, in store and kernel, or not at all."""
        self.mend()
        attached = self._dataplane.exists()
        if attached:
            with self._store.transaction():
                self._store.put_fact(INTERRUPTED, "1")
        self._step("begin")
        try:
            with self._store.transaction():
                # Whoever asks from here on is part of this; with a kill it is taken back, and stands there again.
                self._store.put_fact(INTERRUPTED, "")
                yield
        except BaseException:
            self.mend()
            raise

    def mend(self) -> None:
        """Puts in force what an interrupted change has left."""
        if self._dataplane.exists():
            with self._dataplane.tables() as tables:
                self._rules.settle(tables)


def _promoted(shadow: Rule, held: Rule | None) -> NewRule:
    """A rule that is there already keeps its end when that is later: nobody is let in earlier for being promoted."""
    end = shadow.expires
    if held is not None and end is not None:
        end = None if held.expires is None else max(end, held.expires)
    return NewRule("block", shadow.target, shadow.reason, shadow.source, shadow.created, end)
