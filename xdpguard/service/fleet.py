# SPDX-License-Identifier: GPL-2.0
"""The fleet as part of the service: what comes is put in force, what this host decides is published. Never raises."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import msgspec

from xdpguard import __version__, units
from xdpguard.control.controller import Controller
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.fleet import hosts
from xdpguard.fleet.keys import BUCKET, HOSTS
from xdpguard.fleet.settings import settings
from xdpguard.metrics.fleet import FleetFigures
from xdpguard.metrics.status import Status
from xdpguard.net.links import Link as Interface
from xdpguard.policy.fleet import Fleet as Settings
from xdpguard.policy.model import Policy
from xdpguard.policy.rule import FLEET, GUARD
from xdpguard.service import fleet_own, fleet_sums
from xdpguard.service.fleet_force import Force
from xdpguard.service.fleet_lists import FleetLists
from xdpguard.service.log import in_words
from xdpguard.service.needs import Needs
from xdpguard.store import fleet as stored
from xdpguard.store import origins
from xdpguard.store.database import Store
from xdpguard.store.watch import StoreWatch

if TYPE_CHECKING:
    from xdpguard.fleet.batch import Sending
    from xdpguard.fleet.link import Link

_log = logging.getLogger(__name__)

_OFTEN, _SELDOM = 10.0, 60.0  # seconds between two words about this host: when something changed, and otherwise


class Fleet:
    """Belongs to the daemon's thread."""

    def __init__(
        self, session: Callable[[], AbstractContextManager[Controller]], pins: Pins, needs: Needs, status: Status
    ) -> None:
        """``session`` opens the controller with the lock held; ``needs`` knows what the host needs."""
        self.changed = False  # something was put in force since the last look
        self._session = session
        self._pins = pins
        self._needs = needs
        self._status = status
        self._settings: Settings | None = None
        self._configured = Settings()
        self._link: Link | None = None
        self._force: Force | None = None
        self._lists: FleetLists | None = None
        self._places: Collection[str] = ("",)
        self._failed = self._fault = ""
        self._deleted: set[str] = set()  # keys that this host itself deletes
        self._told = hosts.HostState()
        self._drops = fleet_sums.Drops(pins)
        self._others = fleet_sums.Others()
        self._sums = hosts.HostState()  # what costs more to find, as it was published last
        self._told_at = float("-inf")

    def filenos(self) -> list[int]:
        """Return the descriptors to wait for."""
        return [self._link.fileno()] if self._link else []

    def close(self) -> None:
        """Disconnect."""
        if self._link is not None:
            self._link.close()
        self._link = self._force = self._lists = None
        self._others = fleet_sums.Others()
        self._status.fleet = None

    def look(
        self, session: Controller, policy: Policy, interfaces: Iterable[Interface], places: Collection[str]
    ) -> None:
        """Follow the settings, and say how this host stands. The lock is held."""
        self.changed = False
        self._places, self._configured = {"", *places}, policy.fleet
        wanted = settings(session.store, policy.fleet)
        if wanted != self._settings:
            self._follow(wanted)
        if self._link is None or self._force is None:
            return
        self._force.pend(stored.outbox(session.store))
        self._follow_lists(session)
        self._report(session, interfaces)

    def share(self, session: Controller) -> None:
        """Publish what is recorded to be published, and the guard's bans by choice. The lock is held."""
        if self._link is None or self._force is None or self._settings is None or not self._link.connected:
            return
        from xdpguard.fleet.batch import Sending

        rows = stored.outbox(session.store)
        found = [Sending(BUCKET, key, value.encode() or None) for key, value in rows.items()]
        if self._force.known:
            own = fleet_own.due(session.store, self._force.state, self._settings)
            found += [Sending(BUCKET, *it) for it in own if it[0] not in rows]
        self._deleted = {it.key for it in found if it.data is None}
        self._link.publish(found)

    def drain(self, store: StoreWatch, seen: int, held: Controller | None = None) -> int:
        """Put in force what came. ``held``: the session to do it in, if one is open.

        Returns ``seen``, the version of the store in which everything is known; or the new one, if nobody else has
        changed it since: what comes from the fleet needs no look at all the rest.
        """
        if self._force is None or self._link is None or self._lists is None:
            return seen
        batches = self._link.taken()
        for batch in batches:
            if batch.warning:
                self._force.say("fleet: ", [batch.warning])
                continue
            if batch.failed:
                _log.warning(f"fleet: {batch.failed}")
            elif self._failed and not batch.stream:
                _log.info("fleet: connected again")
            self._failed = batch.failed
            self._lists.took(batch.lists)
            self._others.take(batch.hosts)
            if batch.messages or batch.stream:
                self._force.take(batch.messages, batch.stream, self._deleted)
            if batch.stream:
                _log.info(f"fleet: connected; it wants {units.counted(len(self._force.state), 'entry', 'entries')}")
        sent = [it for batch in batches for it in batch.sent]
        if not sent and not self._force.due and not self._lists.due:
            return seen
        try:
            with self._session() if held is None else nullcontext(held) as session:
                others = store.version() != seen
                _record(session.store, sent)
                if settings(session.store, self._configured) != self._settings:
                    return seen  # it has left, or joined another: what came is not to be put in force, see `look`
                self._force.apply(session, self._places, self._needs.found, self._link.addresses)
                self._follow_lists(session)
                self.changed, seen = True, seen if others else store.version()
            self._fault = ""
        except Exception as error:  # tried again with the next message, and each second
            if in_words(error) != self._fault:
                self._fault = in_words(error)
                _log.error(f"fleet: what it wants could not be put in force: {self._fault}")
        return seen

    def _follow_lists(self, session: Controller) -> None:
        if self._lists is not None and self._force is not None and self._force.known and not self._force.due:
            self._lists.follow(session, self._force.state.lists, self._force.keeping, self._places)

    def _follow(self, wanted: Settings | None) -> None:
        from xdpguard.fleet.link import Link  # loads asyncio

        self.close()
        self._settings = wanted
        if wanted is None:
            _log.info("this host has left its fleet")
            return
        self._link, self._force = Link(wanted), Force(wanted)
        self._lists = FleetLists(wanted, self._link.fetch)
        _log.info(f"fleet: host {wanted.name}, {wanted.mode} mode, server {', '.join(wanted.server)}")

    def _report(self, session: Controller, interfaces: Iterable[Interface]) -> None:
        """Record how this host stands, for `fleet status` here, and publish it."""
        from xdpguard.fleet.batch import Sending

        assert self._link is not None
        assert self._force is not None
        assert self._settings is not None
        its, state, store = self._settings, self._force.state, session.store
        mode = its.limits.mode
        held = origins.count_of(store, mode, FLEET) + sum(it.source == FLEET for it in session.filters.stored.all())
        lists = self._lists.held if self._lists else {}
        refused, crowded = self._lists.refused if self._lists else {}, self._force.crowded
        now = hosts.HostState(
            version=__version__,
            mode=mode,
            digest=state.digest,
            entries=state.keys,
            wanted=len(state),
            held=held + len(lists),
            refused=len(self._force.refused) + len(self._force.surplus) + len(refused),
            broken=len(state.broken),
            keeping=self._force.keeping,
            floods=tuple(fleet_sums.floods(self._pins, interfaces)),
            lists={name: digest[:8] for name, digest in lists.items()},
            bans=origins.count_of(store, "enforce", GUARD),
            clock=self._link.clock.ahead,
        )
        link, waiting = self._link, len(stored.outbox(store))
        figures = (now.wanted, held, now.refused, now.broken, waiting, link.gaps, link.heard, link.refused)
        self._status.fleet = FleetFigures(link.connected, *figures, self._others.totals(time.time() - link.clock.ahead))
        changed, age = now != self._told, time.monotonic() - self._told_at
        due = age >= _SELDOM or ((changed or bool(now.floods)) and age >= _OFTEN)
        if due:
            self._sums = hosts.HostState(drops=self._drops.rates(interfaces), sources=state.sources)
        sums = self._sums
        known = msgspec.structs.replace(now, drops=sums.drops, sources=sums.sources, at=time.time())
        standing = hosts.Standing(
            link.connected, "" if link.connected else self._failed, link.gaps, link.heard, known, refused, crowded
        )
        before = hosts.recorded(store)
        if before is None or _shown(before) != _shown(standing):
            hosts.record(store, standing)
        if link.connected and self._force.known and due:
            self._told, self._told_at = now, time.monotonic()
            hosts.record(store, standing)
            link.publish([Sending(HOSTS, its.name, msgspec.json.encode(known))])


def _record(store: Store, sent: Collection[Sending]) -> None:
    """Record what was published."""
    if sent:
        with store.transaction():
            for it in sent:
                stored.published(store, it.key, (it.data or b"").decode())


def _shown(its: hosts.Standing) -> tuple[object, ...]:
    """Return what is worth a record when it changes: not the time, nor sums that change each second."""
    nothing = hosts.HostState()
    state = msgspec.structs.replace(its.state, at=0.0, drops=nothing.drops, sources=nothing.sources)
    return its.connected, its.failed, its.lists, its.crowded, state
