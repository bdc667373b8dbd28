# SPDX-License-Identifier: GPL-2.0
"""The table of what can be asked: each a command, with what the request carries and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

from xdpguard.api import bodies
from xdpguard.api.bodies import Nothing, options, words
from xdpguard.api.described import described
from xdpguard.cli.answers import changes, default, entries, filters, fleet, state, traffic
from xdpguard.explain.answers import Address, Packet


class Said(Struct, frozen=True):
    """What a change answers: what is so now, and notes, in the words of the command line."""

    said: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Endpoint:
    """A request and its command. ``arguments``: which fields, in the path or beside it, follow the options.

    ``answers``: the types of the answer, ``many``: a list of them. ``text``: the request's body is text, which the
    command reads on standard input.
    """

    method: str
    path: str
    command: str
    answers: tuple[Any, ...] = (Said,)
    many: bool = False
    query: type[Struct] = Nothing
    body: type[Struct] | None = None
    text: bool = False
    arguments: tuple[str, ...] = ()
    tail: tuple[str, ...] = field(default=())

    @property
    def said(self) -> bool:
        """Whether the command prints sentences, not JSON."""
        return self.answers == (Said,)

    @property
    def summary(self) -> str:
        """The command, as it is typed."""
        return f"xdpguard {self.command}"

    def line(self, path: dict[str, str], query: Struct, body: Struct | None) -> list[str]:
        """Return the command's words. No field can become an option that it is not."""
        given = [query] if body is None else [query, body]
        named: dict[str, Any] = dict(path)
        found = self.command.split()
        for its in given:
            found += options(its, self.arguments)
            named |= {name: getattr(its, name) for name in self.arguments if hasattr(its, name)}
        found += [f"--{name}={value}" for name, value in path.items() if name not in self.arguments]
        found += [] if self.said else ["--json"]
        plain = [*(word for name in self.arguments for word in words(named[name])), *self.tail]
        return [*found, "--", *plain] if plain else found


_TARGETS, _TARGET, _NAME = ("targets",), ("target",), ("name",)
_LISTS = (entries.NamedList, entries.ShadowList)
_RULES = (entries.Rule, entries.ShadowRule)
_LOADED = (entries.LoadedNow, entries.DryLoad)

ENDPOINTS = (
    Endpoint("GET", "/v1/status", "status", (state.Status,)),
    Endpoint("GET", "/v1/stats", "stats", (traffic.Stats,)),
    Endpoint("GET", "/v1/syns", "syns", (traffic.Syns,), many=True, query=bodies.WhichSyns),
    Endpoint("GET", "/v1/events", "events", (traffic.Events,), query=bodies.WhichDrops),
    Endpoint(
        "GET",
        "/v1/explain",
        "explain",
        (described(Address), described(Packet)),
        query=bodies.Question,
        arguments=("what",),
    ),
    Endpoint("GET", "/v1/rules", "rules", _RULES, many=True, query=bodies.WhichRules),
    Endpoint("POST", "/v1/blocks", "block", body=bodies.Block, arguments=_TARGETS),
    Endpoint("DELETE", "/v1/blocks/{target:path}", "unblock", query=bodies.Unblock, arguments=_TARGET),
    Endpoint("POST", "/v1/allows", "allow", body=bodies.Allow, arguments=_TARGETS),
    Endpoint("DELETE", "/v1/allows/{target:path}", "disallow", query=bodies.Disallow, arguments=_TARGET),
    Endpoint("POST", "/v1/ports", "block", body=bodies.Close),
    Endpoint("DELETE", "/v1/ports/{port:path}", "unblock", query=bodies.Confirmed),
    Endpoint("GET", "/v1/lists", "lists show", _LISTS, many=True),
    Endpoint("GET", "/v1/lists/{name}", "lists show", _LISTS, many=True, arguments=_NAME),
    Endpoint(
        "POST", "/v1/lists/{name}", "lists load", _LOADED, query=bodies.Load, text=True, arguments=_NAME, tail=("-",)
    ),
    Endpoint("DELETE", "/v1/lists/{name}", "lists remove", query=bodies.Unblock, arguments=_NAME),
    Endpoint("GET", "/v1/filters", "filter list", (filters.Filter,), many=True),
    Endpoint("POST", "/v1/filters", "filter add", body=bodies.NewFilter, arguments=("name", "match")),
    Endpoint("GET", "/v1/filters/{name}", "filter show", (filters.Filter,), arguments=_NAME),
    Endpoint("DELETE", "/v1/filters/{name}", "filter remove", query=bodies.Disallow, arguments=_NAME),
    Endpoint("POST", "/v1/filters/{name}/place", "filter move", body=bodies.Move, arguments=_NAME),
    Endpoint("POST", "/v1/promote", "promote", (entries.Promotion,), body=bodies.Promote, arguments=_TARGETS),
    Endpoint("GET", "/v1/fleet", "fleet status", (fleet.FleetStatus,)),
    Endpoint("GET", "/v1/guard", "guard show", (state.GuardShow,)),
    Endpoint("POST", "/v1/guard", "guard set", body=bodies.GuardValues, arguments=("values",)),
    Endpoint("GET", "/v1/default", "default show", (default.DefaultShow,), query=bodies.WhichCuts),
    Endpoint("POST", "/v1/default/drop", "default drop", body=bodies.DefaultDrop),
    Endpoint("POST", "/v1/default/pass", "default pass", body=bodies.Confirmed),
    Endpoint("GET", "/v1/changes", "undo --list", (changes.Change,), many=True),
    Endpoint("GET", "/v1/confirm", "confirm --show", (changes.Confirmation,)),
    Endpoint("POST", "/v1/confirm", "confirm", (changes.Confirmation,)),
    Endpoint("POST", "/v1/undo", "undo", (changes.Undone,), body=bodies.Forced),
)
