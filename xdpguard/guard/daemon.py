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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import msgspec

from xdpguard.controller import Controller, Request
from xdpguard.dataplane import guard
from xdpguard.dataplane.handshakes import Handshakes
from xdpguard.dataplane.pins import Pins
from xdpguard.dataplane.tables import boot_offset
from xdpguard.errors import XdpguardError
from xdpguard.guard.bans import Bans, Rates, Scans, Suspect
from xdpguard.guard.detector import Flood, Sample
from xdpguard.guard.notify import notify, reloading
from xdpguard.guard.upkeep import Upkeep
from xdpguard.loans import TIMESTAMPS
from xdpguard.metrics.service import Service
from xdpguard.net import netns, sockets
from xdpguard.net.links import Link
from xdpguard.policy.model import Guard, Policy
from xdpguard.policy.target import Prefix, parse_duration
from xdpguard.tcp.evidence import Evidence, in_words
from xdpguard.tcp.namespaces import OWN, find
from xdpguard.tcp.resent import Counter as Resent
from xdpguard.telemetry import counters, events, tracking

_TICK = 1.0  # seconds
_CHORES = 10.0  # seconds between two looks at links, rules and the clock
_LINGER = 10.0  # seconds without a flood before sysctls are put back
_DRAIN = 2.0  # seconds more, in which answers with options come back
_MOST_BANS = 50  # at a time: each is a change on disk, and others wait for the lock
_CLOCK_STEP = 0.5  # seconds by which the clocks may drift apart unnoticed
_WANTED = {"net.ipv4.tcp_syncookies": "2", TIMESTAMPS: "2"}

Place = tuple[str, str]  # interface and namespace


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
        self._floods: dict[Place, Flood] = {}
        self._before: dict[Place, Counter[tracking.Tuple]] = {}
        self._scans = Scans()
        self._rates = Rates()
        self._watched: set[int] = set()
        self._handshakes: Handshakes | None = None
        self._evidence: Evidence | None = None
        self._offset = boot_offset()
        self._options = True
        self._flood_at = float("-inf")  # when one was last seen
        self._chores_at = 0.0
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
                self._sysctls(session, active=False, now=time.monotonic())
            try:
                self._handshakes = stack.enter_context(Handshakes())
            except XdpguardError as error:
                self._log(f"no bans for many connections: {error}; {error.remedy}")
            try:
                self._evidence = Evidence(stack.enter_context(Resent()))
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
            if event.kind == events.SCAN:
                self._scans.note(event.source, event.port, time.monotonic())
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
        active = False
        for link in self._links:
            state = guard.read(self._pins, link.name, link.netns)
            sample = self._sample(link, state, now)
            active = active or sample.active
            self._follow(link, sample)
        suspects = self._scans.over(self._guard.scan_ports, now)
        if self._handshakes is not None:
            suspects += self._busy(self._handshakes)
        if active:
            self._flood_at = now
        elif self._evidence is not None:
            self._evidence.begin()
        step = abs(boot_offset() - self._offset) > _CLOCK_STEP
        if suspects or step or looked or self._sysctls_due(active, now):
            with self._session() as session:
                self._sysctls(session, active, now)
                self._ban(session, suspects)
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

    def _sample(self, link: Link, state: guard.State, now: float) -> Sample:
        counted = counters.read(self._pins, link.name, link.netns)

        def reason(name: str) -> int:
            return counted.reasons[name].packets + counted.reasons[name].observed_packets

        syns = sum(count for octet, count in counted.flag_sets.items() if octet & 0x12 == 0x02)
        active = self._guard.mode != "off" and state.until != guard.ALWAYS and state.active()
        return Sample(
            at=now,
            active=active,
            cause=guard.CAUSES[state.cause],
            port=state.port,
            syns=syns,
            cookies=reason("cookie_sent"),
            valid=counted.cookies_valid,
            bad=reason("cookie_bad"),
            strangers=reason("ack_unknown"),
            limited=reason("syn_rate"),
        )

    def _follow(self, link: Link, sample: Sample) -> None:
        place = (link.name, link.netns)
        flood = self._floods.setdefault(place, Flood(_name(link)))
        tuples = None
        if flood.wants_tuples():
            before = self._before.pop(place, Counter())
            tuples = tracking.tuples(self._pins) - before
        lines = list(flood.feed(sample, tuples))
        for line in lines:
            self._log(line)
        if lines and flood.running:
            self._tell_evidence(link, sample.port)
        if flood.wants_tuples() and tuples is None:
            self._before[place] = tracking.tuples(self._pins)

    def _tell_evidence(self, link: Link, port: int) -> None:
        """What the listeners say of the flood: their queues, and what they have to send again."""
        if self._evidence is None:
            return
        # Not worth failing a tick: the namespace may have gone.
        with contextlib.suppress(XdpguardError, OSError):
            words = in_words(self._evidence.read(find(link.netns or OWN)), port)
            if words:
                self._log(f"{_name(link)}: {words}")

    def _needs_cookies(self, active: bool) -> bool:
        return (
            self._guard.sysctls and self._guard.mode in ("auto", "always") and (active or self._guard.mode == "always")
        )

    def _sysctls_due(self, active: bool, now: float) -> bool:
        if self._needs_cookies(active):
            return self._flood_at == now or not self._options
        return now - self._flood_at >= _LINGER and self._flood_at != float("-inf")

    def _sysctls(self, session: Controller, active: bool, now: float) -> None:
        """Raises what cookies need while a flood lasts, and puts it back some time after."""
        if self._needs_cookies(active):
            wanted = {name: value for name, value in _WANTED.items() if name != TIMESTAMPS or self._guard.options}
            for name in sorted({link.netns for link in self._links}):
                for change in session.loans.raise_to(name, wanted):
                    self._log(f"for the length of the flood: {change}{f' in {name}' if name else ''}")
            self._set_options(session, True)
            return
        if now - self._flood_at < _LINGER:
            return
        if not session.loans.held():
            self._flood_at = float("-inf")
            return
        self._set_options(session, False)
        if now - self._flood_at >= _LINGER + _DRAIN:
            for change in session.loans.restore():
                self._log(f"put back: {change}")
            self._flood_at = float("-inf")
            self._set_options(session, True)

    def _set_options(self, session: Controller, options: bool) -> None:
        if options != self._options:
            self._options = options
            session.guard.apply(self._guard, self._links, options, scan=True)

    def _busy(self, handshakes: Handshakes) -> list[Suspect]:
        """Sources that complete too many handshakes."""
        inodes = {_inode(link.netns) for link in self._links}
        if inodes != self._watched:
            # Totals of a namespace that was not watched before are no rate.
            self._watched, self._rates = inodes, Rates()
        counts = handshakes.counts(inodes)
        return self._rates.over(self._guard.ban_connections, counts, time.monotonic())

    def _ban(self, session: Controller, suspects: list[Suspect]) -> None:
        if not suspects:
            return
        needed: list[tuple[Prefix, str]] = []
        for name in sorted({link.netns for link in self._links}):
            with netns.entered(name):
                needed += [(it.address, it.role) for it in sockets.protected()]
        if len(suspects) > _MOST_BANS:
            self._log(f"{len(suspects)} sources to ban at once; {_MOST_BANS} of them now")
        bans = Bans(session.store, session.rules)
        for suspect in suspects[:_MOST_BANS]:
            line = bans.ban(suspect, self._guard, needed)
            if line:
                self._log(line)

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
        before_guard, self._guard = self._guard, session.guard.effective(self._policy.guard)
        links = session.links()
        before, self._links = self._links, links
        if links:
            session.guard.apply(self._guard, links, self._options, scan=True)
        if [(link.name, link.netns) for link in links] != [(link.name, link.netns) for link in before]:
            names = ", ".join(_name(link) for link in links)
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
        """Attaches again what a restart of the machine has taken off."""
        for it in session.interfaces():
            if it.state == "detached":
                outcome = session.attach(Request(it.name, it.netns, observe=it.observe), self._policy)
                self._log(f"attached to {it.name} again, in {outcome.interface.mode} mode")
        if not session.links():
            raise XdpguardError("nothing is attached", "attach an interface first: xdpguard attach IFACE")

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


def _inode(name: str) -> int:
    path = netns.FOLDER / name if name else Path("/proc/self/ns/net")
    return path.stat().st_ino


def _changes(before: Guard, after: Guard) -> str:
    """What is set otherwise than before, as ``guard set`` would be told it."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(after)
    return ", ".join(f"{key}={new[key]}" for key in new if new[key] != old[key])


def _name(link: Link) -> str:
    return f"{link.name} (in {link.netns})" if link.netns else link.name
