# SPDX-License-Identifier: GPL-2.0
"""Peers the host must not lose: SSH peers, its own addresses, gateways and resolvers. Read from /proc, which is quick.

Only what can be read counts; what is missing (no IPv6, no resolv.conf) adds no protection.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from xdpguard.errors import UsageError
from xdpguard.net.logins import remote_logins
from xdpguard.policy.target import Prefix, parse_prefix

_ESTABLISHED = 1  # include/net/tcp_states.h
_SSH_PORT = 22
_ROUTE_GATEWAY = 0x2  # RTF_GATEWAY, linux/route.h
_NAMESERVER = re.compile(r"^\s*nameserver\s+(\S+)", re.MULTILINE)
_PROC = Path("/proc/net")
LOGIN = "where somebody is logged in from"  # a role


class Protected(NamedTuple):
    """An address the host needs, and its role, as a phrase that fits after 'is'."""

    address: Prefix
    role: str


class Socket(NamedTuple):
    """A TCP socket: addresses of 4 or 16 bytes, ports, state (include/net/tcp_states.h)."""

    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    state: int


def protected() -> list[Protected]:
    """Return every address of this network namespace that a rule must not cut off without --force."""
    peers = sorted({session.peer for session in ssh_sessions()})
    return [Protected(peer, "the other end of an SSH session to this host") for peer in peers] + _of_the_network()


def needed() -> list[Protected]:
    """Return the addresses this network namespace needs, excluding any that an outsider can add; for automatic bans.

    For SSH these are the peers that have logged in, not those that merely hold a connection to port 22 open.
    """
    peers = sorted(logged_in())
    return [Protected(peer, LOGIN) for peer in peers] + _of_the_network()


def logged_in() -> set[Prefix]:
    """Return the addresses logged in to this namespace: those with a login record and an established connection."""
    own = _own_session()
    logins = remote_logins() | ({own.peer} if own else set())
    return {_plain(it.remote) for it in _sockets() if it.state == _ESTABLISHED} & logins if logins else set()


def _of_the_network() -> list[Protected]:
    found = [Protected(address, "an address of this host") for address in own_addresses()]
    found += [Protected(address, "this host's gateway") for address in gateways()]
    found += [Protected(address, "this host's name server") for address in resolvers()]
    return found


class Session(NamedTuple):
    """An SSH session to this host: the peer and the local port."""

    peer: Prefix
    port: int


def ssh_sessions() -> list[Session]:
    """Return established connections to an SSH port: 22, and that of the session this command runs in."""
    own = _own_session()
    ports = {_SSH_PORT} | ({own.port} if own else set())
    found = {
        Session(_plain(entry.remote), entry.local_port)
        for entry in _sockets()
        if entry.state == _ESTABLISHED and entry.local_port in ports
    }
    if own:
        found.add(own)
    return sorted(found)


def _own_session() -> Session | None:
    """Return the session this command runs in. sudo drops SSH_CONNECTION, but a parent shell still has it."""
    for environment in _environments():
        words = environment.get(b"SSH_CONNECTION", b"").decode("ascii", "replace").split()
        if len(words) == 4 and words[3].isdigit():
            with contextlib.suppress(UsageError):
                return Session(parse_prefix(words[0].split("%")[0])[0], int(words[3]))
    return None


def _environments() -> Iterator[Mapping[bytes, bytes]]:
    yield os.environb
    process = os.getppid()
    while process > 1:
        folder = Path("/proc") / str(process)
        try:
            words = (folder / "environ").read_bytes().split(b"\0")
            # The second field, the name, may hold anything; the parent is the second field after it.
            process = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return
        yield {name: value for name, _, value in (word.partition(b"=") for word in words)}


def own_addresses() -> list[Prefix]:
    """Return the addresses of this host, except loopback."""
    found = [_prefix6(line.split()[0]) for line in _lines("if_inet6") if line.split()[5] != "lo"]
    # fib_trie names each local IPv4 address on the line before its "/32 host LOCAL".
    address = ""
    for line in _lines("fib_trie"):
        if "|--" in line:
            address = line.split()[-1]
        elif "/32 host LOCAL" in line and not address.startswith("127."):
            found.append(parse_prefix(address)[0])
    return sorted(set(found))


def gateways() -> list[Prefix]:
    """Return the next hops of the routes."""
    found = []
    for line in _lines("route")[1:]:
        fields = line.split()
        if int(fields[3], 16) & _ROUTE_GATEWAY:
            found.append(Prefix(struct.pack("<I", int(fields[2], 16)), 32))
    for line in _lines("ipv6_route"):
        fields = line.split()
        if int(fields[8], 16) & _ROUTE_GATEWAY and int(fields[4], 16):
            found.append(_prefix6(fields[4]))
    return sorted(set(found))


def resolvers() -> list[Prefix]:
    """Return the name servers in /etc/resolv.conf, except those on this host."""
    try:
        text = Path("/etc/resolv.conf").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    found = []
    for name in _NAMESERVER.findall(text):
        try:
            prefix, _ = parse_prefix(name.split("%")[0])
        except UsageError:
            continue
        if not (prefix.network[0] == 127 and prefix.version == 4) and prefix.network != bytes(15) + b"\1":
            found.append(prefix)
    return found


def _sockets() -> Iterator[Socket]:
    for name in ("tcp", "tcp6"):
        for line in _lines(name)[1:]:
            fields = line.split()
            local, local_port = fields[1].split(":")
            remote, remote_port = fields[2].split(":")
            yield Socket(_words(local), int(local_port, 16), _words(remote), int(remote_port, 16), int(fields[3], 16))


def _words(text: str) -> bytes:
    """Decode an address of /proc/net/tcp, printed as 32-bit words in host byte order."""
    return b"".join(struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8))


def _plain(address: bytes) -> Prefix:
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return parse_prefix(socket.inet_ntop(family, address))[0]


def _prefix6(digits: str) -> Prefix:
    return Prefix(bytes.fromhex(digits), 128)


def _lines(name: str) -> list[str]:
    try:
        return (_PROC / name).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
