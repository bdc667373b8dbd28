# SPDX-License-Identifier: GPL-2.0
"""Addresses that this host needs although an entry blocks them: each is let through by an allow rule of its own.

A command of a user is refused (safety.py). `run` has nobody to ask: it puts every entry in force and lets through the
few addresses without which the host is lost, by rules of origin "safety", removed when the conflict no longer exists.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.control.entries import Entries
from xdpguard.net import netns, sockets
from xdpguard.policy.rule import CONFIG, SAFETY, NewRule, Rule
from xdpguard.policy.target import Port, Prefix, Target
from xdpguard.store.database import Store
from xdpguard.store.lists import ListStore
from xdpguard.store.rows import around

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_FORCED = "forced"  # fact: JSON, pairs of an address and the mark of an entry that was forced on it
_MARGIN = 120.0  # seconds: an allow rule that expires sooner no longer counts as protection


class BlockingEntry(NamedTuple):
    """An entry that blocks an address, as text. ``mark`` differs for an entry of the same name made later."""

    words: str
    mark: str
    remedy: str


class Conflict(NamedTuple):
    """An address that this host needs, its role (text that fits after "is"), and the entries that block it."""

    address: Prefix
    role: str
    entries: tuple[BlockingEntry, ...]

    @property
    def blocked_by(self) -> str:
        """The blocking entries as text."""
        return ", ".join(it.words for it in self.entries)

    @property
    def remedy(self) -> str:
        """What resolves the conflict for good."""
        return f"xdpguard allow {self.address}, or {self.entries[0].remedy}"

    def __str__(self) -> str:
        verb = "block" if len(self.entries) > 1 else "blocks"
        return f"{self.address} is let through although {self.blocked_by} {verb} it: it is {self.role}"


class Blocking:
    """The entries that may block sources: enforced rules and lists, stored or about to be put in force."""

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
        """Return the conflict of an address with the entries that block it; None if it is allowed or all were forced.

        ``ports``: the ports over which a user is logged in from that address.
        """
        now = time.time()
        entries = [it for it in self._blocking(address, ports, now) if (str(address), it.mark) not in self._forced]
        if not entries or self._allowed(address, now + _MARGIN):
            return None
        return Conflict(address, role, tuple(entries))

    def _blocking(self, address: Prefix, ports: Collection[Port], now: float) -> Iterator[BlockingEntry]:
        rules: list[Rule | NewRule] = [*self._store.covering("block", address, now)]
        covers = {Prefix(*pair) for pair in around(address)}
        rules += [it for it in self._new if it.kind == "block" and it.target in covers]
        for target, rule in {it.target: it for it in rules}.items():
            yield BlockingEntry(f"block {target}", _mark(rule), f"take the block of {target} away")
        for name, mark, entries in self._lists:
            if entries.holding(address) is not None:
                yield BlockingEntry(f"the list {name}", mark, f"take it off the list {name}")
        if ports:
            closed: list[Rule | NewRule] = [*self._store.rules("port"), *self._new]
            for port, rule in {it.target: it for it in closed}.items():
                if port in ports and (rule.expires is None or rule.expires > now):
                    yield BlockingEntry(f"closed port {port}", _mark(rule), f"reopen {port}")

    def _allowed(self, address: Prefix, until: float) -> bool:
        covers = {Prefix(*pair) for pair in around(address)}
        if any(it.kind == "allow" and it.target in covers for it in self._new):
            return True
        # With new rules, those of the configuration are about to be replaced.
        left_out = {SAFETY, CONFIG} if self._new else {SAFETY}
        parts = (part for rule in self._store.covering("allow", address, time.time()) for part in rule.parts)
        return any(it.source not in left_out and (it.expires is None or it.expires > until) for it in parts)


def conflicts(
    store: Store,
    places: Iterable[str] = ("",),
    rules: Collection[NewRule] = (),
    lists: Mapping[str, AddressSet] | None = None,
) -> list[Conflict]:
    """Return the needed addresses that entries block, in ``places`` and wherever the instance is attached.

    ``rules`` and ``lists``: those of the configuration that are about to be put in force.
    """
    blocking = Blocking(store, rules, lists)
    found: dict[Prefix, Conflict] = {}
    for address, role, ports in _needed({*places, *(it.netns for it in store.attachments())}):
        conflict = blocking.conflict(address, role, ports)
        if conflict is not None:
            found.setdefault(address, conflict)
    return list(found.values())


def addresses(store: Store, places: Iterable[str] = ("",)) -> frozenset[tuple[Prefix, str]]:
    """Return the addresses needed in ``places`` and wherever the instance is attached, each with its role."""
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
    """Let exactly these addresses through. The caller holds the instance's lock. Raise XdpguardError if full."""
    now = time.time()
    wanted = [NewRule("allow", it.address, f"{it.role}; {it.blocked_by}", SAFETY, now, None) for it in found]
    held = {target: part.reason for target, part in entries.of_source("allow", SAFETY).items()}
    if held != {rule.target: rule.reason for rule in wanted}:
        changed = [it for it in wanted if held.get(it.target, it.reason) != it.reason]
        with entries.changes.begin():
            entries.replace_source(SAFETY, wanted)
            if changed:
                entries.add_rules(changed, replace=True)


def kept(store: Store) -> list[Conflict]:
    """Return the present conflicts whose address is let through by a rule of `keep`."""
    held = {it.target for it in store.rules("allow") if it.part(SAFETY)}
    return [it for it in conflicts(store) if it.address in held] if held else []


def accept(store: Store, blocks: Collection[Target] | None = None, addresses: Collection[Prefix] | None = None) -> None:
    """Record the entries that the user has forced on needed addresses, so that these are not let through.

    ``blocks``: only rules of these targets; ``addresses``: only addresses in these prefixes.
    """
    words = None if blocks is None else {f"block {it}" for it in blocks} | {f"closed port {it}" for it in blocks}
    made = [
        (str(it.address), by.mark)
        for it in conflicts(store)
        for by in it.entries
        if (words is None or by.words in words)
        and (addresses is None or any(prefix.covers(it.address) for prefix in addresses))
    ]
    if made:
        there = {_mark(rule) for rule in (*store.rules("block"), *store.rules("port"))}
        there |= {f"list {it.name} {it.loaded}" for it in ListStore(store).all()}
        pairs = sorted({pair for pair in {*made, *_forced(store)} if pair[1] in there})
        with store.transaction():
            store.put_fact(_FORCED, json.dumps(pairs))


def not_logged_in(store: Store, places: Iterable[str] = ("",)) -> list[tuple[Prefix, str]]:
    """Return the blocked sources that hold a connection to an SSH port but are not logged in, and what blocks each."""
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
    """Return the mark of a rule: renewing the rule keeps it, removing and adding the rule again changes it."""
    return f"{rule.kind} {rule.target} {rule.created}"


def _forced(store: Store) -> set[tuple[str, str]]:
    pairs: Sequence[tuple[str, str]] = json.loads(store.fact(_FORCED) or "[]")
    return {(address, mark) for address, mark in pairs}
