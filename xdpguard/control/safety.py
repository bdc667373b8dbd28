# SPDX-License-Identifier: GPL-2.0
"""Prevent lockouts: find what a change of rules would cut off before it is made.

An allow rule protects from a block only if it does not expire earlier. "The host" in this module is every network
namespace that counts as the host (needs.py).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from xdpguard.control import losses, needs, openness
from xdpguard.control.outlook import DEFAULT, BlockingEntry, Outlook, end_after, end_in, held
from xdpguard.errors import XdpguardError
from xdpguard.net.sockets import Protected
from xdpguard.policy.filter import Filter
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Port, Prefix
from xdpguard.store.database import Store
from xdpguard.store.filters import FilterStore
from xdpguard.store.lists import ListStore
from xdpguard.units import span

if TYPE_CHECKING:
    from xdpguard.dataplane.tables.default import InForce
    from xdpguard.lists.addresses import AddressSet

_FORCE = "use --force to override"


def check_block(store: Store, prefixes: Collection[Prefix], life: float | None = None) -> None:
    """Refuse to block every address there is, or what the host needs and is not allowed for as long."""
    lost = losses.of_blocks(store, prefixes, life)
    if everybody := [it for it in prefixes if it.length == 0]:
        covered = " and ".join(f"{it} covers every IPv{it.version} address" for it in everybody)
        raise XdpguardError(
            f"{covered}, also what this host needs: {losses.named(lost)}" if lost else covered,
            f"allow what you need first: {losses.command(lost) if lost else 'xdpguard allow ADDRESS...'}; {_FORCE}",
        )
    if lost:
        what = "it" if len(lost) == 1 else "what you need"
        raise XdpguardError(losses.sentence(lost), f"allow {what} first: {losses.command(lost)}; {_FORCE}")


def check_list(
    store: Store,
    name: str,
    entries: AddressSet,
    places: Collection[str] = (),
    config: Collection[NewRule] | None = None,
    loopback: Collection[str] = (),
    needed: Collection[Protected] | None = None,
) -> None:
    """Refuse a list that holds every address there is, or one that the host needs and that is not allowed for as long.

    ``places`` and ``loopback``: as in `needs.refusing`. ``config``: the coming rules of the configuration, which
    replace the stored ones. ``needed``: the result of `needs.refusing`, for whoever checks many lists.
    """
    entries, outlook = entries.at(time.time()), Outlook(store, config)
    check_everybody(name, entries)
    for need in needs.refusing(store, {"", *places}, loopback) if needed is None else needed:
        address = need.address
        blocking = held(entries, address)
        if blocking is not None and outlook.allowed_until(address) < end_in(entries, address):
            which = "which" if blocking == address else f"and {address} in it"
            raise XdpguardError(
                f"the list {name} holds {blocking}, {which} is {need.words}",
                f"nothing was changed; allow it first: xdpguard allow {address}; {_FORCE}",
            )


def check_everybody(name: str, entries: AddressSet) -> None:
    """Refuse a list that holds every address there is."""
    entries = entries.at(time.time())
    for version in (4, 6):
        if entries.has_all(version):
            raise XdpguardError(
                f"the list {name} contains every IPv{version} address", f"nothing was changed; {_FORCE}"
            )


def check_ports(store: Store, ports: Iterable[Port], life: float | None = None) -> None:
    """Refuse to close a port that carries an SSH session whose peer is not allowed for as long."""
    outlook, until = Outlook(store), end_after(life)
    sessions = [it for it in needs.refusing(store) if it.ports]
    for port in ports:
        for it in sessions:
            if port in it.ports and outlook.allowed_until(it.address) < until:
                raise XdpguardError(
                    f"{port} carries the SSH session from {it.address} ({it.evidence})",
                    f"allow it first: xdpguard allow {it.address}; {_FORCE}",
                )


def check_disallow(store: Store, prefixes: Collection[Prefix]) -> None:
    """Refuse to remove an allow rule without which an address that the host needs is cut off, at once or sooner."""
    check_after(store, Outlook(store, without=prefixes))


def check_after(store: Store, after: Outlook) -> None:
    """Refuse a change of several kinds that would leave an address that the host needs cut off sooner than before."""
    for it in _sooner(store, after):
        raise XdpguardError(*_cut(*it))


def check_default(store: Store, wanted: InForce) -> None:
    """Refuse a default that would let nobody log in again from where somebody is logged in."""
    check_after(store, Outlook(store, default=wanted))


def check_filters(store: Store, filters: Sequence[Filter]) -> None:
    """Refuse filters, in order, as a change would leave them, that cut off what the host needs sooner than before."""
    check_after(store, Outlook(store, filters=filters))


def lost_by_filters(store: Store, filters: Sequence[Filter]) -> tuple[list[str], bool]:
    """Return what such a change cuts off although it is refused, one sentence each, and whether the default does it."""
    found = list(_sooner(store, Outlook(store, filters=filters)))
    return [_cut(*it)[0] for it in found], any(entry.words == DEFAULT for _, entry, _ in found)


def check_asked(store: Store, name: str, entries: AddressSet) -> None:
    """Refuse a list with which a filter that asks it would cut off what the host needs."""
    if not any(name in it.lists for it in FilterStore(store).alive(time.time())):
        return
    for need, entry, _ in _sooner(store, Outlook(store, asked={name: entries})):
        raise XdpguardError(
            f"{need.address} is {need.words}, and with this list {name} {entry.words} {entry.does}",
            f"nothing was changed; allow it first: xdpguard allow {need.address}; or {entry.remedy}; {_FORCE}",
        )


def check_allow(store: Store, prefixes: Collection[Prefix], life: float | None) -> None:
    """Refuse to allow everybody, and an end that leaves an address that the host needs cut off sooner than before.

    An end given to an allow rule also ends the one of the same target that had a later one.
    """
    now = time.time()
    rules = [NewRule("allow", it, "", "cli", now, None if life is None else now + life) for it in prefixes]
    openness.check(store, rules)
    if life is not None:
        check_after(store, Outlook(store, more=rules))


def check_attach(
    store: Store,
    places: Collection[str],
    config: Collection[NewRule],
    loopback: Collection[str] = (),
    filters: Sequence[Filter] | None = None,
    default: InForce | None = None,
    asked: Mapping[str, AddressSet] | None = None,
) -> None:
    """Refuse to attach if an entry, stored or configured, would cut off what ``places`` or guarded namespaces need.

    The rules of the configuration replace those of the one before; ``filters``: all that there will be, None: those
    that are stored; ``default``: the one that the attach puts in force; ``asked``: lists that come, as filters find
    them. As blocks, lists have checks of their own.
    """
    openness.check(store, [it for it in config if it.kind == "allow"], config)
    outlook = Outlook(store, config, filters=filters, default=default, asked=asked)
    for need in needs.refusing(store, places, loopback):
        until, entry = outlook.cut(need.address, need.ports, need.service)
        if entry is None or entry.words.startswith("the list"):
            continue  # stored lists are refused by check_lists
        remedy, then = f"xdpguard allow {need.address}, or remove the rule; {_FORCE}", _then(until)
        if entry.words.startswith("closed port"):
            port = entry.words.removeprefix("closed port ")
            raise XdpguardError(
                f"{port} is closed by a rule, and carries the SSH session from {need.address} ({need.evidence}){then}",
                remedy,
            )
        if entry.words == DEFAULT or entry.words.startswith("the filter"):
            raise XdpguardError(*_cut(need, entry, until))
        rule = entry.words.removeprefix("block ")
        raise XdpguardError(f"{need.address} is {need.words}, and the rule {rule} blocks it{then}", remedy)


def check_lists(
    store: Store, places: Collection[str], config: Collection[NewRule], loopback: Collection[str] = ()
) -> None:
    """Apply `check_list` to all stored lists that were not forced."""
    stored = ListStore(store)
    lists = [it for it in stored.all() if not it.forced]
    needed = needs.refusing(store, {"", *places}, loopback) if lists else []
    for it in lists:
        check_list(store, it.name, stored.entries(it.name), places, config, loopback, needed)


def _sooner(store: Store, after: Outlook) -> Iterator[tuple[Protected, BlockingEntry, float]]:
    """Yield what would be cut off sooner than before, by what, and when (0: at once)."""
    before = Outlook(store)
    for need in needs.refusing(store):
        until, entry = after.cut(need.address, need.ports, need.service)
        if entry is not None and until < before.cut(need.address, need.ports, need.service)[0]:
            yield need, entry, until


def _cut(need: Protected, entry: BlockingEntry, until: float) -> tuple[str, str]:
    """Return the message and the remedy for an address that would be cut off by an entry."""
    kind, _, name = entry.words.rpartition(" ")
    then = _then(until)
    if entry.words == DEFAULT:
        ports = ", ".join(map(str, need.ports))
        return (
            f"{need.address} is {need.words}, over {ports}, and a new login there belongs to nothing that the default"
            f" admits{then}",
            f"nothing was changed; pass it first: xdpguard filter add logins '{need.ports[0].protocol} dport"
            f" {need.ports[0].number}' --pass, or xdpguard allow {need.address}; {_FORCE}",
        )
    if kind == "the list":
        return (
            f"{need.address} is {need.words}, and the list {name} contains it{then}",
            f"remove the list first: xdpguard lists remove {name}; {_FORCE}",
        )
    if kind == "closed port":
        return (
            f"{need.address} is {need.words}, over {name}, which is closed{then}",
            f"open it first: xdpguard unblock --port {name}; {_FORCE}",
        )
    if kind == "the filter":
        return (
            f"{need.address} is {need.words}, and the filter {name} {entry.does}{then}",
            f"pass them before it, with a filter of its own (--before {name}), or allow it first: xdpguard allow"
            f" {need.address}; {_FORCE}",
        )
    return (
        f"{need.address} is {need.words}, and {name} blocks it{then}",
        f"unblock it first: xdpguard unblock {name}; {_FORCE}",
    )


def _then(until: float) -> str:
    """Return what to say of an allow rule that remains but ends too soon."""
    left = until - time.time()
    return f" when what else allows it ends, in {span(int(left))}" if left >= 1 else ""
