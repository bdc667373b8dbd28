# SPDX-License-Identifier: GPL-2.0
"""Nobody locks himself out: what a change of rules would cut off, found before it is made.

A rule that ends before another one does is no protection from it: an allowance counts only if it lasts as long.
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
    """Refuses prefixes that hold everybody, or an address the host needs that is not allowed for as long.

    The host, here and below, is every network namespace that the instance guards, and that of this command.
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
        culprit = next((cover for cover in _covers(address) if cover in wanted), None)
        if culprit is not None and not _allowed(store, address, now, None if life is None else now + life):
            inside = f"{culprit}" if culprit == address else f"{culprit} holds {address}, which"
            raise XdpguardError(f"{inside} is {role}", f"allow it first: xdpguard allow {address}; {_FORCE}")


def check_list(
    store: Store,
    name: str,
    entries: AddressSet,
    places: Collection[str] = (),
    config: Collection[NewRule] | None = None,
) -> None:
    """Refuses a list that holds everybody, or an address the host needs that is not allowed for good.

    The host is ``places``, too. ``config``: the rules of the configuration as they will be, in place of those that are
    stored.
    """
    check_everybody(name, entries)
    now = time.time()
    for address, role in _guarded(store, {"", *places}):
        culprit = entries.holding(address)
        if culprit is not None and not _allowed(store, address, now, None, config):
            inside = f"{culprit}" if culprit == address else f"{culprit}, which holds {address},"
            raise XdpguardError(
                f"{inside} of the list {name} is {role}",
                f"nothing was changed; allow it first: xdpguard allow {address}; {_FORCE}",
            )


def check_everybody(name: str, entries: AddressSet) -> None:
    """Refuses a list that holds every address there is."""
    for version in (4, 6):
        whole = entries.holding(Prefix(bytes(4 if version == 4 else 16), 0))
        if whole is not None and whole.length == 0:
            raise XdpguardError(
                f"the list {name} holds every IPv{version} address there is", f"nothing was changed; {_FORCE}"
            )


def check_lists(store: Store, places: Collection[str], config: Collection[NewRule]) -> None:
    """`check_list` for all lists that are stored and were not forced."""
    stored = ListStore(store)
    for it in stored.all():
        if not it.forced:
            check_list(store, it.name, stored.entries(it.name), places, config)


def _guarded(store: Store, places: Collection[str] = ("",)) -> Iterator[sockets.Protected]:
    """What these namespaces need, and those that are guarded; one of them that has gone needs nothing."""
    for place, found in _in_each(store, places, sockets.protected):
        yield from (it._replace(role=f"{it.role} in {place}") for it in found) if place else found


def _sessions(store: Store, places: Collection[str] = ("",)) -> Iterator[sockets.Session]:
    """The SSH sessions there."""
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
    """Refuses to close a port over which somebody is logged in who is not allowed."""
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
    """Refuses to take an address off the allow list that the host needs and another rule would cut off."""
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
    """Refuses when a list holds an address that the host needs and that only ``gone`` allow for good."""
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
    """Refuses to attach when a rule, stored or of the configuration, would cut off what ``places`` need, or another
    guarded namespace.
    """
    now = time.time()
    allow = {rule.target for rule in config if rule.kind == "allow"}
    block = {rule.target for rule in config if rule.kind == "block"}
    ports = {rule.target for rule in config if rule.kind == "port"}
    closed = _over_closed_ports(store, now, _sessions(store, places), ports)
    for address, role in _guarded(store, places):
        covers = set(_covers(address))
        stored = store.covering("block", address, now)
        culprits = [str(rule.target) for rule in stored] + [str(target) for target in block & covers]
        ends = None if any(rule.expires is None for rule in stored) or block & covers else _last_end(stored)
        if allow & covers or _allowed(store, address, now, ends):
            continue
        if culprits:
            raise XdpguardError(
                f"{address} is {role}, and the rule {culprits[0]} blocks it",
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
    """Whether an allowance holds until then (None: for good). ``config``: as in check_list."""
    rules = store.covering("allow", address, now)
    if config is not None:
        targets = {rule.target for rule in config if rule.kind == "allow"}
        if targets.intersection(_covers(address)):
            return True
        rules = [rule for rule in rules if rule.source != _CONFIG]
    return any(rule.expires is None or (until is not None and rule.expires >= until) for rule in rules)


def _last_end(rules: Iterable[Rule]) -> float | None:
    return max((rule.expires for rule in rules if rule.expires is not None), default=None)


def _over_closed_ports(
    store: Store, now: float, its: Iterable[sockets.Session], more: Collection[Target] = ()
) -> dict[Prefix, Port]:
    """SSH peers of these sessions that use a port that a rule, or one of ``more``, closes."""
    closed = {rule.target for rule in store.rules("port") if rule.expires is None or rule.expires > now}.union(more)
    sessions = ((session.peer, Port(session.port, "tcp")) for session in its)
    return {peer: port for peer, port in sessions if port in closed}


def _covers(address: Prefix) -> Iterable[Prefix]:
    width = len(address.network) * 8
    number = int.from_bytes(address.network, "big")
    for length in range(width, -1, -1):
        yield Prefix((number >> (width - length) << (width - length)).to_bytes(width // 8, "big"), length)
