# SPDX-License-Identifier: GPL-2.0
"""What BGP neighbors announce, with the life of their sessions.

A route that is withdrawn goes at once. One whose session ended stays for a while, since an attack often takes down the
session that carries the defense; when the session is back, what is not announced again within half a minute goes.
Times are monotonic, in seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct

from xdpguard.errors import UsageError
from xdpguard.policy.flowspec.exabgp import written
from xdpguard.policy.flowspec.rule import Rule
from xdpguard.policy.target import Prefix

SETTLING = 30.0  # seconds in which a neighbor has announced everything again; its end-of-RIB is not always sent


class Route(Struct, frozen=True):
    """A FlowSpec rule, or a prefix with the BLACKHOLE community. ``fault``: why nothing can be made of it here."""

    key: str
    what: Rule | Prefix | None
    fault: str = ""


class _Held(Struct):
    route: Route
    until: float | None = None  # when it goes unless it is announced again; None while it is announced


class _Neighbor(Struct):
    up: bool = False
    settled: float = 0.0  # when all that it announces is known
    routes: dict[str, _Held] = {}


def flow(rule: Rule) -> Route:
    """Return the route of a FlowSpec rule; its key tells its packets, and not what is done to them."""
    return Route(f"{rule.version} {match_text(rule)}", rule)


def match_text(rule: Rule) -> str:
    """Return what packets a rule is about, as people write it: destination 192.0.2.1/32; protocol =17."""
    try:
        return written(rule, "x").partition("match { ")[2].partition("; } then")[0]
    except (UsageError, LookupError):  # comparisons that no form has words for, such as: always false
        return repr([(kind.name, value) for kind, value in rule.components])


def blackhole(prefix: Prefix) -> Route:
    """Return the route of a prefix whose traffic is to be dropped (RFC 7999)."""
    return Route(f"blackhole {prefix}", prefix)


def faulty(key: str, fault: str) -> Route:
    """Return a route of which nothing can be made here, and why."""
    return Route(f"faulty {key}", None, fault)


class Routes:
    """The routes of all neighbors. ``hold``: how long those of a session that ended stay, in seconds."""

    def __init__(self, hold: float, now: Callable[[], float] = time.monotonic) -> None:
        self._hold = hold
        self._now = now
        self._neighbors: dict[str, _Neighbor] = {}

    @property
    def names(self) -> list[str]:
        """The neighbors that were ever heard of."""
        return sorted(self._neighbors)

    @property
    def up(self) -> int:
        """How many sessions are established."""
        return sum(it.up for it in self._neighbors.values())

    def settled(self) -> bool:
        """Return whether there are neighbors, and all that they announce is known."""
        its = self._neighbors.values()
        return bool(its) and all(it.up and self._now() >= it.settled for it in its)

    def established(self, name: str, age: float = 0.0) -> None:
        """Note that a session is there since ``age`` seconds. What a session before it announced has to come again."""
        its = self._its(name)
        settled = self._now() + max(0.0, SETTLING - age)
        if not its.up or settled > max(its.settled, self._now()) + 2:
            its.up, its.settled = True, settled
            for held in its.routes.values():
                held.until = its.settled if held.until is None else min(held.until, its.settled)

    def ended(self, name: str) -> None:
        """Note that a session is not there: its routes go after a while."""
        its = self._its(name)
        its.up = False
        for held in its.routes.values():
            if held.until is None:
                held.until = self._now() + self._hold

    def announced(self, name: str, route: Route) -> None:
        """Add a route, or replace the one of the same packets."""
        self._its(name).routes[route.key] = _Held(route)

    def withdrawn(self, name: str, key: str) -> None:
        """Forget a route at once; what is not there is no error."""
        self._its(name).routes.pop(key, None)

    def became(self, name: str, present: Mapping[str, Route]) -> None:
        """Make these the routes that a neighbor announces. Those that are missing go as the session's state says."""
        its = self._its(name)
        for route in present.values():
            self.announced(name, route)
        for key in its.routes.keys() - present.keys():
            held = its.routes[key]
            if held.until is None and its.up:  # announced over this session
                del its.routes[key]
            elif held.until is None:
                held.until = self._now() + self._hold

    def lapse(self) -> list[str]:
        """Forget the routes whose time is over; return their keys."""
        gone = []
        for its in self._neighbors.values():
            for key, held in list(its.routes.items()):
                if held.until is not None and held.until <= self._now():
                    del its.routes[key]
                    gone.append(key)
        return gone

    def due(self) -> float | None:
        """Return when the next route goes."""
        return min((it.until for it in self._all() if it.until is not None), default=None)

    def wanted(self) -> list[Route]:
        """Return the routes of all neighbors, each once; what is announced comes before what is only held."""
        found: dict[str, Route] = {}
        for held in sorted(self._all(), key=lambda it: it.until is not None):
            found.setdefault(held.route.key, held.route)
        return list(found.values())

    def held(self) -> int:
        """Return how many routes stay only for a while."""
        return sum(it.until is not None for it in self._all())

    def _its(self, name: str) -> _Neighbor:
        return self._neighbors.setdefault(name, _Neighbor())

    def _all(self) -> Iterable[_Held]:
        return [held for name in self.names for held in self._neighbors[name].routes.values()]
