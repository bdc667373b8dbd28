# SPDX-License-Identifier: GPL-2.0
"""What one instance has attached, in the store, in the kernel and on the links: what attach and detach share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from xdpguard.control import namespaces, needed
from xdpguard.control.books import Books
from xdpguard.control.guard import Guardbook
from xdpguard.control.interfaces import BOOT, Interface, Inventory, LinkList, Programs
from xdpguard.control.loader import Loader
from xdpguard.control.sysctls import Loans
from xdpguard.control.uppers import Uppers
from xdpguard.dataplane.build.program import Built, Target
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.rules import Tables
from xdpguard.dataplane.tables.shadow import ShadowTables
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net import netns
from xdpguard.net.links import Link, Mode, NoSuchLink
from xdpguard.policy.model import Policy
from xdpguard.policy.rule import NewRule
from xdpguard.store.database import Attachment, Store

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_POLICY = "policy"  # fact: when a configuration was last put in force


class Dataplane(Programs, Protocol):
    """What the controller needs of the kernel; KernelDataplane is the real one."""

    pins: Pins

    def build(self, target: Target, policy: Policy) -> Built: ...
    def tables(self) -> AbstractContextManager[Tables]: ...
    def shadow_tables(self) -> AbstractContextManager[ShadowTables]: ...
    def open_program(self, prog_id: int) -> int: ...


class LinkTable(LinkList, Protocol):
    """What the controller needs of rtnetlink; net.links.Links is the real one."""

    def find(self, name: str, namespace: str = "") -> Link: ...
    def is_above(self, upper: Link, lower: Link) -> bool: ...
    def attach(self, link: Link, program: int, mode: Mode, expected: int | None) -> None: ...
    def detach(self, link: Link, mode: Mode, expected: int) -> None: ...


class Attachments(Books):
    """One instance."""

    def __init__(
        self,
        store: Store,
        dataplane: Dataplane,
        links: LinkTable,
        on_step: Callable[[str], None] = lambda step: None,
    ) -> None:
        """``on_step`` hears the name of each step before it is taken; tests interrupt there."""
        super().__init__(store, dataplane)
        self._dataplane = dataplane
        self._links = links
        self._step = on_step
        self._inventory = Inventory(store, dataplane, links)
        self.guard = Guardbook(store, dataplane.pins)
        self.loader = Loader(store, self.lists)
        self.loans = Loans(store)
        self._uppers = Uppers(dataplane, links, self._inventory, on_step)

    def interfaces(self) -> list[Interface]:
        """Every interface that carries our program or should, as it is now."""
        return self._inventory.interfaces()

    def meant(self, name: str, namespace: str | None) -> list[Interface]:
        """Those of `interfaces` that a user's words mean; "" and None: all. UsageError when none is meant."""
        found = self.interfaces()
        recorded = {it.netns for it in self.store.attachments()}
        where = None if namespace is None else netns.meant(namespace, recorded)
        wanted = namespaces.meant([(it.name, it.netns) for it in found], name, where)
        if not wanted and (name or namespace is not None):
            known = ", ".join(netns.place_of(it.name, it.netns) for it in found) or "nothing"
            words = netns.place_of(name or "an interface", namespace)
            raise UsageError(f"{words} is not attached", f"attached: {known}")
        return [it for it in found if (it.name, it.netns) in wanted]

    def place(self, name: str, namespace: str, anew: bool = False) -> namespaces.Interface:
        """The interface that a user's words mean, as it is or would be recorded: also by an alternative name, and its
        namespace also by ``pid N`` or a path. ``anew``: it is to be attached. NoSuchLink, NoSuchNamespace.
        """
        recorded = [(it.name, it.netns) for it in self.store.attachments()]
        where = netns.meant(namespace, (place for _, place in recorded), anew)
        if (name, where) in recorded:
            return name, where
        try:
            return self._links.find(name, where).name, where
        except NoSuchLink:
            if anew:
                raise
            return name, where

    def was_lifted(self, name: str, netns: str) -> bool:
        """Whether an interface lost its program to a change below it that was killed before it was put back."""
        return (name, netns) in self._inventory.lifted()

    def tables(self) -> AbstractContextManager[Tables]:
        """The rule tables in the kernel."""
        return self._dataplane.tables()

    def links(self) -> list[Link]:
        """The links that carry our program."""
        found = []
        for it in self.interfaces():
            if it.state == "attached" and self._dataplane.pins.is_current(it.name, it.netns):
                try:
                    found.append(self._links.get(it.name, it.netns))
                except NoSuchLink:
                    continue
        return found

    def keep_needed(
        self,
        places: Collection[str] = (),
        rules: Collection[NewRule] = (),
        lists: Mapping[str, AddressSet] | None = None,
    ) -> list[needed.Conflict]:
        """Lets through what this host needs although an entry blocks it, and no longer what it does not; see needed.py.

        ``places``, ``rules`` and ``lists``: what is about to be put in force, as in `needed.conflicts`.
        """
        found = needed.conflicts(self.store, {"", *places}, rules, lists)
        needed.keep(self.store, self.rules, found)
        return found

    def policy_mark(self) -> str:
        """Another text whenever a configuration was put in force."""
        return self.store.fact(_POLICY)

    def _policy_changed(self) -> None:
        with self.store.transaction():
            self.store.put_fact(_POLICY, str(time.time_ns()))

    @contextmanager
    def _program(self, prog_id: int) -> Iterator[int]:
        try:
            descriptor = self._dataplane.open_program(prog_id)
        except FileNotFoundError as error:
            raise XdpguardError("the attached program changed meanwhile", "try again") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _record(self, link: Link, mode: str, observe: bool, prog_id: int, any_mtu: bool) -> None:
        with self.store.transaction():
            self.store.put_attachment(Attachment(link.name, link.netns, mode, observe, prog_id, any_mtu), time.time())
            namespaces.record_namespace(self.store, link.netns)
            self.store.put_fact(BOOT, kernel.boot_id())

    def _retire(self) -> None:
        """Takes the hits into the store and removes every pin."""
        if self._dataplane.exists():
            with self._dataplane.tables() as tables:
                self.rules.harvest(tables)
            self.lists.harvest()
            self.shadow.harvest()
        self._step("unpin")
        self._dataplane.pins.remove_all()
