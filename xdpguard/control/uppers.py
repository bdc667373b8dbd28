# SPDX-License-Identifier: GPL-2.0
"""Devices above others: a bridge above its ports, a macvlan or VLAN above its parent, a bond above its members.

While a device carries an XDP program in any mode, the kernel refuses every change to the program of a device directly
below it (net/core/dev.c, dev_xdp_attach). So changes go from the top down; and for a change below, our programs above
are detached and attached again: they stay loaded, so that this takes no longer than a few netlink requests.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Protocol, TypeVar

from xdpguard import signals
from xdpguard.control.interfaces import Interface, Interfaces
from xdpguard.errors import XdpguardError
from xdpguard.net.links import Link, Mode, NoSuchLink
from xdpguard.net.netns import place_of
from xdpguard.net.refusals import AttachRefused

_T = TypeVar("_T")
# They install a native program on their members, and accept none while a member has its own (bond_xdp_set()).
_TEAMS = ("bond", "team")


class _Programs(Protocol):
    def open_program(self, prog_id: int) -> int: ...


class _Links(Protocol):
    def get(self, name: str, namespace: str = "") -> Link: ...
    def is_above(self, upper: Link, lower: Link) -> bool: ...
    def attach(self, link: Link, program: int, mode: Mode, expected: int | None) -> None: ...
    def detach(self, link: Link, mode: Mode, expected: int) -> None: ...


class Uppers:
    """Orders changes to the stacked interfaces of one instance."""

    def __init__(
        self, programs: _Programs, links: _Links, interfaces: Interfaces, on_step: Callable[[str], None]
    ) -> None:
        self._programs = programs
        self._links = links
        self._interfaces = interfaces
        self._step = on_step

    def from_top(self, interfaces: Sequence[Interface]) -> list[Interface]:
        """Return the same interfaces in an order in which none comes after one below it."""
        links = [self._link(it) for it in interfaces]
        left, found = list(range(len(interfaces))), []
        while left:
            free = [it for it in left if not any(self._is_above(links[other], links[it]) for other in left)]
            found += free or left
            left = [it for it in left if it not in found]
        return [interfaces[it] for it in found]

    def change(self, link: Link, step: Callable[[], _T]) -> tuple[_T, list[str]]:
        """Run a step that changes a link's program; if our programs above prevent it, detach them meanwhile.

        Returns the step's result, and notes. Raises AttachRefused if a program above is not ours.
        """
        try:
            return step(), []
        except AttachRefused as refused:
            uppers = self._interfaces.above(link, self._links.is_above) if refused.code == errno.EEXIST else []
            if not uppers:
                raise
            names = ", ".join(place_of(it.name, it.netns) for it in uppers)
            teams = [it for it in uppers if it.kind in _TEAMS and it.xdp and it.xdp.mode == "native"]
            if teams:
                team = place_of(teams[0].name, teams[0].netns)
                raise AttachRefused(
                    f"{refused} ({names})",
                    f"leave it: the program of {team} already runs on its members, and could not be attached again",
                    refused.code,
                ) from refused
            others = [it for it in uppers if not self._interfaces.is_ours(it)]
            if others:
                off = " and ".join(place_of(it.name, it.netns) for it in others)
                raise AttachRefused(
                    f"{refused} ({names})",
                    f"detach the program from {off} first, and attach it again afterwards: it is not this instance's,"
                    " and was left alone",
                    refused.code,
                ) from refused
        with self._without(uppers):
            done = step()
        why = "the kernel refuses changes below a device that carries a program"
        return done, [f"{names}: the program was detached for a moment and is attached again; {why}"]

    @contextmanager
    def announced(self, link: Link) -> Iterator[None]:
        """Record our programs above a link durably, before `change` may detach them within a transaction."""
        above = self._interfaces.above(link, self._links.is_above)
        ours = [(it.name, it.netns) for it in above if self._interfaces.is_ours(it)]
        if not ours:
            yield
            return
        self._interfaces.note_lifted(ours)
        try:
            yield
        finally:
            self._interfaces.note_lifted(())

    @contextmanager
    def _without(self, uppers: Sequence[Link]) -> Iterator[None]:
        """Detach our programs from these links, and attach them again even if the block fails."""
        with ExitStack() as held:
            held.enter_context(signals.blocked(*signals.ENDING))  # no signal may end us halfway
            lifted: list[tuple[Link, Mode, int]] = []
            # After a kill meanwhile, this record tells `run` that nobody wanted them detached.
            self._interfaces.note_lifted([(it.name, it.netns) for it in uppers])
            try:
                for it in uppers:
                    assert it.xdp is not None
                    assert it.xdp.mode != "offload"
                    program = self._programs.open_program(it.xdp.prog_id)
                    held.callback(os.close, program)
                    self._links.detach(it, it.xdp.mode, program)
                    lifted.append((it, it.xdp.mode, program))
                self._step("lifted")
                yield
            finally:
                self._put_back(lifted)
                self._interfaces.note_lifted(())

    def _put_back(self, lifted: Sequence[tuple[Link, Mode, int]]) -> None:
        lost = []
        for it, mode, program in reversed(lifted):
            try:
                self._links.attach(it, program, mode, None)
            except XdpguardError as error:
                lost.append((place_of(it.name, it.netns), error))
        if lost:
            raise XdpguardError(
                "; ".join(f"{name} no longer carries a program: {error}" for name, error in lost),
                f"attach again to {', '.join(name for name, _ in lost)}",
            )

    def _link(self, interface: Interface) -> Link | None:
        try:
            return self._links.get(interface.name, interface.netns)
        except NoSuchLink:
            return None

    def _is_above(self, upper: Link | None, lower: Link | None) -> bool:
        return upper is not None and lower is not None and upper is not lower and self._links.is_above(upper, lower)
