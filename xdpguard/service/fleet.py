# SPDX-License-Identifier: GPL-2.0
"""The fleet as part of the service: what comes is put in force, what this host decides is published. Never raises."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from xdpguard.control import needs
from xdpguard.control.controller import Controller
from xdpguard.control.foreign import Answer, Foreign
from xdpguard.fleet.keys import BUCKET, parse_key
from xdpguard.fleet.settings import settings
from xdpguard.fleet.state import State, Target
from xdpguard.net.sockets import Protected
from xdpguard.policy.fleet import Fleet as Settings
from xdpguard.policy.foreign import Entry
from xdpguard.policy.model import Policy
from xdpguard.policy.rule import FLEET
from xdpguard.service.log import in_words
from xdpguard.store import fleet as stored

if TYPE_CHECKING:
    from xdpguard.fleet.link import Batch, Link

_log = logging.getLogger(__name__)

_NEEDED = 1.0  # seconds for which what the host needs is known
_MANY = 200  # changed targets from which all are looked at


class Fleet:
    """Belongs to the daemon's thread."""

    def __init__(self, session: Callable[[], AbstractContextManager[Controller]]) -> None:
        """``session`` opens the controller with the lock held."""
        self._session = session
        self._settings: Settings | None = None
        self._link: Link | None = None
        self._state = State()
        self._places: Collection[str] = ("",)
        self._due: set[Target] = set()
        self._whole = False  # all is to be looked at
        self._needed: list[Protected] = []
        self._needed_at = float("-inf")

    def filenos(self) -> list[int]:
        """Return the descriptors to wait for."""
        return [self._link.fileno()] if self._link else []

    def close(self) -> None:
        """Disconnect."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def look(self, session: Controller, policy: Policy, places: Collection[str]) -> None:
        """Follow the settings, and publish what is due. The lock is held."""
        from xdpguard.fleet.link import Link, Sending  # loads asyncio

        self._places = {"", *places}
        wanted = settings(session.store, policy.fleet)
        if wanted != self._settings:
            self.close()
            self._settings, self._state = wanted, State()
            self._due, self._whole = set(), False
            if wanted is not None:
                self._link = Link(wanted)
                _log.info(f"fleet: host {wanted.name} of {', '.join(wanted.server)}, {wanted.mode} mode")
        if self._link is not None and self._link.connected:
            rows = stored.outbox(session.store).items()
            self._link.publish([Sending(BUCKET, key, value.encode() or None) for key, value in rows])

    def drain(self) -> None:
        """Put in force what came."""
        batches = self._link.taken() if self._link else []
        for batch in batches:
            self._take(batch)
        sent = [it for batch in batches for it in batch.sent]
        if not (sent or self._due or self._whole):
            return
        try:
            with self._session() as session:
                if sent:
                    with session.store.transaction():
                        for it in sent:
                            stored.published(session.store, it.key, (it.data or b"").decode())
                self._apply(session)
        except Exception as error:  # tried again with the next message, and with the next look at everything
            _log.error(f"fleet: what it wants could not be put in force: {in_words(error)}")

    def _take(self, batch: Batch) -> None:
        if batch.failed:
            _log.warning(f"fleet: {batch.failed}")
        if batch.stream:
            self._state.become(batch.messages)
            self._whole = True
            _log.info(f"fleet: connected; {len(self._state):,} entries wanted")
        else:
            self._due |= self._state.take(batch.messages)

    def _apply(self, session: Controller) -> None:
        its = self._settings
        if its is None or not (self._due or self._whole):
            return
        foreign = Foreign(session.ruleset, FLEET, its.limits, places=self._places, needed=self._needs(session))
        if self._whole or len(self._due) > _MANY:
            self._tell(foreign.replace(self._state.all_wanted(its.ban_after)))
        else:
            self._few(foreign, its)
        self._due, self._whole = set(), False

    def _few(self, foreign: Foreign, its: Settings) -> None:
        found = {target: self._state.wanted(target, its.ban_after) for target in self._due}
        self._remove(foreign, [target for target, entry in found.items() if entry is None])
        entries: Iterable[Entry] = [it for it in found.values() if it is not None]
        if entries:
            self._tell(foreign.put(entries))

    def _remove(self, foreign: Foreign, gone: Collection[Target]) -> None:
        keys = [parse_key(f"x.{kind}.{target}") for kind, target in gone]
        for kind in ("block", "allow"):
            targets = [it.target for it in keys if it.kind == kind and not isinstance(it.target, str)]
            if targets and (count := foreign.remove(kind, targets)):
                words = ", ".join(map(str, targets)) if len(targets) <= 5 else f"{count:,} entries"
                _log.info(f"fleet: {words} no longer {'blocked' if kind == 'block' else 'allowed'}")
        if names := [it.target for it in keys if isinstance(it.target, str)]:
            foreign.remove_filters(names)

    def _tell(self, answer: Answer) -> None:
        if answer.changed:
            _log.info(f"fleet: {len(answer.taken):,} entries in force, {len(answer.refused):,} refused")
        for refused in answer.refused[:5]:
            _log.warning(f"fleet: refused {refused}")

    def _needs(self, session: Controller) -> list[Protected]:
        now = time.monotonic()
        if now - self._needed_at > _NEEDED:
            self._needed = needs.now(session.store, self._places)
            self._needed_at = time.monotonic()
        return self._needed
