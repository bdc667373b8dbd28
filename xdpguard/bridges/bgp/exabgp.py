# SPDX-License-Identifier: GPL-2.0
"""ExaBGP, which starts the bridge as one of its processes: events in JSON on standard input, commands on the output.

Its configuration needs ``encoder json``, and of a neighbor ``api { processes [ ... ]; neighbor-changes; receive {
parsed; update; } }``.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import msgspec

from xdpguard.bridges.bgp.routes import Route, Routes, blackhole, faulty, flow
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.flowspec import exabgp, exabgpjson
from xdpguard.policy.flowspec.rule import Rule
from xdpguard.policy.target import parse_prefix

_FLOWS, _UNICAST = ("ipv4 flow", "ipv6 flow"), ("ipv4 unicast", "ipv6 unicast")
_BLACKHOLE = [65_535, 666]  # RFC 7999
_LONGEST = 16 << 20  # bytes of an event
_RESET = 4  # a subcode of Cease: administrative reset, RFC 4486


class Ended(XdpguardError):
    """ExaBGP has closed the standard input: it has ended."""


class ExaBGP:
    """The ExaBGP that started this process. ``fed``, ``told``: descriptors of its events, and for commands."""

    place = "ExaBGP"
    fault = ""

    def __init__(self, fed: int = 0, told: int = 1) -> None:
        self.own: set[str] = set()  # keys of FlowSpec rules that were announced
        self._fed = fed
        self._told = told
        self._rest = b""
        self._events: list[Any] = []
        os.set_blocking(fed, False)
        # Routes that came before this process are not told again: a session that stands is made anew.
        self._resetting = True
        self._say("show neighbor summary")

    def close(self) -> None:
        """Do nothing: ExaBGP goes on by itself."""

    def filenos(self) -> list[int]:
        """Return the descriptors to wait for."""
        return [self._fed]

    def due(self) -> float:
        """Return when to look again without being told to: never."""
        return math.inf

    def heard(self) -> None:
        """Read events. Raise Ended if there will be none any more."""
        try:
            data = os.read(self._fed, 1 << 20)
        except BlockingIOError:
            return
        if not data:
            raise Ended("ExaBGP has ended", "it starts this bridge again")
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST:
            self._rest = b""
        for line in lines:
            # Besides events, ExaBGP answers commands with words.
            if line.lstrip().startswith(b"{"):
                with contextlib.suppress(msgspec.DecodeError, ValueError, RecursionError):
                    self._events.append(msgspec.json.decode(line))
            elif self._resetting:
                self._answered(line.decode("utf-8", "replace").split())

    def look(self, routes: Routes) -> bool:
        """Take what was heard; return whether there was anything."""
        events, self._events = self._events, []
        for event in events:
            try:
                self._take(routes, event)
            except (msgspec.ValidationError, AttributeError, LookupError, TypeError, ValueError, UsageError):
                continue  # what is no event of a neighbor
        return bool(events)

    def announce(self, rule: Rule) -> None:
        """Announce a FlowSpec rule to all neighbors."""
        self._say(f"announce flow {exabgp.written(rule, 'xdpguard')}")

    def withdraw(self, rule: Rule) -> None:
        """Withdraw a FlowSpec rule."""
        self._say(f"withdraw flow {exabgp.written(rule, 'xdpguard')}")

    def _say(self, command: str) -> None:
        data = f"{command}\n".encode()
        try:
            while data:
                data = data[os.write(self._told, data) :]
        except OSError as error:
            raise Ended(f"ExaBGP takes no commands: {error.strerror}", "it starts this bridge again") from error

    def _answered(self, words: list[str]) -> None:
        """Make a session anew that an answer names; the answer ends with done."""
        if words in (["done"], ["error"]):
            self._resetting = False
        elif words:
            with contextlib.suppress(UsageError):  # a heading
                self._say(f"neighbor {parse_prefix(words[0])[0]} teardown {_RESET}")

    def _take(self, routes: Routes, event: Any) -> None:
        its = event["neighbor"]
        name = str(its["address"]["peer"])
        if event["type"] == "state":
            if its["state"] == "up":
                routes.established(name)
            elif its["state"] == "down":
                routes.ended(name)
        elif event["type"] == "update":
            update = its["message"].get("update", {})
            for key in _withdrawn(update):
                routes.withdrawn(name, key)
            for route, wanted in _announced(update):
                if wanted:
                    routes.announced(name, route)
                else:  # announced again without the community
                    routes.withdrawn(name, route.key)


def _withdrawn(update: Any) -> Iterator[str]:
    for family, found in update.get("withdraw", {}).items():
        for nlri in found:
            if family in _FLOWS:
                yield _flow({"withdraw": {family: [nlri]}}, nlri).key
            elif family in _UNICAST:
                yield blackhole(parse_prefix(nlri["nlri"])[0]).key


def _announced(update: Any) -> Iterator[tuple[Route, bool]]:
    attributes = update.get("attribute", {})
    dropped = _BLACKHOLE in attributes.get("community", [])
    for family, by_hop in update.get("announce", {}).items():
        for hop, found in by_hop.items():
            for nlri in found:
                if family in _FLOWS:
                    yield _flow({"attribute": attributes, "announce": {family: {hop: [nlri]}}}, nlri), True
                elif family in _UNICAST:
                    yield blackhole(parse_prefix(nlri["nlri"])[0]), dropped


def _flow(update: Any, nlri: Any) -> Route:
    """Return the route of an update with one rule."""
    try:
        event = {"type": "update", "neighbor": {"message": {"update": update}}}
        return next(flow(rule) for rule, _ in exabgpjson.rules_of(event))
    except (UsageError, msgspec.ValidationError) as error:
        return faulty(str(nlri.get("string") if isinstance(nlri, dict) else nlri), str(error))
