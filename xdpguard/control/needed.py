# SPDX-License-Identifier: GPL-2.0
"""Addresses that this host needs although an entry blocks them: each is let through by an allow rule of its own.

A command of a user is refused (safety.py). `run` has nobody to ask: it puts every entry in force and lets through the
few addresses without which the host is lost, by rules of origin "safety", removed when the conflict no longer exists.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.control import needs
from xdpguard.control.entries import Entries
from xdpguard.control.outlook import DEFAULT, BlockingEntry, Outlook, default_mark, filter_mark, mark
from xdpguard.policy.filter import Filter
from xdpguard.policy.rule import SAFETY, NewRule
from xdpguard.policy.target import Port, Prefix, Target
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore
from xdpguard.store.lists import ListStore

if TYPE_CHECKING:
    from xdpguard.dataplane.tables.default import InForce
    from xdpguard.lists.addresses import AddressSet
    from xdpguard.net.sockets import Service

_FORCED = "forced"  # fact: JSON, pairs of an address and the mark of an entry that was forced on it
_MARGIN = 120.0  # seconds: an allow rule that expires sooner no longer counts as protection


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


class _Needs:
    """Finds conflicts of needed addresses with the entries that block them, except those that were forced."""

    def __init__(self, store: Store, outlook: Outlook) -> None:
        self._outlook = outlook
        self._forced = _forced(store)

    def conflict(
        self, address: Prefix, role: str, ports: Collection[Port] = (), service: Service | None = None
    ) -> Conflict | None:
        """Return the conflict of an address; None if it is allowed for long enough, or nothing blocks it."""
        allowed = self._outlook.allowed_until(address, safety=False)
        lasting = allowed > time.time() + _MARGIN
        entries = tuple(
            it
            for it in self._outlook.blocking(address, ports, service)
            if (str(address), it.mark) not in self._forced and not (lasting or allowed >= it.ends)
        )
        return Conflict(address, role, entries) if entries else None


def conflicts(
    store: Store,
    places: Iterable[str] = ("",),
    rules: Collection[NewRule] | None = None,
    lists: Mapping[str, AddressSet] | None = None,
    filters: Sequence[Filter] | None = None,
    coming: InForce | None = None,
    asked: Mapping[str, AddressSet] | None = None,
) -> list[Conflict]:
    """Return the needed addresses that entries block, in ``places`` and wherever the instance is attached.

    ``rules`` and ``lists``: those of the configuration that are about to be put in force; ``filters``: all that there
    will be; ``coming``: the default; None: they stay. ``asked``: lists about to be put in force, as filters find them.
    """
    its = _Needs(store, Outlook(store, rules, lists, filters=filters, default=coming, asked=asked))
    found: dict[Prefix, Conflict] = {}
    for need in needs.now(store, tuple(places)):
        conflict = its.conflict(need.address, need.words, need.ports, need.service)
        if conflict is not None:
            found.setdefault(need.address, conflict)
    return list(found.values())


def addresses(store: Store, places: Iterable[str] = ("",)) -> frozenset[tuple[Prefix, str]]:
    """Return the addresses needed in ``places`` and wherever the instance is attached, each with its role."""
    return frozenset((it.address, it.words) for it in needs.now(store, tuple(places)))


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


def accept(
    store: Store,
    blocks: Collection[Target] | None = None,
    addresses: Collection[Prefix] | None = None,
    filters: Collection[str] | None = None,
    default: bool = False,
) -> None:
    """Record the entries that the user has forced on needed addresses, so that these are not let through.

    ``blocks`` and ``filters``: only rules of these targets, and filters of these names; ``addresses``: only addresses
    in these prefixes. ``default``: the default, too.
    """
    words = None if blocks is None and filters is None else {f"the filter {it}" for it in filters or ()}
    if words is not None:
        words |= {DEFAULT} if default else set()
        words |= {f"{what} {it}" for it in blocks or () for what in ("block", "closed port")}
    made = [
        (str(it.address), by.mark)
        for it in conflicts(store)
        for by in it.entries
        if (words is None or by.words in words)
        and (addresses is None or any(prefix.covers(it.address) for prefix in addresses))
    ]
    if made:
        there = {mark(rule) for rule in (*store.rules("block"), *store.rules("port"))}
        there.add(default_mark(store))
        there |= {f"list {it.name} {it.loaded}" for it in ListStore(store).all()}
        there |= {filter_mark(it) for it in FilterStore(store).all()}
        pairs = sorted({pair for pair in {*made, *_forced(store)} if pair[1] in there})
        with store.transaction():
            store.put_fact(_FORCED, json.dumps(pairs))


def not_logged_in(store: Store, places: Iterable[str] = ("",)) -> list[tuple[Prefix, str]]:
    """Return the blocked sources that hold a connection to an SSH port but are not logged in, and what blocks each."""
    where = tuple(places)
    its = _Needs(store, Outlook(store))
    kept_anyway = {address for address, _ in addresses(store, where)}
    found = ((peer, its.conflict(peer, "")) for peer in sorted(needs.visitors(store, where) - kept_anyway))
    return [(peer, conflict.blocked_by) for peer, conflict in found if conflict]


def _forced(store: Store) -> set[tuple[str, str]]:
    pairs: Sequence[tuple[str, str]] = json.loads(store.fact(_FORCED) or "[]")
    return {(address, mark) for address, mark in pairs}
