# SPDX-License-Identifier: GPL-2.0
"""Detach our program, and only ours. A detach that is killed at any moment can be repeated."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from xdpguard.control import builds, namespaces
from xdpguard.control.attach import Outcome
from xdpguard.control.attachments import Attachments
from xdpguard.control.hanging import take_off
from xdpguard.control.interfaces import Interface
from xdpguard.control.sysctls import RaisedSysctls
from xdpguard.errors import XdpguardError
from xdpguard.net.links import Link, Mode, NoSuchLink
from xdpguard.net.netns import arguments_of, place_of
from xdpguard.store.attachments import attachments, remove_attachment
from xdpguard.store.room import check_room, rehearsal


class _Carried(NamedTuple):
    """A link that carries our program, in which mode, and the program's id."""

    link: Link
    mode: Mode
    prog_id: int


class Detach:
    """Detaches interfaces from an instance."""

    def __init__(self, attachments: Attachments, sysctls: RaisedSysctls) -> None:
        self._its = attachments
        self._sysctls = sysctls

    def one(self, name: str, netns: str = "") -> Outcome:
        """Detach our program, and only ours. The last detach removes the maps; the store keeps rules and hits."""
        its = self._its
        known = its.interfaces.known(name, netns)
        notes: list[str] = []
        try:
            link: Link | None = its.table.get(name, netns)
        except NoSuchLink as error:
            if known is None:
                raise NoSuchLink(str(error), self._elsewhere(name) or error.remedy) from error
            link = None
        if known and not (link and its.interfaces.ours(link, known)):
            # Another interface may have taken its name.
            there = its.interfaces.renamed(known)
            if there:
                notes.append(f"{place_of(name, netns)} is now {place_of(there.name, there.netns)}; detached there")
            elif link is None:
                notes.append(f"{place_of(name, netns)} no longer exists; its record was removed")
            link = there or link
        found = link.xdp if link else None
        carried = None
        if link and found and found.mode != "offload" and its.interfaces.ours(link, known):
            carried = _Carried(link, found.mode, found.prog_id)
        elif known is None:
            remedy = self._elsewhere(name) or "see xdpguard status"
            raise XdpguardError(f"{place_of(name, netns)} carries no program of this instance", remedy)
        elif found:
            other = its.dataplane.name_of(found.prog_id)
            notes.append(
                f"{place_of(name, netns)} carries somebody else's program {found.prog_id} ({other}); left alone"
            )
        elif link:
            notes.append(f"{place_of(name, netns)} no longer carried a program")
        moved = self._off(name, netns, carried)
        if link and not carried:
            take_off(link)  # left by a detach that was killed
        its.dataplane.pins.remove_link(name, netns)
        restored = its.ruleset.guard.offloads.restore(name, netns, link.name if link else "")
        if self._is_last():
            its.retire()
        last = not any(there.netns == netns for there in attachments(its.store))
        restored += self._sysctls.restore(netns) if last else []
        mode = known.mode if known else (found.mode if found else "")
        interface = Interface(name, netns, mode, bool(known and known.observe), None, "detached")
        return Outcome(interface, notes, restored, moved=moved)

    def _off(self, name: str, netns: str, carried: _Carried | None) -> list[str]:
        """Detach the program, if the interface carries it, and forget the interface: both or neither.

        Returns notes on devices above.
        """
        its, off = self._its, False
        moved: list[str] = []
        with ExitStack() as held:
            program = held.enter_context(its.program(carried.prog_id)) if carried else -1
            if carried:
                held.enter_context(its.uppers.announced(carried.link))
            try:
                with its.store.transaction():
                    self._forget(name, netns)
                    if carried:
                        its.step("detach")
                        change = partial(its.table.detach, carried.link, carried.mode, program)
                        _, moved = its.uppers.change(carried.link, change)
                        off = True
                    if carried:
                        its.step("egress")
                        take_off(carried.link)
                    if self._is_last():
                        its.step("fold in")
                        its.fold_in()
            except BaseException:
                if carried and off:
                    its.uppers.change(
                        carried.link, partial(its.table.attach, carried.link, program, carried.mode, None)
                    )
                    its.ruleset.default.hang_again([carried.link])
                raise
        return moved

    def _forget(self, name: str, netns: str) -> None:
        """Forget an interface, within a transaction that has room for all that follows."""
        its = self._its
        its.step("forget")
        remove_attachment(its.store, name, netns)
        builds.forget(its.store, name, netns)
        namespaces.forget_namespace(its.store, netns)
        if not attachments(its.store):
            with rehearsal(its.store):
                its.fold_in()
        check_room(its.store)

    def _elsewhere(self, name: str) -> str:
        """Return how to detach the interface of that name that is attached in another namespace; empty without one."""
        there = [it for it in attachments(self._its.store) if it.name == name]
        words = [f"xdpguard detach {arguments_of(it.name, it.netns)}" for it in there]
        return f"the one that is attached: {', or '.join(words)}" if words else ""

    def _is_last(self) -> bool:
        return not attachments(self._its.store) and not self._its.interfaces.orphans()

    def all(self) -> tuple[list[Outcome], list[XdpguardError]]:
        """Detach every interface of the instance, from the top down, and remove what remains of it in the kernel.

        One that cannot be detached does not stop the others; its error is among those returned.
        """
        done, errors = [], []
        interfaces = self._its.uppers.from_top(self._its.interfaces.all())
        for it in interfaces:
            try:
                done.append(self.one(it.name, it.netns))
            except XdpguardError as error:
                errors.append(error)
        if not interfaces:
            self._its.retire()
        if not errors:
            self._sysctls.restore()
        return done, errors
