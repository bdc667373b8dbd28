# SPDX-License-Identifier: GPL-2.0
"""Who is logged in to this host over SSH, and by what evidence.

A connection proves nothing, to port 22 or any other: anyone can hold one open. A session is authenticated if a process
of sshd shows it (sshd.py), if this command or one that it came from has SSH_CONNECTION, or if the login was recorded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from xdpguard.errors import UsageError
from xdpguard.net import sshd, tcptable
from xdpguard.net.logins import remote_logins
from xdpguard.policy.target import Prefix, parse_prefix

_USUAL = 22
_PROC = Path("/proc")


class Session(NamedTuple):
    """An authenticated session: the peer, the local TCP port (0: unknown), what shows it, whether it is connected."""

    peer: Prefix
    port: int
    evidence: str
    live: bool = True


class Around(NamedTuple):
    """The sessions of a network namespace, this command's own first; other peers connected to its SSH ports; these."""

    sessions: list[Session]
    visitors: set[Prefix]
    ports: set[int]


def read() -> Around:
    """Return what is known of the network namespace this thread is in."""
    table = tcptable.read(tcptable.ESTABLISHED, tcptable.LISTEN)
    connected = {it.inode: it for it in table if it.state == tcptable.ESTABLISHED}
    servers = sshd.read()
    own = {it.peer: it for it in reversed(list(_of_this_command()))}
    held = servers.sockets()
    ports = {_USUAL} | {it.port for it in own.values()}
    ports |= {it.local_port for it in table if it.state == tcptable.LISTEN and it.inode in held}
    found: dict[tuple[Prefix, int], Session] = {}
    for inode, evidence in sorted(servers.logins(connected).items()):
        its = connected[inode]
        found.setdefault((its.peer, its.local_port), Session(its.peer, its.local_port, evidence))
    peers = {it.peer for it in connected.values()}
    for it in own.values():
        found.setdefault((it.peer, it.port), it._replace(live=it.peer in peers))
    for peer, evidence in remote_logins().items():
        there = {it.local_port for it in connected.values() if it.peer == peer}
        for port in sorted(there & ports) or [0] if there else ():
            found.setdefault((peer, port), Session(peer, port, evidence))
    visitors = {it.peer for it in connected.values() if it.local_port in ports} - {peer for peer, _ in found}
    return Around(sorted(found.values(), key=lambda it: (it.peer not in own, it)), visitors, ports)


def _of_this_command() -> Iterator[Session]:
    """Yield the sessions this command came from. sudo drops SSH_CONNECTION, but a parent shell still has it."""
    for environment in _environments():
        words = environment.get(b"SSH_CONNECTION", b"").decode("ascii", "replace").split()
        if len(words) == 4 and words[3].isdigit():
            with contextlib.suppress(UsageError):
                peer = parse_prefix(words[0].split("%")[0])[0]
                yield Session(peer, int(words[3]), "SSH_CONNECTION of this command")


def _environments() -> Iterator[Mapping[bytes, bytes]]:
    yield os.environb
    process = os.getppid()
    while process > 1:
        folder = _PROC / str(process)
        # That of another user is out of reach without CAP_SYS_PTRACE; the one above it may not be.
        with contextlib.suppress(OSError):
            words = (folder / "environ").read_bytes().split(b"\0")
            yield {name: value for name, _, value in (word.partition(b"=") for word in words)}
        try:
            # The second field, the name, may hold anything; the parent is the second field after it.
            process = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            return
