# SPDX-License-Identifier: GPL-2.0
"""``xdpguard bridge bgp``: keeps what this host has of the origin bgp equal to what the neighbors announce.

What is in force ends by itself some time after this process is gone, whatever ended it: each filter has an end, which
is moved on while the process runs.
"""

from __future__ import annotations

import logging
import select
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

from xdpguard import signals
from xdpguard.bridges.bgp.exabgp import Ended
from xdpguard.bridges.bgp.plan import ORIGIN, Plan, Planner, left_over
from xdpguard.bridges.bgp.routes import Routes
from xdpguard.bridges.bgp.upstream import Upstream
from xdpguard.bridges.state import Account
from xdpguard.control.foreign import Foreign
from xdpguard.control.ruleset import Ruleset
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.filter import NewFilter
from xdpguard.policy.flowspec.rule import Rule
from xdpguard.policy.foreign import ForeignLimits
from xdpguard.policy.target import Prefix, parse_prefix
from xdpguard.service.log import Failures, in_words
from xdpguard.service.notify import notify
from xdpguard.store.bridges import Bridge
from xdpguard.units import counted, moment

_log = logging.getLogger(__name__)

_RECHECK = 30.0  # seconds after which what was refused, or has gone from the store, is asked for again
_STATE = 5.0  # seconds between two looks whether the bridge's state is to be written
_SHOWN = 10  # refusals that are named


class Source(Protocol):
    """A BGP daemon."""

    place: str
    fault: str  # what cannot be read of it
    own: set[str]

    def close(self) -> None:
        """End what was started."""

    def filenos(self) -> list[int]:
        """Return the descriptors to wait for."""

    def due(self) -> float:
        """Return when to look again without being told to (monotonic, s)."""

    def heard(self) -> None:
        """Read what has come."""

    def look(self, routes: Routes) -> bool:
        """Bring the routes up to date; return whether there may be changes."""

    def announce(self, rule: Rule) -> None:
        """Announce a rule upstream."""

    def withdraw(self, rule: Rule) -> None:
        """Withdraw a rule."""


class Service:
    """Runs the bridge. ``session`` opens the rules with the lock held; ``hold`` in seconds."""

    def __init__(
        self,
        source: Source,
        planner: Planner,
        limits: ForeignLimits,
        hold: float,
        session: Callable[[], AbstractContextManager[Ruleset]],
        upstream: Upstream | None = None,
    ) -> None:
        self._source = source
        self._planner = planner
        self._limits = limits
        self._hold = hold
        self._session = session
        self._upstream = upstream
        self._routes = Routes(hold)
        self._account = Account(Bridge(name=ORIGIN, peer=source.place, mode=limits.mode))
        self._failures = Failures()
        self._left: list[NewFilter] = []  # of an earlier run
        self._end = 0.0  # of what is in force, Unix time
        self._made: Plan | None = None
        self._refusals: list[str] = []
        self._recheck_at = 0.0
        self._fault = ""

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until ExaBGP has ended. Raise XdpguardError if it cannot start."""
        with ExitStack() as stack:
            told = stack.enter_context(signals.waking(lambda number, frame: None, *signals.ENDING))
            stack.callback(self._source.close)
            with self._session() as session:
                self._left = left_over(session.filters.stored.all(), time.time(), self._hold)
                if self._upstream:
                    self._upstream.begin(session.store)
                self._account.write(session.store)
            _log.info(f"bridge to {self._source.place}")
            notify("READY=1", f"STATUS=connecting to {self._source.place}")
            while True:
                notify("WATCHDOG=1")
                wait = min(max(0.0, self._due() - time.monotonic()), _STATE)
                ready, _, _ = select.select([told.fileno(), *self._source.filenos()], [], [], wait)
                if told.fileno() in ready:
                    came = told.recv(64)
                    if signal.SIGTERM in came or signal.SIGINT in came:
                        break
                if not self._stepped(any(it != told.fileno() for it in ready)):
                    break
            notify("STOPPING=1")
            self._stop()

    def _stepped(self, heard: bool) -> bool:
        """Do what is to be done; return whether to go on."""
        try:
            if heard:
                self._source.heard()
            looked = self._look()
            lapsed = self._routes.lapse()
            if lapsed:
                _log.warning(f"{counted(len(lapsed), 'route')} of sessions that ended {_is(lapsed)} no longer held")
            self._apply(looked or bool(lapsed))
            self._failures.over()
        except Ended as ended:
            _log.warning(f"{ended}; {ended.remedy}")
            return False
        except Exception as error:  # the bridge must survive any error
            remedy = f"; {error.remedy}" if isinstance(error, XdpguardError) else ""
            self._failures.failed(f"{in_words(error)}{remedy}", error)
            self._recheck_at = time.monotonic() + 1
        return True

    def _look(self) -> bool:
        before = self._routes.held()
        try:
            looked = self._source.look(self._routes)
        except XdpguardError as error:
            if self._account.state.connected or not self._account.state.error:
                _log.error(f"{error}; {error.remedy}")
            self._account.failed(str(error))
            return True
        finally:
            more = self._routes.held() - before
            if more > 0:
                what = f"{counted(more, 'route')} {'is' if more == 1 else 'are'}"
                _log.warning(f"a session has ended: {what} held for {self._hold:.0f} s unless announced again")
        if looked:
            state = self._account.state
            state.updates += 1
            self._account.connected()
            if self._source.fault and self._source.fault != self._fault:
                _log.warning(self._source.fault)
            self._fault = self._source.fault
            state.error = self._fault if self._routes.up else "no BGP session is established"
        return looked

    def _apply(self, looked: bool) -> None:
        now = time.time()
        renewed = not 0 <= self._end - now - self._hold <= self._hold
        if renewed:
            self._end = now + 2 * self._hold
        if self._routes.settled():
            self._left = []
        self._left = [it for it in self._left if it.expires is None or it.expires > now]
        recheck = time.monotonic() >= self._recheck_at
        upstream = self._upstream is not None and self._upstream.due(time.monotonic())
        if not (looked or renewed or recheck or upstream or self._account.due()):
            return
        plan = self._planner.plan(self._routes.wanted(), self._left, self._end)
        if plan == self._made and not (recheck or upstream or self._account.due()):
            return
        with self._session() as session:
            if plan != self._made or recheck:
                self._put(session, plan)
            if self._upstream is not None and upstream:
                self._upstream.plan(session, now, self._source.own)
            if self._account.due():
                self._account.write(session.store)
                notify(f"STATUS={self._account.state.summary(now)}")
        self._made, self._recheck_at = plan, time.monotonic() + _RECHECK
        if self._upstream is not None and upstream:
            self._account.state.sent = self._upstream.act(self._source)

    def _put(self, session: Ruleset, plan: Plan) -> None:
        answer = Foreign(session, ORIGIN, self._limits, keep=self._neighbors()).replace(plan.entries)
        refused = [*plan.refused, *answer.refused]
        texts = [str(it) for it in refused]
        for text in [it for it in texts if it not in self._refusals][:_SHOWN]:
            _log.warning(f"not taken: {text}")
        self._refusals = texts
        filters = sum(isinstance(it, NewFilter) for it in answer.taken)
        state = self._account.state
        held = (filters, len(answer.taken) - filters)
        if held != (state.filters, state.entries):
            blocks = f" and {counted(held[1], 'rule')}" if held[1] else ""
            what = "counting" if self._limits.mode == "shadow" else "in force"
            _log.info(f"{counted(filters, 'filter')}{blocks} {what if answer.in_force else 'stored; not attached'}")
        state.filters, state.entries = held
        state.in_force = answer.in_force
        state.refused, state.refusals = len(refused), texts[:_SHOWN]

    def _neighbors(self) -> list[tuple[Prefix, str]]:
        found = []
        for name in self._routes.names:
            try:
                found.append((parse_prefix(name.partition("%")[0])[0], "a BGP neighbor of this host"))
            except UsageError:
                continue  # the name of a neighbor without an address
        return found

    def _due(self) -> float:
        """Return when something is to be done (monotonic, s)."""
        at = [self._source.due(), self._recheck_at, time.monotonic() + self._end - time.time() - self._hold]
        if self._upstream is not None:
            at.append(self._upstream.at)
        route = self._routes.due()
        return min([*at, *([] if route is None else [route])])

    def _stop(self) -> None:
        if self._upstream is not None:
            self._upstream.end(self._source)
        with self._session() as session:
            if self._upstream is not None:
                self._upstream.store(session.store)
            self._account.stopped(session.store)
        if self._made and self._made.entries:
            _log.info(f"stopped; what is in force stays until {moment(self._end)}, unless the bridge is started again")
        else:
            _log.info("stopped; nothing of it is in force")


def _is(found: list[str]) -> str:
    return "is" if len(found) == 1 else "are"
