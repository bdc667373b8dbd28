# SPDX-License-Identifier: GPL-2.0
"""``xdpguard run``: watches the guard, logs what it does, and does what the data plane cannot do alone.

It may die at any moment: the data plane keeps working, and every temporary change is recorded in the store.
"""

from __future__ import annotations

import logging
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from xdpguard import signals
from xdpguard.control.controller import Controller
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.entries import boot_offset
from xdpguard.errors import XdpguardError
from xdpguard.metrics.service import Service
from xdpguard.net.links import Link
from xdpguard.policy.attach import AttachTo
from xdpguard.policy.duration import parse_duration
from xdpguard.policy.model import Guard, Policy
from xdpguard.service.answers import Answers
from xdpguard.service.api import Api
from xdpguard.service.fleet import Fleet
from xdpguard.service.floods import Floods
from xdpguard.service.following import Following
from xdpguard.service.host import Host
from xdpguard.service.log import Failures, in_words
from xdpguard.service.looks import Looks
from xdpguard.service.needs import Needs
from xdpguard.service.notify import notify, reloading
from xdpguard.service.ring import Ring
from xdpguard.service.survey import Survey
from xdpguard.service.suspects import Suspects
from xdpguard.service.unconfirmed import Unconfirmed
from xdpguard.service.upkeep import Upkeep
from xdpguard.service.watching import changes, watching
from xdpguard.store import clock
from xdpguard.store.offences import forget_offences
from xdpguard.store.watch import StoreWatch

_log = logging.getLogger(__name__)

_TICK = 1.0  # seconds
_CHORES = 10.0  # seconds between two checks of links, rules and the clock
_CLOCK_STEP = 0.5  # seconds by which the clocks may drift apart unnoticed


class Daemon:
    """Runs the controller of one instance as a foreground service."""

    def __init__(
        self,
        pins: Pins,
        session: Callable[[], AbstractContextManager[Controller]],
        policy: Callable[[Controller], Policy],
        store: Path,
        attach: Iterable[AttachTo] = (),
    ) -> None:
        """``session`` opens the controller with the lock held; ``policy`` reads the configuration file and may raise.

        ``attach``: interfaces to attach to in addition to those in the file.
        """
        self._pins = pins
        self._store = StoreWatch(store)
        self._seen = 0  # the store's version when everything in it was known
        self._session = session
        self._load = policy
        self._policy = Policy()
        self._policy_mark = ""
        self._guard = Guard()
        self._links: list[Link] = []
        self._floods = Floods(pins)
        self._answers = Answers(pins)
        self._suspects = Suspects()
        self._offset = boot_offset()
        self._host = Host()
        self._chores_at = 0.0
        self._following = Following(attach)
        self._needs = Needs()
        self._looks = Looks()
        self._ring = Ring(pins)
        self._upkeep = Upkeep()
        self._unconfirmed = Unconfirmed()
        self._survey = Survey()
        self._failures = Failures()
        self._metrics = Service(pins, store)
        self._fleet = Fleet(session, pins, self._needs, self._metrics.status)
        self._api = Api(store.parent.name)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raise XdpguardError if the service cannot start."""
        with ExitStack() as stack:
            told = stack.enter_context(signals.waking(lambda number, frame: None, *signals.ENDING))
            for part in (self._looks, self._metrics, self._store, self._fleet, self._api):
                stack.callback(part.close)
            with self._session() as session:
                self._unconfirmed.look(session.store)
                # Restore sysctls first: this works whatever else is wrong.
                for change in session.sysctls.restore():
                    _log.warning(f"restored after an unclean exit: {change}")
                self._policy = self._load(session)
                self._following.begin(session, self._policy, time.monotonic())
                self._policy_mark = session.policy_mark()
                self._chores(session)
                self._needs.not_logged_in(session, self._following.places(session))
                self._host.settle(session, self._guard, self._links, active=False, now=time.monotonic())
            self._suspects.count(stack)
            self._floods.count(stack)
            self._ticked()
            self._metrics.apply(self._policy.metrics)
            notify("READY=1", f"STATUS=guard {self._guard.mode}")
            self._loop(told)
            self._failures.over()
            notify("STOPPING=1")
            with self._session() as session:
                self._host.release(session, self._guard)
            _log.info("stopped; the data plane keeps working")

    def _loop(self, told: socket.socket) -> None:
        due = time.monotonic()
        while True:
            wait = max(0.0, min(due, self._looks.at) - time.monotonic())
            sources = [told.fileno(), self._looks.fileno(), *self._ring.filenos(), *self._fleet.filenos()]
            ready, _, mounted = select.select(sources, [], [self._looks.mounts], wait)
            if told.fileno() in ready:
                came = told.recv(64)
                if signal.SIGHUP in came:
                    self._reload()
                if signal.SIGTERM in came or signal.SIGINT in came:
                    return
            self._looks.heed(bool(mounted))
            self._seen = self._fleet.drain(self._store, self._seen)
            begun = self._ring.drain(self._suspects)
            if begun or time.monotonic() >= min(due, self._looks.at):
                due = time.monotonic() + _TICK
                self._guarded_tick()
                self._ticked()
                notify("WATCHDOG=1")

    def _ticked(self) -> None:
        self._metrics.tick(self._guard.mode, self._upkeep.audit, self._upkeep.audited, self._following.awaited())
        self._api.apply(self._policy.api)

    def _guarded_tick(self) -> None:
        try:
            self._tick(time.monotonic())
        except Exception as first:  # the service must survive any error
            words = f"a tick failed: {in_words(first)}"
            # An interface may be deleted during a tick; looking again finds those that are left.
            try:
                with self._session() as session:
                    self._chores(session)
            except Exception as second:
                self._failures.failed(f"{words}; {in_words(second)}; continuing", first)
            else:
                self._failures.failed(f"{words}; checked everything again", first, logging.WARNING)
        else:
            self._failures.over()

    def _tick(self, now: float) -> None:
        outdated = self._answers.outdated(self._links)
        due = self._following.due(now) or self._unconfirmed.due() or now - self._chores_at >= _CHORES
        looked = self._looks.take(now) or due or outdated or self._store.version() != self._seen
        if looked:
            with self._session() as session:
                self._chores(session)  # before any decision: what another command has set meanwhile
            self._answers.look(self._links)
        self._answers.tell(self._links, self._guard)
        active = self._floods.look(self._links, self._guard)
        suspects = self._suspects.found(self._guard, self._links, now)
        self._host.see(active, now)
        step = abs(boot_offset() - self._offset) > _CLOCK_STEP
        if suspects or step or looked or self._fleet.changed or self._host.due(self._guard, active, now):
            with self._session() as session:
                others = self._store.version() != self._seen  # a command, since what is above
                if self._fleet.changed:
                    self._fleet.look(session, self._policy, self._links, self._following.places(session))
                self._host.settle(session, self._guard, self._links, active, now)
                self._suspects.ban(session, self._guard, self._links, suspects)
                self._fleet.share(session)
                if step:  # the session has followed it
                    self._offset = boot_offset()
                    _log.info("the clock was set; the ends of rules and of entries of lists were adjusted")
                self._seen = self._seen if others else self._store.version()

    def _chores(self, session: Controller) -> None:
        self._chores_at = time.monotonic()
        self._unconfirmed.look(session.store)
        if session.policy_mark() != self._policy_mark:
            self._policy_mark = session.policy_mark()
            self._policy = self._load(session)
            self._following.name(session, self._policy, self._chores_at)
        self._following.look(session, self._chores_at, self._looks.deleted())
        self._looks.watch(self._following.places(session))
        self._upkeep.check(session, self._chores_at)
        self._fleet.drain(self._store, self._seen, session)  # what has come waits for as little of all this as it can
        before_guard, self._guard = self._guard, session.guard.effective(self._policy.guard)
        there = session.interfaces()
        before, self._links = self._links, (links := session.links(there))
        self._survey.look(session, self._guard, links, self._chores_at)
        if links:
            for change in session.guard.apply(self._guard, links, self._host.options, scan=True):
                _log.info(change)
            session.default.apply(session.default.effective(self._policy.default), session.carriers(there))
            self._fleet.drain(self._store, self._seen, session)
        if [(link.name, link.netns) for link in links] != [(link.name, link.netns) for link in before]:
            # Everything counted from here on may belong to a flood.
            self._floods.look(links, self._guard)
            _log.info(watching(session, self._guard, links))
        elif changed := changes(before_guard, self._guard):
            _log.info(f"guard: {changed}")
        self._upkeep.purge(session)
        self._needs.look(session, self._following.places(session), self._store.version(), self._chores_at)
        self._upkeep.run(session, self._policy, self._chores_at)
        self._fleet.look(session, self._policy, links, self._following.places(session))
        if clock.steady(session.store):
            forget_offences(session.store, time.time() - parse_duration(self._guard.forget))
        self._ring.open()
        self._seen = self._store.version()

    def _reload(self) -> None:
        reloading()
        taken = False
        try:
            with self._session() as session:
                policy = self._load(session)
                lists = session.configure(policy)
                self._policy = policy
                self._following.name(session, policy, time.monotonic())
                self._policy_mark = session.policy_mark()
                self._upkeep.loaded(lists.lists)
                self._upkeep.failed(lists.errors)
                self._chores(session)
            taken = True
            _log.info(f"configuration reloaded; guard {self._guard.mode}")
            self._metrics.apply(policy.metrics)
        except XdpguardError as error:
            _log.error(f"the configuration was rejected, the previous one stays in force: {error}; {error.remedy}")
        except OSError as error:
            _log.error(f"the configuration could not be put in force: {error}")
        self._metrics.reloaded(taken)
        notify("READY=1", f"STATUS=guard {self._guard.mode}")
