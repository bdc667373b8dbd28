# SPDX-License-Identifier: GPL-2.0
"""What the host needs: gathered from every network namespace that counts as the host.

These are the namespace of the command, the machine's own, and all in which the instance is attached.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import TypeVar

from xdpguard.control.outlook import Outlook
from xdpguard.errors import MissingError
from xdpguard.net import dhcp, netns, sessions, sockets
from xdpguard.policy.rule import NewRule
from xdpguard.policy.target import Prefix, Target
from xdpguard.store.attachments import attachments
from xdpguard.store.database import Store
from xdpguard.store.rows import around

_T = TypeVar("_T")
_LOOPBACK = "lo"
_OF_DHCP = (
    (dhcp.NO_ADDRESS, "the source of DHCP requests: a server or relay on this host hears none of those dropped"),
    (dhcp.LINK_LOCAL, "where DHCPv6 comes from, requests and answers: those that arrive are dropped"),
)


def refusing(store: Store, places: Collection[str] = ("",), loopback: Collection[str] = ()) -> list[sockets.Protected]:
    """Return what a change must not cut off. Raise NoSuchNamespace if one of ``places`` does not exist.

    ``places``: namespaces that count besides; ``loopback``: those in which `lo` is about to be attached.
    """
    inside = _with_loopback(store, loopback)
    return _named(_in_each(store, places, lambda place: sockets.protected() + _loopback(place in inside), strict=True))


def now(store: Store, places: Collection[str] = ("",)) -> list[sockets.Protected]:
    """Return what is needed at this moment; a namespace that does not exist is skipped."""
    inside = _with_loopback(store)
    return _named(_in_each(store, places, lambda place: sockets.needed() + _loopback(place in inside), strict=False))


def by_place(store: Store) -> Iterator[tuple[str, list[sockets.Protected]]]:
    """Yield each namespace that counts as the host with what a change must not cut off there."""
    inside = _with_loopback(store)
    yield from _in_each(store, ("",), lambda place: sockets.protected() + _loopback(place in inside), strict=False)


def dhcp_notes(store: Store, holder: Callable[[Prefix], str], config: Collection[NewRule] | None = None) -> list[str]:
    """Return notes on what entries to block take from DHCP, unless it is allowed.

    ``holder`` returns the entry that holds a prefix, as text, or empty text; ``config``: as in `Outlook`.
    """
    held = [(address, words, what) for address, words in _OF_DHCP if (what := holder(address))]
    outlook = Outlook(store, config) if held else None
    return [
        f"{what} holds {address}, {words}; to let them through: xdpguard allow {address}"
        for address, words, what in held
        if outlook and not outlook.allowed_until(address)
    ]


def holder_of(targets: Collection[Target]) -> Callable[[Prefix], str]:
    """Return a function from a prefix to the one of these targets that holds it, as text; empty text without one."""
    wanted = set(targets)
    return lambda prefix: next((str(it) for it in (Prefix(*pair) for pair in around(prefix)) if it in wanted), "")


def visitors(store: Store, places: Collection[str] = ("",)) -> set[Prefix]:
    """Return the peers that are connected to an SSH port and not logged in."""
    found = [it for _, it in _in_each(store, places, lambda place: sessions.read(), strict=False)]
    known = {its.peer for it in found for its in it.sessions}
    return {peer for it in found for peer in it.visitors} - known


def ssh_ports(store: Store) -> set[int]:
    """Return the TCP ports over which one logs in to this host: 22, and those of sshd."""
    return {port for _, it in _in_each(store, ("",), lambda place: sessions.read(), strict=False) for port in it.ports}


def _loopback(guarded: bool) -> list[sockets.Protected]:
    return sockets.loopback() if guarded else []


def _with_loopback(store: Store, more: Collection[str] = ()) -> set[str]:
    return {it.netns for it in attachments(store) if it.name == _LOOPBACK}.union(more)


def _named(found: Iterator[tuple[str, list[sockets.Protected]]]) -> list[sockets.Protected]:
    all_found: list[sockets.Protected] = []
    for place, its in found:
        all_found += (it._replace(role=f"{it.role} in {place}") for it in its) if place else its
    return all_found


def _in_each(store: Store, places: Collection[str], ask: Callable[[str], _T], strict: bool) -> Iterator[tuple[str, _T]]:
    own = {*places, *(it.netns for it in attachments(store))}
    for place in sorted({*own, _initial()}):
        try:
            with netns.entered(place):
                found = ask(place)
        except netns.NoSuchNamespace:
            if strict and place in places:
                raise
            continue
        except MissingError:
            if place in own:
                raise
            continue  # a container that sees the machine's namespace and may not enter it
        yield place, found


def _initial() -> str:
    """Return the name of the machine's own namespace, that of process 1; empty if it cannot be seen."""
    with contextlib.suppress(netns.NoSuchNamespace):
        return netns.find("pid 1").name
    return ""
