# SPDX-License-Identifier: GPL-2.0
"""The attachments of one instance in the store, in the kernel and on the links: shared by attach and detach."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from xdpguard.control import namespaces
from xdpguard.control.interfaces import BOOT, Interface, Interfaces, LinkList, Programs
from xdpguard.control.ruleset import Maps, Ruleset
from xdpguard.control.uppers import Uppers
from xdpguard.dataplane.build.program import Built, Target
from xdpguard.dataplane.sys import kernel
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net import netns
from xdpguard.net.links import Link, Mode, NoSuchLink
from xdpguard.net.recorded import recorded_name
from xdpguard.store.attachments import Attachment, attachments, put_attachment

if TYPE_CHECKING:
    from xdpguard.policy.model import Policy


class Dataplane(Programs, Maps, Protocol):
    """What the controller needs from the kernel; KernelDataplane implements it."""

    def build(self, target: Target, policy: Policy) -> Built: ...
    def open_program(self, prog_id: int) -> int: ...


class LinkTable(LinkList, Protocol):
    """What the controller needs from rtnetlink; net.links.Links implements it."""

    def find(self, name: str, namespace: str = "") -> Link: ...
    def is_above(self, upper: Link, lower: Link) -> bool: ...
    def attach(self, link: Link, program: int, mode: Mode, expected: int | None) -> None: ...
    def detach(self, link: Link, mode: Mode, expected: int) -> None: ...


class Attachments:
    """The attached interfaces of one instance."""

    def __init__(
        self, ruleset: Ruleset, dataplane: Dataplane, links: LinkTable, on_step: Callable[[str], None]
    ) -> None:
        self.ruleset = ruleset
        self.store = ruleset.store
        self.dataplane = dataplane
        self.table = links
        self.interfaces = Interfaces(ruleset.store, dataplane, links)
        self.uppers = Uppers(dataplane, links, self.interfaces, on_step)
        self.step = on_step

    def matching(self, name: str, namespace: str | None) -> list[Interface]:
        """Return the interfaces that a user's words mean; "" and None mean all. Raise UsageError if none matches."""
        found = self.interfaces.all()
        recorded = {it.netns for it in attachments(self.store)}
        where = None if namespace is None else recorded_name(namespace, recorded)
        wanted = namespaces.matching([(it.name, it.netns) for it in found], name, where)
        if not wanted and (name or namespace is not None):
            known = ", ".join(netns.place_of(it.name, it.netns) for it in found) or "nothing"
            words = netns.place_of(name or "an interface", namespace)
            raise UsageError(f"{words} is not attached", f"attached: {known}")
        return [it for it in found if (it.name, it.netns) in wanted]

    def place(self, name: str, namespace: str, anew: bool = False) -> namespaces.Interface:
        """Return the interface that a user's words mean, as it is or would be recorded.

        Accepts an alternative name, and for the namespace ``pid N`` or a path. ``anew``: it is about to be attached.
        Raises NoSuchLink or NoSuchNamespace.
        """
        recorded = [(it.name, it.netns) for it in attachments(self.store)]
        where = recorded_name(namespace, (place for _, place in recorded), anew)
        if (name, where) in recorded:
            return name, where
        try:
            return self.table.find(name, where).name, where
        except NoSuchLink:
            if anew:
                raise
            return name, where

    def links(self, among: Iterable[Interface] | None = None) -> list[Link]:
        """Return the links that carry our program. ``among``: interfaces just looked up; None looks all of them up."""
        found = []
        for it in self.interfaces.all() if among is None else among:
            if it.state == "attached" and self.dataplane.pins.is_current(it.name, it.netns):
                try:
                    found.append(self.table.get(it.name, it.netns))
                except NoSuchLink:
                    continue
        return found

    def renamed(self, among: Iterable[Interface] | None = None) -> list[Link]:
        """Return the links that carry our program under another name than the recorded one, or in another namespace.

        ``among``: as for `links`.
        """
        programs = {it.prog_id for it in (self.interfaces.all() if among is None else among) if it.state == "renamed"}
        found = [self.interfaces.renamed(it) for it in attachments(self.store) if it.prog_id in programs]
        return [it for it in found if it is not None]

    @contextmanager
    def program(self, prog_id: int) -> Iterator[int]:
        """Yield a descriptor of an attached program. Raise XdpguardError if it no longer exists."""
        try:
            descriptor = self.dataplane.open_program(prog_id)
        except FileNotFoundError as error:
            raise XdpguardError("the attached program has changed in the meantime", "try again") from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def record(self, link: Link, mode: str, observe: bool, prog_id: int, any_mtu: bool) -> None:
        """Record that an interface should carry a program."""
        with self.store.transaction():
            put_attachment(self.store, Attachment(link.name, link.netns, mode, observe, prog_id, any_mtu), time.time())
            namespaces.record_namespace(self.store, link.netns)
            self.interfaces.note_frames(link, mode, any_mtu)
            self.store.put_fact(BOOT, kernel.boot_id())

    def fold_in(self) -> None:
        """Fold the hits into the store, once, if the kernel holds any."""
        if self.dataplane.exists():
            self.ruleset.fold_in()

    def retire(self) -> None:
        """Fold the hits into the store and remove every pin."""
        self.fold_in()
        self.step("unpin")
        self.dataplane.pins.remove_all()
