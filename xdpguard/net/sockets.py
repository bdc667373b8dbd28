# SPDX-License-Identifier: GPL-2.0
"""Peers the host must not lose: of SSH sessions, its own addresses, next hops, name servers, DHCP servers.

Only what can be read counts; what is missing (no IPv6, no resolv.conf) adds no protection.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

from xdpguard.net import dhcp, nameservers, nexthops, sessions, tcptable, tunnels
from xdpguard.policy.target import Port, Prefix, parse_prefix

LOGIN = "where somebody is logged in from"  # a role
OWN = "an address of this host"  # a role
_SESSION = "the other end of an SSH session to this host"
_NAME_SERVER = "this host's name server"
_TUNNEL = "the outer end of a tunnel that carries an SSH session"
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")  # of this network namespace, also for IPv6
_USUAL_RANGE = 32_768, 60_999
_DHCP_CLIENT = 68
_LOOPBACK = ("127.0.0.1", "::1")


class Service(NamedTuple):
    """A service that this host asks: the port that answers come from, and the first and last of those they come to."""

    port: Port
    answers: tuple[int, int]


class Protected(NamedTuple):
    """An address the host needs, and its role, as a phrase that fits after 'is'. A prefix is needed as a whole.

    ``ports``: where somebody is logged in, or a session's tunnel arrives; ``evidence``: what shows that, or the name of
    the tunnel; empty for other roles. ``service``: what this host asks there.
    """

    address: Prefix
    role: str
    ports: tuple[Port, ...] = ()
    evidence: str = ""
    service: Service | None = None

    @property
    def words(self) -> str:
        """The role, with the evidence."""
        return f"{self.role} ({self.evidence})" if self.evidence else self.role


def protected() -> list[Protected]:
    """Return every address of this network namespace that a rule must not cut off without --force."""
    return _of_sessions(sessions.read().sessions, _SESSION) + _of_the_network()


def needed() -> list[Protected]:
    """Return the addresses this network namespace needs at this moment: SSH_CONNECTION counts while it is connected."""
    return _of_sessions([it for it in sessions.read().sessions if it.live], LOGIN) + _of_the_network()


def loopback() -> list[Protected]:
    """Return what it needs besides where the loopback interface is guarded."""
    found = [Protected(parse_prefix(it)[0], "this host's loopback address") for it in _LOOPBACK]
    return found + [Protected(it, _NAME_SERVER, service=dns()) for it in nameservers.read()[1]]


def _of_sessions(found: list[sessions.Session], role: str) -> list[Protected]:
    """Return the peers of sessions, and the outer ends of the tunnels that these come through."""
    peers = _of(found, role)
    there = {it.address for it in peers}
    outer = tunnels.outer_ends(there)
    return peers + [
        Protected(it.address, _TUNNEL, (it.port,) if it.port else (), it.tunnel)
        for it in outer
        if it.address not in there
    ]


def _of(found: list[sessions.Session], role: str) -> list[Protected]:
    peers: dict[Prefix, list[sessions.Session]] = {}
    for it in found:
        peers.setdefault(it.peer, []).append(it)
    return [
        Protected(peer, role, tuple(Port(it.port, "tcp") for it in its if it.port), its[0].evidence)
        for peer, its in peers.items()
    ]


def _of_the_network() -> list[Protected]:
    found = [Protected(it, OWN) for it in own_addresses()]
    found += [Protected(it, "this host's gateway") for it in gateways()]
    found += [Protected(it, _NAME_SERVER, service=dns()) for it in nameservers.read()[0]]
    asked = Service(Port(67, "udp"), (_DHCP_CLIENT, _DHCP_CLIENT))
    found += [Protected(it, "this host's DHCP server", service=asked) for it in dhcp.servers()]
    found += [Protected(it, role) for it, role in dhcp.sources()]
    return found


def own_addresses() -> list[Prefix]:
    """Return the addresses of this host, except loopback."""
    found = [
        Prefix(bytes.fromhex(line.split()[0]), 128) for line in tcptable.lines("if_inet6") if line.split()[5] != "lo"
    ]
    # fib_trie names each local IPv4 address on the line before its "/32 host LOCAL".
    address = ""
    for line in tcptable.lines("fib_trie"):
        if "|--" in line:
            address = line.split()[-1]
        elif "/32 host LOCAL" in line and not address.startswith("127."):
            found.append(parse_prefix(address)[0])
    return sorted(set(found))


def gateways() -> list[Prefix]:
    """Return the next hops of the routes."""
    with contextlib.suppress(OSError):
        return nexthops.read()
    return []


def dns() -> Service:
    """Return the name service as this network namespace asks it: from a port that the kernel chooses."""
    first, last = _USUAL_RANGE
    with contextlib.suppress(OSError, ValueError):
        first, last = map(int, _PORT_RANGE.read_text(encoding="ascii").split())
    return Service(Port(53, "udp"), (first, last))
