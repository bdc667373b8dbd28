# SPDX-License-Identifier: GPL-2.0
"""What this host needs although an entry blocks it: let through by an allowance of exactly that address, for as long.

A person who types a command is refused (safety.py). `run` has nobody to ask: it puts every entry in force and keeps
the few addresses without which the host is lost, by rules of origin "safety". They go when the conflict is gone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.control.entries import CONFIG, Entries
from xdpguard.net import netns, sockets
from xdpguard.policy.rule import SAFETY, NewRule, Rule
from xdpguard.policy.target import Port, Prefix, Target
from xdpguard.store.database import Store
from xdpguard.store.lists import ListStore
from xdpguard.store.rows import around

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_FORCED = "forced"  # fact: JSON, pairs of an address and the mark of an entry that was forced on it
_MARGIN = 120.0  # seconds: an allowance that ends sooner is about to protect nobody


class Culprit(NamedTuple):
    """An entry that blocks an address: in words, and what tells it from one of the same name made later."""

    words: str
    mark: str
    remedy: str


class Conflict(NamedTuple):
    """An address that this host needs, what for (words that fit behind 'is'), and what blocks it."""

    address: Prefix
    role: str
    culprits: tuple[Culprit, ...]

    @property
    def blocked_by(self) -> str:
        """The entries in words."""
        return ", ".join(it.words for it in self.culprits)

    @property
    def remedy(self) -> str:
        """What settles it for good."""
        return f"xdpguard allow {self.address}, or {self.culprits[0].remedy}"

    def __str__(self) -> str:
        verb = "block" if len(self.culprits) > 1 else "blocks"
        return f"{self.address} is let through although {self.blocked_by} {verb} it: it is {self.role}"


class Blocking:
    """What blocks sources: the enforced rules and lists of a store, and such as are about to be put in force."""

    def __init__(
        self, store: Store, rules: Collection[NewRule] = (), lists: Mapping[str, AddressSet] | None = None
    ) -> None:
        self._store = store
        self._new = rules
        stored = ListStore(store)
        coming = lists or {}
        self._lists = [
            (it.name, f"list {it.name} {it.loaded}", stored.entries(it.name))
            for it in stored.all()
            if not it.forced and it.name not in coming
        ] + [(name, "", entries) for name, entries in coming.items()]
        self._forced = _forced(store)

    def conflict(self, address: Prefix, role: str, ports: Collection[Port] = ()) -> Conflict | None:
        """What blocks an address, and is neither outweighed by a lasting allowance nor forced.

        ``ports``: those over which somebody is logged in from there.
        """
        now = time.time()
        culprits = [it for it in self._blocking(address, ports, now) if (str(address), it.mark) not in self._forced]
        if not culprits or self._allowed(address, now + _MARGIN):
            return None
        return Conflict(address, role, tuple(culprits))

    def _blocking(self, address: Prefix, ports: Collection[Port], now: float) -> Iterator[Culprit]:
        rules: list[Rule | NewRule] = [*self._store.covering("block", address, now)]
        covers = {Prefix(*pair) for pair in around(address)}
        rules += [it for it in self._new if it.kind == "block" and it.target in covers]
        for target, rule in {it.target: it for it in rules}.items():
            yield Culprit(f"block {target}", _mark(rule), f"take the block of {target} away")
        for name, mark, entries in self._lists:
            if entries.holding(address) is not None:
                yield Culprit(f"the list {name}", mark, f"take it off the list {name}")
        if ports:
            closed: list[Rule | NewRule] = [*self._store.rules("port"), *self._new]
            for port, rule in {it.target: it for it in closed}.items():
                if port in ports and (rule.expires is None or rule.expires > now):
                    yield Culprit(f"closed port {port}", _mark(rule), f"reopen {port}")

    def _allowed(self, address: Prefix, until: float) -> bool:
        covers = {Prefix(*pair) for pair in around(address)}
        if any(it.kind == "allow" and it.target in covers for it in self._new):
            return True
        rules = self._store.covering("allow", address, time.time())
        if self._new:
            # What the file says will be as it says now.
            rules = [it for it in rules if it.source != CONFIG]
        return any(it.source != SAFETY and (it.expires is None or it.expires > until) for it in rules)


def conflicts(
    store: Store,
    places: Iterable[str] = ("",),
    rules: Collection[NewRule] = (),
    lists: Mapping[str, AddressSet] | None = None,
) -> list[Conflict]:
    """Where entries block what is needed, in ``places`` and wherever the instance is attached.

    ``rules`` and ``lists``: the configuration's, about to be put in force.
    """
    blocking = Blocking(store, rules, lists)
    found: dict[Prefix, Conflict] = {}
    for address, role, ports in _needed({*places, *(it.netns for it in store.attachments())}):
        conflict = blocking.conflict(address, role, ports)
        if conflict is not None:
            found.setdefault(address, conflict)
    return list(found.values())


def addresses(store: Store, places: Iterable[str] = ("",)) -> frozenset[tuple[Prefix, str]]:
    """What is needed there and wherever the instance is attached, and what for."""
    found = _needed({*places, *(it.netns for it in store.attachments())})
    return frozenset((address, role) for address, role, _ in found)


def _needed(places: Iterable[str]) -> Iterator[tuple[Prefix, str, list[Port]]]:
    for place in sorted(places):
        try:
            with netns.entered(place):
                needed, sessions = sockets.needed(), sockets.ssh_sessions()
        except netns.NoSuchNamespace:
            continue
        where = f" in {place}" if place else ""
        for it in needed:
            ports = [Port(its.port, "tcp") for its in sessions if its.peer == it.address and it.role == sockets.LOGIN]
            yield it.address, it.role + where, ports


def keep(entries: Entries, found: Iterable[Conflict]) -> None:
    """Lets exactly these addresses through. Wants the instance's lock held; XdpguardError when there is no room."""
    now = time.time()
    wanted = [NewRule("allow", it.address, f"{it.role}; {it.blocked_by}", SAFETY, now, None) for it in found]
    held = {rule.target: rule.reason for rule in entries.of_source("allow", SAFETY)}
    if held != {rule.target: rule.reason for rule in wanted}:
        changed = [it for it in wanted if held.get(it.target, it.reason) != it.reason]
        with entries.changes.begin():
            entries.replace_source(SAFETY, wanted)
            if changed:
                entries.add_rules(changed)


def kept(store: Store) -> list[Conflict]:
    """Conflicts that are settled for the time being by an allowance of `keep`, as they are at this moment."""
    held = {it.target for it in store.rules("allow") if it.source == SAFETY}
    return [it for it in conflicts(store) if it.address in held] if held else []


def accept(store: Store, blocks: Collection[Target] | None = None, addresses: Collection[Prefix] | None = None) -> None:
    """Remembers what a person has forced on addresses that this host needs, so that nobody lets them through.

    ``blocks``: only rules of these targets; ``addresses``: only what is in these prefixes.
    """
    words = None if blocks is None else {f"block {it}" for it in blocks} | {f"closed port {it}" for it in blocks}
    made = [
        (str(it.address), by.mark)
        for it in conflicts(store)
        for by in it.culprits
        if (words is None or by.words in words)
        and (addresses is None or any(prefix.covers(it.address) for prefix in addresses))
    ]
    if made:
        there = {_mark(rule) for rule in (*store.rules("block"), *store.rules("port"))}
        there |= {f"list {it.name} {it.loaded}" for it in ListStore(store).all()}
        pairs = sorted({pair for pair in {*made, *_forced(store)} if pair[1] in there})
        with store.transaction():
            store.put_fact(_FORCED, json.dumps(pairs))


def strangers(store: Store, places: Iterable[str] = ("",)) -> list[tuple[Prefix, str]]:
    """Blocked sources that hold a connection to an SSH port without being logged in: where from, what blocks them."""
    blocking = Blocking(store)
    kept_anyway = {address for address, _ in addresses(store, places)}
    found: dict[Prefix, str] = {}
    for place in sorted({*places, *(it.netns for it in store.attachments())}):
        try:
            with netns.entered(place):
                peers = {it.peer for it in sockets.ssh_sessions()} - sockets.logged_in()
        except netns.NoSuchNamespace:
            continue
        for peer in sorted(peers - kept_anyway):
            conflict = blocking.conflict(peer, "")
            if conflict:
                found[peer] = conflict.blocked_by
    return list(found.items())


def _mark(rule: Rule | NewRule) -> str:
    """A rule keeps it when it is renewed; one that was taken away and made again has another."""
    return f"{rule.kind} {rule.target} {rule.created}"


def _forced(store: Store) -> set[tuple[str, str]]:
    pairs: Sequence[tuple[str, str]] = json.loads(store.fact(_FORCED) or "[]")
    return {(address, mark) for address, mark in pairs}
