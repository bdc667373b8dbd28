# SPDX-License-Identifier: GPL-2.0
"""Prevent lockouts: find what a change of rules would cut off before it is made.

An allow rule protects from a block only if it does not expire earlier.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net import netns, sockets
from xdpguard.policy.rule import NewRule, Rule
from xdpguard.policy.target import Port, Prefix, Target
from xdpguard.store.database import Store
from xdpguard.store.lists import ListStore

if TYPE_CHECKING:
    from xdpguard.lists.addresses import AddressSet

_T = TypeVar("_T")
_CONFIG = "config"  # origin of the rules of the configuration
_FORCE = "--force does it all the same"


def check_block(store: Store, prefixes: Collection[Prefix], life: float | None = None) -> None:
    """Refuse to block every address there is, or one that the host needs and that is not allowed for as long.

    "The host" in this module is every network namespace that the instance guards, and that of this command.
    """
    now = time.time()
    for prefix in prefixes:
        if prefix.length == 0:
            raise UsageError(
                f"{prefix} is every IPv{prefix.version} address there is",
                f"allow the addresses you need first; {_FORCE}",
            )
    wanted = set(prefixes)
    for address, role in _guarded(store):
        blocking = next((cover for cover in _covers(address) if cover in wanted), None)
        if blocking is not None and not _allowed(store, address, now, None if life is None else now + life):
            inside = f"{blocking}" if blocking == address else f"{blocking} holds {address}, which"
            raise XdpguardError(f"{inside} is {role}", f"allow it first: xdpguard allow {address}; {_FORCE}")


def check_list(
    store: Store,
    name: str,
    entries: AddressSet,
    places: Collection[str] = (),
    config: Collection[NewRule] | None = None,
) -> None:
    """Refuse a list that holds every address there is, or one that the host needs and that is not allowed for good.

    ``places``: namespaces that also count as the host. ``config``: the coming rules of the configuration, which replace
    the stored ones.
    """
    check_everybody(name, entries)
    now = time.time()
    for address, role in _guarded(store, {"", *places}):
        blocking = entries.holding(address)
        if blocking is not None and not _allowed(store, address, now, None, config):
            inside = f"{blocking}" if blocking == address else f"{blocking}, which holds {address},"
            raise XdpguardError(
                f"{inside} of the list {name} is {role}",
                f"nothing was changed; allow it first: xdpguard allow {address}; {_FORCE}",
            )


def check_everybody(name: str, entries: AddressSet) -> None:
    """Refuse a list that holds every address there is."""
    for version in (4, 6):
        whole = entries.holding(Prefix(bytes(4 if version == 4 else 16), 0))
        if whole is not None and whole.length == 0:
            raise XdpguardError(
                f"the list {name} holds every IPv{version} address there is", f"nothing was changed; {_FORCE}"
            )


def check_lists(store: Store, places: Collection[str], config: Collection[NewRule]) -> None:
    """Apply `check_list` to all stored lists that were not forced."""
    stored = ListStore(store)
    for it in stored.all():
        if not it.forced:
            check_list(store, it.name, stored.entries(it.name), places, config)


def _guarded(store: Store, places: Collection[str] = ("",)) -> Iterator[sockets.Protected]:
    """Yield what these and the guarded namespaces need; a guarded one that no longer exists is skipped."""
    for place, found in _in_each(store, places, sockets.protected):
        yield from (it._replace(role=f"{it.role} in {place}") for it in found) if place else found


def _sessions(store: Store, places: Collection[str] = ("",)) -> Iterator[sockets.Session]:
    """Yield the SSH sessions in these and the guarded namespaces."""
    for _, found in _in_each(store, places, sockets.ssh_sessions):
        yield from found


def _in_each(store: Store, places: Collection[str], ask: Callable[[], _T]) -> Iterator[tuple[str, _T]]:
    for place in sorted({*places, *(it.netns for it in store.attachments())}):
        try:
            with netns.entered(place):
                found = ask()
        except netns.NoSuchNamespace:
            if place in places:
                raise
            continue
        yield place, found


def check_ports(store: Store, ports: Iterable[Port]) -> None:
    """Refuse to close a port that carries an SSH session whose peer is not allowed."""
    now = time.time()
    sessions = list(_sessions(store))
    for port in ports:
        for session in sessions:
            if port == Port(session.port, "tcp") and not _allowed(store, session.peer, now, None):
                raise XdpguardError(
                    f"{port} carries the SSH session from {session.peer}",
                    f"allow it first: xdpguard allow {session.peer}; {_FORCE}",
                )


def check_disallow(store: Store, prefixes: Collection[Prefix]) -> None:
    """Refuse to remove an allow rule without which another rule would cut off an address that the host needs."""
    now = time.time()
    gone = set(prefixes)
    _check_listed(store, gone, now)
    closed = _over_closed_ports(store, now, _sessions(store))
    for address, role in _guarded(store):
        allowing = [rule.target for rule in store.covering("allow", address, now)]
        if not allowing or not all(target in gone for target in allowing):
            continue
        blocking = store.covering("block", address, now)
        if blocking:
            raise XdpguardError(
                f"{address} is {role}, and {blocking[0].target} blocks it",
                f"unblock it first: xdpguard unblock {blocking[0].target}; {_FORCE}",
            )
        if address in closed:
            raise XdpguardError(
                f"{address} is {role}, over {closed[address]}, which is closed",
                f"open it first: xdpguard unblock --port {closed[address]}; {_FORCE}",
            )


def _check_listed(store: Store, gone: Collection[Prefix], now: float) -> None:
    """Refuse if a list holds an address that the host needs and that only rules for ``gone`` allow for good."""
    stored = ListStore(store)
    lists = [it for it in stored.all() if not it.forced]
    if not lists:
        return
    needed = []
    for address, role in _guarded(store):
        lasting = [rule.target for rule in store.covering("allow", address, now) if rule.expires is None]
        if lasting and all(target in gone for target in lasting):
            needed.append((address, role))
    for it in lists if needed else ():
        entries = stored.entries(it.name)
        for address, role in needed:
            if entries.holding(address) is not None:
                raise XdpguardError(
                    f"{address} is {role}, and the list {it.name} holds it",
                    f"drop the list first: xdpguard lists drop {it.name}; {_FORCE}",
                )


def check_attach(store: Store, places: Collection[str], config: Collection[NewRule]) -> None:
    """Refuse to attach if a rule, stored or configured, would cut off what ``places`` or guarded namespaces need."""
    now = time.time()
    allow = {rule.target for rule in config if rule.kind == "allow"}
    block = {rule.target for rule in config if rule.kind == "block"}
    ports = {rule.target for rule in config if rule.kind == "port"}
    closed = _over_closed_ports(store, now, _sessions(store, places), ports)
    for address, role in _guarded(store, places):
        covers = set(_covers(address))
        stored = store.covering("block", address, now)
        blocking = [str(rule.target) for rule in stored] + [str(target) for target in block & covers]
        ends = None if any(rule.expires is None for rule in stored) or block & covers else _last_end(stored)
        if allow & covers or _allowed(store, address, now, ends):
            continue
        if blocking:
            raise XdpguardError(
                f"{address} is {role}, and the rule {blocking[0]} blocks it",
                f"xdpguard allow {address}, or take the rule away; {_FORCE}",
            )
        if address in closed:
            raise XdpguardError(
                f"{closed[address]} is closed by a rule, and carries the SSH session from {address}",
                f"xdpguard allow {address}, or take the rule away; {_FORCE}",
            )


def _allowed(
    store: Store, address: Prefix, now: float, until: float | None, config: Collection[NewRule] | None = None
) -> bool:
    """Return whether an allow rule lasts until then (None: for good). ``config``: as in `check_list`."""
    rules = store.covering("allow", address, now)
    if config is not None:
        targets = {rule.target for rule in config if rule.kind == "allow"}
        if targets.intersection(_covers(address)):
            return True
        parts = [part for rule in rules for part in rule.parts if part.source != _CONFIG]
    else:
        parts = [part for rule in rules for part in rule.parts]
    return any(part.expires is None or (until is not None and part.expires >= until) for part in parts)


def _last_end(rules: Iterable[Rule]) -> float | None:
    return max((rule.expires for rule in rules if rule.expires is not None), default=None)


def _over_closed_ports(
    store: Store, now: float, its: Iterable[sockets.Session], more: Collection[Target] = ()
) -> dict[Prefix, Port]:
    """Return the peers of SSH sessions over a closed port, each with the port. ``more``: ports about to be closed."""
    closed = {rule.target for rule in store.rules("port") if rule.expires is None or rule.expires > now}.union(more)
    sessions = ((session.peer, Port(session.port, "tcp")) for session in its)
    return {peer: port for peer, port in sessions if port in closed}


def _covers(address: Prefix) -> Iterable[Prefix]:
    width = len(address.network) * 8
    number = int.from_bytes(address.network, "big")
    for length in range(width, -1, -1):
        yield Prefix((number >> (width - length) << (width - length)).to_bytes(width // 8, "big"), length)
