# SPDX-License-Identifier: GPL-2.0
"""GoBGP by its command line: its tables in JSON are what holds, its monitor says when to look at them again.

The monitor alone would not do: GoBGP 3.10 tells of no route that goes with its session, nor of the session's end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from xdpguard.bridges.bgp.routes import Route, Routes, blackhole, faulty, flow
from xdpguard.errors import MissingError, UsageError, XdpguardError
from xdpguard.policy.flowspec import gobgp, gobgpjson
from xdpguard.policy.flowspec.rule import Rule
from xdpguard.policy.target import parse_prefix

_FLOWS, _UNICAST = ("ipv4-flowspec", "ipv6-flowspec"), ("ipv4", "ipv6")
_BLACKHOLE = 65_535 << 16 | 666  # RFC 7999
_COMMUNITIES = 8  # a path attribute, RFC 1997
_ESTABLISHED = 6  # a state of a session, RFC 4271, 8.2.2
_MOST = 50_000  # routes of a table that is read each time
_PATIENCE = 10.0  # seconds
_QUICK, _THOROUGH = 2.0, 10.0  # seconds between two looks at the sessions, and at the tables
_SETTLE = 0.05  # seconds: routes that come together are looked at once
_AGAIN = 1.0  # seconds until a monitor that ended is started again
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SEE = "see that gobgpd runs, and that --gobgp names its API"
# What comes of values that are no tables of GoBGP.
_FOREIGN = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RuntimeError, msgspec.ValidationError)


class Session(NamedTuple):
    """The session with a neighbor. ``since``: when it was established, Unix time in whole seconds."""

    up: bool
    since: int


class GoBGP:
    """A daemon that receives and sends routes. ``place``: HOST:PORT, or unix:PATH."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.fault = ""  # what cannot be read
        self.own: set[str] = set()  # keys of FlowSpec rules that this daemon announces itself
        if shutil.which("gobgp") is None:
            raise MissingError("gobgp is not installed", "install it: apt install gobgpd")
        self._command = ["gobgp", *_place_words(place)]
        self._monitor: subprocess.Popen[bytes] | None = None
        self._sessions: dict[str, Session] = {}
        self._quick_at = self._thorough_at = self._start_at = 0.0

    def close(self) -> None:
        """End the monitor."""
        if self._monitor is not None:
            self._monitor.kill()
            self._monitor.wait()
            if self._monitor.stdout is not None:
                self._monitor.stdout.close()
            self._monitor = None

    def filenos(self) -> list[int]:
        """Return the descriptors to wait for."""
        return [self._monitor.stdout.fileno()] if self._monitor and self._monitor.stdout else []

    def due(self) -> float:
        """Return when to look again without being told to (monotonic, s)."""
        return min(self._quick_at, self._thorough_at)

    def heard(self) -> None:
        """Read what the monitor says: that something has changed."""
        its = self._monitor
        if its is not None and its.stdout is not None:
            if os.read(its.stdout.fileno(), 1 << 20):
                self._thorough_at = min(self._thorough_at, time.monotonic() + _SETTLE)
            else:
                self.close()
                self._start_at = time.monotonic() + _AGAIN

    def look(self, routes: Routes) -> bool:
        """Ask the daemon what is due; return whether its tables were read. Raise XdpguardError without an answer."""
        now = time.monotonic()
        if now < self.due():
            return False
        try:
            # The monitor first: what changes behind the look at the tables is told.
            self._watch(now)
            thorough = now >= self._thorough_at
            families = self._readable() if thorough else ()
            tables = [(family, self._asked("global", "rib", "-a", family)) for family in families]
            # Sessions last: routes that went with a session are never taken for withdrawn.
            sessions = self._asked_sessions()
            if not thorough and sessions != self._sessions:
                self._thorough_at = now
                return self.look(routes)
            self._quick_at = now + _QUICK
            self._sessions = sessions
            if thorough:
                self._thorough_at = now + _THOROUGH
                self._take(routes, tables)
        except (XdpguardError, *_FOREIGN) as error:
            self._quick_at = self._thorough_at = now + _QUICK
            for name in routes.names:
                routes.ended(name)
            self._sessions = {}
            if isinstance(error, XdpguardError):
                raise
            raise XdpguardError(f"GoBGP at {self.place} answers what this bridge cannot read: {error}", _SEE) from error
        return thorough

    def announce(self, rule: Rule) -> None:
        """Announce a FlowSpec rule to all neighbors. Raise XdpguardError if that fails."""
        self._asked(*shlex.split(gobgp.written(rule))[1:])

    def withdraw(self, rule: Rule) -> None:
        """Withdraw a FlowSpec rule."""
        words = shlex.split(gobgp.written(rule))[1:]
        self._asked(*("del" if it == "add" else it for it in words))

    def _readable(self) -> list[str]:
        """Return the tables to read: not one of the whole internet, which has other uses than blackholes."""
        self.fault = ""
        found = list(_FLOWS)
        for family in _UNICAST:
            count = (self._asked("global", "rib", "summary", "-a", family) or {}).get("num_destination", 0)
            if count <= _MOST:
                found.append(family)
            else:
                self.fault = (
                    f"blackholes are not read: the {family} table of GoBGP has {count:,} routes, more than {_MOST:,};"
                    " give the bridge a GoBGP whose policy imports blackholes alone"
                )
        return found

    def _take(self, routes: Routes, tables: list[tuple[str, Any]]) -> None:
        found: dict[str, dict[str, Route]] = {name: {} for name in self._sessions}
        self.own = set()
        for family, table in tables:
            for neighbor, route in _routes(family, table):
                if neighbor:
                    found.setdefault(neighbor, {})[route.key] = route
                else:
                    self.own.add(route.key)
        for name in {*found, *routes.names}:
            session = self._sessions.get(name, Session(False, 0))
            if session.up:
                routes.established(name, time.time() - session.since)
            else:
                routes.ended(name)
            routes.became(name, found.get(name, {}))

    def _asked_sessions(self) -> dict[str, Session]:
        found = {}
        for its in self._asked("neighbor") or []:
            state = its.get("state", {})
            since = its.get("timers", {}).get("state", {}).get("uptime", {}).get("seconds", 0)
            up = state.get("session_state") == _ESTABLISHED
            found[str(state.get("neighbor_address"))] = Session(up, since if up else 0)
        return found

    def _watch(self, now: float) -> None:
        if self._monitor is None and now >= self._start_at:
            self._monitor = subprocess.Popen(
                [*self._command, "--json", "monitor", "global", "rib"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                preexec_fn=_end_with_parent,  # noqa: PLW1509 (the bridge has no threads)
            )

    def _asked(self, *words: str) -> Any:
        """Run a command; return its answer. Raise XdpguardError if there is none."""
        try:
            done = subprocess.run(
                [*self._command, "--json", *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise XdpguardError(f"GoBGP at {self.place} does not answer", _SEE) from error
        return self._answer(done.stdout, done.stderr, done.returncode)

    def _answer(self, told: bytes, complaint: bytes, code: int) -> Any:
        text = told.decode("utf-8", "replace").strip()
        try:
            answer = msgspec.json.decode(text) if text else None
        except (msgspec.DecodeError, RecursionError) as error:
            raise XdpguardError(f"GoBGP at {self.place} answers {text[:80]!r}", _SEE) from error
        fault = answer.get("error") if isinstance(answer, dict) and len(answer) == 1 else None
        if code or isinstance(fault, str):
            said = fault or text or complaint.decode("utf-8", "replace").strip() or f"code {code}"
            raise XdpguardError(f"GoBGP at {self.place}: {said}", _SEE)
        return answer


def _routes(family: str, table: Any) -> Iterator[tuple[str, Route]]:
    """Yield the routes of a table that matter here, each with its neighbor; empty for those of this daemon itself."""
    for words, paths in (table or {}).items():
        for path in paths:
            neighbor = str(path.get("neighbor-ip") or "")
            if family in _FLOWS:
                yield neighbor, _flow(words, path)
            elif _BLACKHOLE in _communities(path):
                with contextlib.suppress(UsageError):
                    yield neighbor, blackhole(parse_prefix(path["nlri"]["prefix"])[0])


def _flow(words: str, path: Any) -> Route:
    try:
        return next(flow(rule) for _, _, rule in gobgpjson.read([[path]]))
    except UsageError as error:
        return faulty(words, str(error).partition(": ")[2] or str(error))


def _communities(path: Any) -> list[int]:
    found = [it.get("communities", []) for it in path.get("attrs", []) if it.get("type") == _COMMUNITIES]
    return msgspec.convert([one for its in found for one in its], list[int])


def check_place(place: str) -> None:
    """Raise UsageError if it cannot be the place of an API."""
    _place_words(place)


def _place_words(place: str) -> list[str]:
    if place.startswith("unix:"):
        return ["--target", place]
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise UsageError(f"not the place of GoBGP's API: {place!r}", "write HOST:PORT, such as 127.0.0.1:50051")
    return ["--host", host.strip("[]"), "--port", port]


def _end_with_parent() -> None:
    """Have the kernel end this process when the bridge is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
