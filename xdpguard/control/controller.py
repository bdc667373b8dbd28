# SPDX-License-Identifier: GPL-2.0
"""The facade of one instance: attach, detach, configure, audit. It joins the store, the maps and the links.

    changes                     the one way to change anything
    rules, shadow_rules         allow, block and port rules: enforced, and those that only count
    lists, shadow_lists         named lists of both modes
    filters                     filters of both modes, in order
    guard, sysctls              the SYN guard's policy; the sysctls raised while a flood lasts
    default                     what becomes of packets that belong to nothing

The caller of a method that changes anything holds the instance's lock. Most commands only read: what attaching and
loading files need is imported when something is attached or loaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xdpguard.control import audit, configured, namespaces, needed
from xdpguard.control.attachments import Attachments, Dataplane, LinkTable
from xdpguard.control.interfaces import Interface
from xdpguard.control.ruleset import Ruleset
from xdpguard.control.sysctls import RaisedSysctls
from xdpguard.dataplane.sys.holders import holders
from xdpguard.dataplane.tables.rules import Tables
from xdpguard.dataplane.tables.shadow import ShadowTables
from xdpguard.errors import XdpguardError
from xdpguard.net.links import Link
from xdpguard.store.database import Store

if TYPE_CHECKING:
    from xdpguard.control.attach import Outcome
    from xdpguard.control.configuring import Configured
    from xdpguard.control.detach import Detach
    from xdpguard.control.loader import Loader
    from xdpguard.control.plan import Loaded
    from xdpguard.control.planning import Request
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.policy.model import Policy

CONFIG_FACT = "config"  # fact: path of the last configuration file given
_POLICY = "policy"  # fact: when a configuration was last put in force


class Controller:
    """Controls one instance."""

    def __init__(
        self,
        store: Store,
        dataplane: Dataplane,
        links: LinkTable,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        """``on_step`` is called before each step with its name; tests interrupt there."""
        self.store = store
        self.ruleset = Ruleset(store, dataplane, on_step)
        self.changes = self.ruleset.changes
        self.rules, self.shadow_rules = self.ruleset.rules, self.ruleset.shadow_rules
        self.lists, self.shadow_lists = self.ruleset.lists, self.ruleset.shadow_lists
        self.guard, self.default = self.ruleset.guard, self.ruleset.default
        self.filters = self.ruleset.filters
        self.sysctls = RaisedSysctls(store)
        self._dataplane = dataplane
        self._attachments = Attachments(self.ruleset, dataplane, links, on_step)

    def attach(self, request: Request, policy: Policy) -> Outcome:
        """Attach an interface, or swap the program of an attached one atomically."""
        from xdpguard.control.attach import Attach

        return Attach(self._attachments, *self._loaders())(request, policy, lambda: self.taken(policy))

    def detach(self, name: str, netns: str = "") -> Outcome:
        """Detach our program, and only ours. The last detach removes the maps; the store keeps rules and hits."""
        return self._detach().one(name, netns)

    def detach_all(self) -> tuple[list[Outcome], list[XdpguardError]]:
        """Detach every interface of the instance, from the top down, and remove what remains of it in the kernel.

        One that cannot be detached does not stop the others; its error is among those returned.
        """
        return self._detach().all()

    def interfaces(self) -> list[Interface]:
        """Return every interface that carries our program or should, in its current state."""
        return self._attachments.interfaces.all()

    def matching(self, name: str, namespace: str | None) -> list[Interface]:
        """Return the interfaces that a user's words mean; "" and None mean all. Raise UsageError if none matches."""
        return self._attachments.matching(name, namespace)

    def place(self, name: str, namespace: str, anew: bool = False) -> namespaces.Interface:
        """Return the interface that a user's words mean, as it is or would be recorded; see `Attachments.place`."""
        return self._attachments.place(name, namespace, anew)

    def other_program(self, its: Interface) -> str:
        """Describe the program that has replaced ours on an interface: its id, its name, and who holds it."""
        held = holders(its.other)
        name = self._dataplane.name_of(its.other) or "unnamed"
        return f"program {its.other} ({name}){f', held by {held}' if held else ''}"

    def was_lifted(self, name: str, netns: str) -> bool:
        """Return whether an interface lost its program to a change below it that was killed before restoring it."""
        return (name, netns) in self._attachments.interfaces.lifted()

    def links(self, among: Iterable[Interface] | None = None) -> list[Link]:
        """Return the links that carry our program. ``among``: interfaces just looked up; None looks all of them up."""
        return self._attachments.links(among)

    def carriers(self, among: Iterable[Interface] | None = None) -> list[Link]:
        """Return the links that carry our program, renamed ones included: the default is in force on all of them.

        ``among``: as for `links`.
        """
        found = self.interfaces() if among is None else list(among)
        return [*self._attachments.links(found), *self._attachments.renamed(found)]

    def tables(self) -> AbstractContextManager[Tables]:
        """Open the tables of enforced rules in the kernel."""
        return self._dataplane.tables()

    def shadow_tables(self) -> AbstractContextManager[ShadowTables]:
        """Open the tables of shadow rules in the kernel."""
        return self._dataplane.shadow_tables()

    def keep_needed(
        self,
        places: Collection[str] = (),
        lists: Mapping[str, AddressSet] | None = None,
        asked: Mapping[str, AddressSet] | None = None,
    ) -> list[needed.Conflict]:
        """Let through what this host needs although an entry blocks it, and only that; see needed.py.

        ``places``, ``lists``, ``asked``: what is about to be put in force, as in `needed.conflicts`.
        """
        found = needed.conflicts(self.store, {"", *places}, lists=lists, asked=asked)
        needed.keep(self.rules, found)
        return found

    def audit(self, repair: bool = False) -> audit.Audit | None:
        """Audit the kernel against the store; ``repair`` restores what is missing. Return None if not attached."""
        return audit.audit(self.ruleset, repair, self.carriers)

    def follow_lists(self, policy: Policy, due: Callable[[str], bool] = lambda name: True) -> Iterator[Loaded]:
        """Load the configuration's lists whose files are new or have changed; see Loader.follow."""
        from xdpguard.control.plan import NO_PLAN, ListsFailed, Plan, asked, unforced

        def keep(plan: Plan, shadow: bool) -> None:
            plans = (NO_PLAN, plan) if shadow else (plan, NO_PLAN)
            self.keep_needed(lists=unforced(plan.puts), asked=asked(self.store, *plans))

        errors: dict[str, XdpguardError] = {}
        for loader, shadow in zip(self._loaders(), (False, True), strict=True):
            try:
                yield from loader.follow(policy.lists, due, partial(keep, shadow=shadow))
            except ListsFailed as failed:
                errors |= failed.errors
        if errors:
            raise ListsFailed(errors)

    def configure(self, policy: Policy) -> Configured:
        """Put rules, lists and filters of a configuration in force without attaching again; its limits apply at the
        next attach.

        What the host needs is let through, whatever they block. A list that cannot be loaded stays as it is.
        """
        from xdpguard.control.configuring import Configured, Wanted, put
        from xdpguard.control.default import wanted_in_force
        from xdpguard.control.plan import Circumstances
        from xdpguard.control.planning import config_filters, config_rules

        rules, filters = list(config_rules(policy)), config_filters(policy, self.filters)
        default = wanted_in_force(self.default.effective(policy.default))
        around = Circumstances(config=rules, unattended=True)
        plan, shadow = (loader.plan(policy.lists, around) for loader in self._loaders())
        with self.changes.begin():
            put(self.ruleset, Wanted(rules, filters, default, (plan, shadow)), (), awaited=policy.lists)
            self.taken(policy)
        lists = [it.loaded(self.changes.attached()) for it in (*plan.puts, *shadow.puts)]
        return Configured(lists, plan.errors | shadow.errors)

    def config(self) -> Path | None:
        """Return the configuration file of the last attach, or None."""
        held = self.store.fact(CONFIG_FACT)
        return Path(held) if held else None

    def remember_config(self, path: Path | None) -> None:
        """Record the configuration file for the next attach; None deletes the record."""
        held = str(path.absolute()) if path else ""
        with self.store.transaction():
            if self.store.fact(CONFIG_FACT) != held:
                self.store.put_fact(CONFIG_FACT, held)
            configured.hold_back(self.store, None)

    def policy_mark(self) -> str:
        """Return a mark that differs each time a configuration is put in force."""
        return self.store.fact(_POLICY)

    def taken(self, policy: Policy | None) -> None:
        """Record that a configuration is put in force, for `policy_mark` and for an undo; None: it is not known."""
        with self.store.transaction():
            if policy is not None:
                configured.record(self.store, policy)
            self.store.put_fact(_POLICY, str(time.time_ns()))

    def _detach(self) -> Detach:
        from xdpguard.control.detach import Detach

        return Detach(self._attachments, self.sysctls)

    def _loaders(self) -> tuple[Loader, Loader]:
        """Return what fills the lists of both modes from files."""
        from xdpguard.control.loader import Loader

        return Loader(self.lists), Loader(self.shadow_lists)
