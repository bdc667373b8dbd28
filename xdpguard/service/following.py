# SPDX-License-Identifier: GPL-2.0
"""Attach to the interfaces that the records and the configuration name, as they appear and disappear.

An interface that was recreated lost our program without anybody's intent, so it is attached again at once; one whose
program somebody took off or replaced: see taken.py.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import NamedTuple

from xdpguard.control.controller import Controller
from xdpguard.control.interfaces import Interface
from xdpguard.control.planning import Request
from xdpguard.errors import XdpguardError
from xdpguard.net import netns
from xdpguard.net.links import NoSuchLink
from xdpguard.net.netns import arguments_of, place_of
from xdpguard.policy.attach import AttachTo
from xdpguard.policy.model import Policy
from xdpguard.service.notify import supervised
from xdpguard.service.taken import Losses, Place
from xdpguard.store.attachments import attachments

_log = logging.getLogger(__name__)

_AGAIN = 60.0  # seconds after which a failed attach is retried


class Identity(NamedTuple):
    """Identity of an interface until reboot: names and indexes are reused, the cookie of a namespace is not."""

    cookie: int
    ifindex: int


class Failure(NamedTuple):
    """A failed attach: the interface, when it failed (monotonic, s), and why."""

    identity: Identity | None
    at: float
    error: XdpguardError


class Following:
    """Follows the interfaces of one instance."""

    def __init__(self, wanted: Iterable[AttachTo] = ()) -> None:
        """``wanted``: interfaces to attach to in addition to those in the configuration."""
        self._more = tuple(wanted)
        self._policy = Policy()
        self._awaited: dict[Place, AttachTo] = {}  # named, but not attached yet
        self._known: dict[Place, Identity] = {}  # the interface that carried the program at the last look
        self._told: dict[Place, str] = {}  # the last message about it
        self._held_back: list[tuple[Place, int, str]] | None = None  # messages while it begins, with their levels
        self._failed: dict[Place, Failure] = {}
        self._losses = Losses()

    def begin(self, session: Controller, policy: Policy, now: float) -> None:
        """Attach what a reboot has detached and what is named; wait for interfaces that do not exist yet.

        Raises XdpguardError if there is nothing to attach to and nothing to wait for, unless systemd supervises it.
        """
        held_back: list[tuple[Place, int, str]] = []
        self._held_back = held_back
        told: Place | None = None  # the one whose failure is raised, which is not logged as well
        try:
            told = self._begin(session, policy, now)
            if told is not None:
                raise self._failed[told].error
        finally:
            self._held_back = None
            for place, level, text in held_back:
                if place != told:
                    _log.log(level, text)

    def _begin(self, session: Controller, policy: Policy, now: float) -> Place | None:
        """Attach what can be attached; return the first that failed if there is nothing else, None if it goes on."""
        self.name(session, policy, now)
        for it in session.interfaces():
            if it.state == "detached":
                self._attach(session, it, now)
        self.look(session, now)
        if session.links():
            return None
        places = {*self._awaited, *((it.name, it.netns) for it in session.interfaces())}
        if self._failed and not places - set(self._failed):
            return next(iter(self._failed))
        if not places and not supervised():
            raise XdpguardError(
                "nothing is attached",
                "attach an interface first: xdpguard attach IFACE; or name it: run --attach IFACE, or "
                '[attach] interfaces = ["IFACE"] in the configuration',
            )
        if not places:  # a package has just been installed: it would be started again and again
            _log.info(
                "nothing is attached; waiting for xdpguard attach IFACE, or for "
                '[attach] interfaces = ["IFACE"] in the configuration and a reload'
            )
        return None

    def name(self, session: Controller, policy: Policy, now: float) -> None:
        """Adopt a configuration: await the interfaces it names, and re-attach those whose ``observe`` it changes."""
        before, self._policy = self._policy, policy
        named = self._named()
        there = {(it.name, it.netns): it for it in session.interfaces()}
        for its in before.attach:
            if its.place not in named and its.place in there:
                _log.warning(
                    f"{place_of(*its.place)} is no longer in the configuration, but stays attached; "
                    f"to detach it: xdpguard detach {arguments_of(*its.place)}"
                )
        self._awaited = {place: its for place, its in named.items() if place not in there}
        self._failed.clear()
        for its in policy.attach:
            place, it = its.place, there.get(its.place)
            if it and it.state == "attached" and it.observe != its.observe:
                self._attach(session, it, now)
            if it and it.state == "attached" and its.mode not in ("auto", it.mode):
                self._tell(
                    place, f"{place_of(*place)} is attached in {it.mode} mode; to use {its.mode} mode, detach it first"
                )

    def awaited(self) -> list[str]:
        """Return the interfaces that are named but not attached, as text."""
        return [place_of(*place) for place in self._awaited]

    def due(self, now: float) -> bool:
        """Return whether an interface is to be attached again now."""
        return self._losses.due(now)

    def places(self, session: Controller) -> set[str]:
        """Return the network namespaces of all interfaces that are followed."""
        return {it.netns for it in attachments(session.store)} | {netns for _, netns in self._awaited}

    def look(self, session: Controller, now: float, deleted: Iterable[tuple[str, int]] = ()) -> None:
        """Attach interfaces that have appeared or were recreated (``now``: monotonic, s).

        ``deleted``: namespace and index of removed interfaces, including those whose index is in use again.
        """
        self._forget(deleted)
        found = session.interfaces()
        for place in list(self._awaited):
            if any((it.name, it.netns) == place for it in found):
                del self._awaited[place]  # attached by a command meanwhile
            else:
                self._try(session, place, None, now)
        for it in found:
            self._follow(session, it, now)
        current = {(it.name, it.netns) for it in found} | set(self._awaited)
        self._losses.keep(current)
        for held in (self._known, self._told, self._failed):
            for place in set(held) - current:
                del held[place]

    def _follow(self, session: Controller, it: Interface, now: float) -> None:
        place = (it.name, it.netns)
        words = place_of(*place)
        identity = _identity(it)
        if it.state == "attached":
            self._known[place] = identity
            self._told.pop(place, None)
            self._failed.pop(place, None)
            self._losses.attached(place, now)
        elif it.state == "gone":
            self._known.pop(place, None)
            self._tell(place, f"{words} does not exist; it will be attached again when it returns")
        elif it.state == "renamed":
            self._tell(place, f"{words} was renamed or moved; it is still attached: see xdpguard status")
        elif self._known.get(place) != identity or session.was_lifted(*place):
            self._try(session, place, it, now)
        elif it.state == "replaced":
            self._tell(place, self._losses.replaced(it, session.other_program))
        else:
            text = self._losses.taken_off(it, now, failed=place in self._failed)
            if text is None:
                self._try(session, place, it, now)
            else:
                self._tell(place, text)

    def _try(self, session: Controller, place: Place, it: Interface | None, now: float) -> None:
        """Attach, unless that failed with the same interface less than _AGAIN ago."""
        failed, identity = self._failed.get(place), _identity(it) if it else None
        if failed is None or failed.identity != identity or now - failed.at >= _AGAIN:
            self._attach(session, it or Interface(*place, "", False, None, "detached"), now)

    def _attach(self, session: Controller, it: Interface, now: float) -> None:
        place = (it.name, it.netns)
        words, again = place_of(*place), " again" if place not in self._awaited else ""
        try:
            outcome = session.attach(self._request(it), self._policy)
        except NoSuchLink:
            self._tell(place, f"{words} does not exist; it will be attached when it appears", logging.INFO)
            return
        except XdpguardError as error:
            self._failed[place] = Failure(_identity(it) if it.ifindex else None, now, error)
            self._tell(place, f"{words} was not attached: {error}; {error.remedy}", logging.ERROR)
            return
        self._awaited.pop(place, None)
        self._failed.pop(place, None)
        self._told.pop(place, None)
        self._losses.attached(place, now)
        _log.info(f"attached to {words}{again}, in {outcome.interface.mode} mode")
        for note in outcome.notes:
            _log.warning(note)

    def _request(self, it: Interface) -> Request:
        told = {its.place: its for its in self._policy.attach}
        its = told.get((it.name, it.netns)) or AttachTo(it.name, it.netns, observe=it.observe)
        return Request(it.name, it.netns, its.mode, its.observe, unattended=True, any_mtu=it.any_mtu)

    def _named(self) -> dict[Place, AttachTo]:
        return {its.place: its for its in (*self._more, *self._policy.attach)}

    def _forget(self, deleted: Iterable[tuple[str, int]]) -> None:
        for namespace, ifindex in deleted:
            for place, identity in list(self._known.items()):
                if place[1] == namespace and identity.ifindex == ifindex:
                    del self._known[place]
            for place in [it for it in self._failed if it[1] == namespace]:
                del self._failed[place]

    def _tell(self, place: Place, text: str, level: int = logging.WARNING) -> None:
        """Log a message about an interface unless it is empty or the same as the last one."""
        if text and self._told.get(place) != text:
            self._told[place] = text
            if self._held_back is None:
                _log.log(level, text)
            else:
                self._held_back.append((place, level, text))


def _identity(it: Interface) -> Identity:
    with contextlib.suppress(netns.NoSuchNamespace):
        return Identity(netns.cookie_of(netns.place(it.netns)), it.ifindex)
    return Identity(0, 0)
