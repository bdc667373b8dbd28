# SPDX-License-Identifier: GPL-2.0
"""``xdpguard run``: watches the guard, tells what it does, and does what the data plane cannot do alone.

It may die at any moment: the data plane goes on, and what was changed for a while stands in the store.
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import msgspec

from xdpguard.attaching import Request
from xdpguard.controller import Controller
from xdpguard.dataplane.handshakes import Handshakes
from xdpguard.dataplane.pins import Pins
from xdpguard.dataplane.tables import boot_offset
from xdpguard.errors import XdpguardError
from xdpguard.guard.floods import Floods, name_of
from xdpguard.guard.host import Host
from xdpguard.guard.notify import notify, reloading
from xdpguard.guard.suspects import Suspects
from xdpguard.guard.upkeep import Upkeep
from xdpguard.inventory import Interface
from xdpguard.metrics.service import Service
from xdpguard.net.links import Link
from xdpguard.net.netns import place_of
from xdpguard.policy.model import Guard, Policy
from xdpguard.policy.target import parse_duration
from xdpguard.tcp.evidence import Evidence
from xdpguard.tcp.resent import Counter as Resent
from xdpguard.telemetry import events

_TICK = 1.0  # seconds
_CHORES = 10.0  # seconds between two looks at links, rules and the clock
_CLOCK_STEP = 0.5  # seconds by which the clocks may drift apart unnoticed


class Daemon:
    """One instance's controller, as a service in the foreground."""

    def __init__(
        self,
        pins: Pins,
        session: Callable[[], AbstractContextManager[Controller]],
        policy: Callable[[Controller], Policy],
        log: Callable[[str], None],
        store: Path,
    ) -> None:
        """``session`` opens the controller with the lock held; ``policy`` reads the file, and may raise."""
        self._pins = pins
        self._store = store
        self._seen = 0
        self._session = session
        self._load = policy
        self._log = log
        self._policy = Policy()
        self._policy_mark = ""
        self._guard = Guard()
        self._links: list[Link] = []
        self._floods = Floods(pins, log)
        self._suspects = Suspects(log)
        self._offset = boot_offset()
        self._host = Host(log)
        self._chores_at = 0.0
        self._gone: set[tuple[str, str]] = set()  # interfaces that are recorded and not there
        self._ring: events.Events | None = None
        self._upkeep = Upkeep(log)
        self._metrics = Service(pins, store, log)

    def run(self) -> None:
        """Works until SIGTERM or SIGINT. XdpguardError when it cannot begin."""
        with ExitStack() as stack:
            signals = stack.enter_context(_signals())
            stack.callback(self._metrics.close)
            with self._session() as session:
                # First of all: whatever else may be wrong now, this can be done.
                for change in session.loans.restore():
                    self._log(f"put back after an end without notice: {change}")
                self._policy = self._load(session)
                self._attach(session)
                self._policy_mark = session.policy_mark()
                self._chores(session)
                self._host.settle(session, self._guard, self._links, active=False, now=time.monotonic())
            try:
                self._suspects.handshakes = stack.enter_context(Handshakes())
            except XdpguardError as error:
                self._log(f"no bans for many connections: {error}; {error.remedy}")
            try:
                self._floods.evidence = Evidence(stack.enter_context(Resent()))
            except XdpguardError as error:
                self._log(f"no evidence of SYN-ACKs sent again: {error}; {error.remedy}")
            self._ticked()
            self._metrics.apply(self._policy.metrics)
            notify("READY=1", f"STATUS=guard {self._guard.mode}")
            self._loop(signals)
            notify("STOPPING=1")
            self._stop()

    def _loop(self, signals: socket.socket) -> None:
        due = time.monotonic()
        while True:
            sources = [signals.fileno(), *([self._ring.fileno()] if self._ring else [])]
            ready, _, _ = select.select(sources, [], [], max(0.0, due - time.monotonic()))
            if signals.fileno() in ready:
                came = signals.recv(64)
                if signal.SIGHUP in came:
                    self._reload()
                if signal.SIGTERM in came or signal.SIGINT in came:
                    return
            begun = self._drain()
            if begun or time.monotonic() >= due:
                due = time.monotonic() + _TICK
                self._guarded_tick()
                self._ticked()
                notify("WATCHDOG=1")

    def _ticked(self) -> None:
        self._metrics.tick(self._guard.mode, self._upkeep.audit, self._upkeep.audited)

    def _drain(self) -> bool:
        """Takes in the events there are; whether one of them is the begin of a flood."""
        begun = False
        for event in self._ring.read() if self._ring else ():
            self._suspects.note(event, time.monotonic())
            begun = begun or event.kind == events.FLOOD_BEGINS
        return begun

    def _guarded_tick(self) -> None:
        try:
            self._tick(time.monotonic())
        except Exception as first:  # the service goes on, whatever it is
            # An interface may go while it is looked at: whoever is left is seen by looking anew.
            try:
                with self._session() as session:
                    self._chores(session)
            except Exception as error:
                self._log(f"{first}; {error}; going on")

    def _tick(self, now: float) -> None:
        looked = now - self._chores_at >= _CHORES or self._store_changed()
        if looked:
            # Before anything is judged: what another command has set holds from here on.
            with self._session() as session:
                self._chores(session)
        active = self._floods.look(self._links, self._guard, now)
        suspects = self._suspects.found(self._guard, self._links, now)
        self._host.see(active, now)
        step = abs(boot_offset() - self._offset) > _CLOCK_STEP
        if suspects or step or looked or self._host.due(self._guard, active, now):
            with self._session() as session:
                self._host.settle(session, self._guard, self._links, active, now)
                self._suspects.ban(session, self._guard, self._links, suspects)
                if step:
                    self._clock_stepped(session)
                self._seen = self._stamp()

    def _stamp(self) -> int:
        """When the store was last written: another command has changed the rules, the policy or what is attached."""
        try:
            return self._store.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _store_changed(self) -> bool:
        return self._stamp() != self._seen

    def _clock_stepped(self, session: Controller) -> None:
        """Ends of rules are times of day; the kernel compares them on a clock that does not step."""
        self._offset = boot_offset()
        with session.tables() as tables:
            session.rules.fill(tables)
        session.shadow.fill()
        self._log("the clock was set; the ends of rules were moved with it")

    def _chores(self, session: Controller) -> None:
        self._chores_at = time.monotonic()
        if session.policy_mark() != self._policy_mark:
            self._policy_mark = session.policy_mark()
            self._policy = self._load(session)
        self._missing(session)
        before_guard, self._guard = self._guard, session.guard.effective(self._policy.guard)
        links = session.links()
        before, self._links = self._links, links
        if links:
            session.guard.apply(self._guard, links, self._host.options, scan=True)
        if [(link.name, link.netns) for link in links] != [(link.name, link.netns) for link in before]:
            names = ", ".join(name_of(link) for link in links)
            self._log(
                f"watching {names}; guard {self._guard.mode}" if links else "nothing is attached any more; waiting"
            )
        elif changed := _changes(before_guard, self._guard):
            self._log(f"guard: {changed}")
        session.rules.purge()
        session.shadow.rules.purge()
        self._upkeep.run(session, self._policy, self._chores_at)
        session.store.forget_offences(time.time() - parse_duration(self._guard.forget))
        self._open_ring()
        self._seen = self._stamp()

    def _open_ring(self) -> None:
        """The ring that is pinned now: with the last interface the maps go, and with the next there are new ones."""
        there = self._pins.ring_id(events.NAME)
        if self._ring is not None and self._ring.id != there:
            self._ring.close()
            self._ring = None
        if self._ring is None and there:
            self._ring = events.Events(self._pins)

    def _attach(self, session: Controller) -> None:
        """Attaches again what a restart of the machine has taken off; what is not there yet is waited for."""
        for it in session.interfaces():
            if it.state == "detached":
                self._attach_again(session, it)
        self._missing(session)
        if not session.links() and not self._gone:
            raise XdpguardError("nothing is attached", "attach an interface first: xdpguard attach IFACE")

    def _attach_again(self, session: Controller, it: Interface) -> None:
        outcome = session.attach(Request(it.name, it.netns, observe=it.observe, any_mtu=it.any_mtu), self._policy)
        self._log(f"attached to {place_of(it.name, it.netns)} again, in {outcome.interface.mode} mode")

    def _missing(self, session: Controller) -> None:
        """Notes which interfaces are not there, and attaches those again that have come back."""
        before, self._gone = self._gone, set()
        for it in session.interfaces():
            place = (it.name, it.netns)
            if it.state == "gone":
                self._gone.add(place)
                if place not in before:
                    self._log(f"{place_of(*place)} is not there; it is attached again when it comes back")
            elif it.state == "detached" and place in before:
                try:
                    self._attach_again(session, it)
                except XdpguardError as error:
                    self._log(f"{place_of(*place)} has come back, and was not attached: {error}; {error.remedy}")

    def _reload(self) -> None:
        reloading()
        taken = False
        try:
            with self._session() as session:
                policy = self._load(session)
                session.configure(policy)
                self._policy = policy
                self._policy_mark = session.policy_mark()
                self._chores(session)
            taken = True
            self._log(f"configuration read again; guard {self._guard.mode}")
            self._metrics.apply(policy.metrics)
        except XdpguardError as error:
            self._log(f"the configuration was not taken, the one before stays: {error}; {error.remedy}")
        except OSError as error:
            self._log(f"the configuration could not be put in force: {error}")
        self._metrics.reloaded(taken)
        notify("READY=1", f"STATUS=guard {self._guard.mode}")

    def _stop(self) -> None:
        with self._session() as session:
            links = session.links()
            if links:
                # Nobody asks for the proof of a scan now, and no answer may need a sysctl that is about to go.
                session.guard.apply(self._guard, links, options=not session.loans.held())
            for change in session.loans.restore():
                self._log(f"put back: {change}")
            if links:
                session.guard.apply(self._guard, links)
        self._log("stopped; the data plane goes on")


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """A socket that names the signals that came, one octet each."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    kinds = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
    handlers = [signal.signal(kind, lambda number, frame: None) for kind in kinds]
    try:
        yield reader
    finally:
        for kind, handler in zip(kinds, handlers, strict=True):
            signal.signal(kind, handler)
        signal.set_wakeup_fd(before)
        reader.close()
        writer.close()


def _changes(before: Guard, after: Guard) -> str:
    """What is set otherwise than before, as ``guard set`` would be told it."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return ", ".join(f"{key}={new[key]}" for key in new if new[key] != old[key])
