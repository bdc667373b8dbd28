# SPDX-License-Identifier: GPL-2.0
"""Nobody locks himself out: what a change of rules would cut off, found before it is made."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from xdpguard.errors import UsageError, XdpguardError
from xdpguard.lists.store import Store
from xdpguard.net import sockets
from xdpguard.policy.target import Port, Prefix

_FORCE = "--force does it all the same"


def check_block(store: Store, prefixes: Collection[Prefix]) -> None:
    """Refuses prefixes that hold everybody, or an address the host needs that is not on the allow list."""
    for prefix in prefixes:
        if prefix.length == 0:
            raise UsageError(
                f"{prefix} is every IPv{prefix.version} address there is",
                f"allow the addresses you need first; {_FORCE}",
            )
    wanted = set(prefixes)
    for address, role in sockets.protected():
        culprit = next((cover for cover in _covers(address) if cover in wanted), None)
        if culprit is not None and not store.covering("allow", address):
            inside = f"{culprit}" if culprit == address else f"{culprit} holds {address}, which"
            raise XdpguardError(f"{inside} is {role}", f"allow it first: xdpguard allow {address}; {_FORCE}")


def check_ports(ports: Iterable[Port]) -> None:
    """Refuses to close a port over which somebody is logged in."""
    busy = sockets.ssh_in_use()
    for port in ports:
        if port.protocol == "tcp" and port.number in busy:
            raise XdpguardError(
                f"{port} carries SSH sessions to this host", f"allow the addresses they come from; {_FORCE}"
            )


def check_disallow(store: Store, prefixes: Collection[Prefix]) -> None:
    """Refuses to take an address off the allow list that the host needs and a block rule holds."""
    gone = set(prefixes)
    for address, role in sockets.protected():
        allowing = [rule.target for rule in store.covering("allow", address)]
        if any(target in gone for target in allowing) and all(target in gone for target in allowing):
            blocking = store.covering("block", address)
            if blocking:
                raise XdpguardError(
                    f"{address} is {role}, and {blocking[0].target} blocks it",
                    f"unblock it first: xdpguard unblock {blocking[0].target}; {_FORCE}",
                )


def check_attach(store: Store) -> None:
    """Refuses to attach while a stored rule would cut off the host."""
    for address, role in sockets.protected():
        blocking = store.covering("block", address)
        if blocking and not store.covering("allow", address):
            raise XdpguardError(
                f"{address} is {role}, and the stored rule {blocking[0].target} blocks it",
                f"xdpguard allow {address}, or xdpguard unblock {blocking[0].target}; {_FORCE}",
            )


def _covers(address: Prefix) -> Iterable[Prefix]:
    width = len(address.network) * 8
    number = int.from_bytes(address.network, "big")
    for length in range(width, -1, -1):
        yield Prefix((number >> (width - length) << (width - length)).to_bytes(width // 8, "big"), length)
