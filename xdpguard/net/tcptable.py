# SPDX-License-Identifier: GPL-2.0
"""The TCP sockets of the network namespace this thread is in, from /proc, which is quick."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from xdpguard.policy.target import Prefix, parse_prefix

ESTABLISHED, LISTEN = 1, 10  # include/net/tcp_states.h
# Not /proc/net, which is the namespace of the process: a thread may be inside another one.
PROC = Path("/proc/thread-self/net")


class Socket(NamedTuple):
    """A TCP socket: addresses of 4 or 16 bytes, ports, state (include/net/tcp_states.h), inode."""

    local: bytes
    local_port: int
    remote: bytes
    remote_port: int
    state: int
    inode: int

    @property
    def peer(self) -> Prefix:
        """The remote address; an IPv4-mapped one is the IPv4 address it stands for."""
        family = socket.AF_INET if len(self.remote) == 4 else socket.AF_INET6
        return parse_prefix(socket.inet_ntop(family, self.remote))[0]


def read(*states: int) -> list[Socket]:
    """Return the sockets in these states; none that cannot be read (no IPv6)."""
    return [it for it in _sockets() if it.state in states]


def lines(name: str) -> list[str]:
    """Return the lines of a file of this namespace below /proc; none if it cannot be read."""
    try:
        return (PROC / name).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _sockets() -> Iterator[Socket]:
    for name in ("tcp", "tcp6"):
        for line in lines(name)[1:]:
            fields = line.split()
            local, local_port = fields[1].split(":")
            remote, remote_port = fields[2].split(":")
            yield Socket(
                _words(local),
                int(local_port, 16),
                _words(remote),
                int(remote_port, 16),
                int(fields[3], 16),
                int(fields[9]),
            )


def _words(text: str) -> bytes:
    """Decode an address of /proc/net/tcp, printed as 32-bit words in host byte order."""
    return b"".join(struct.pack("=I", int(text[i : i + 8], 16)) for i in range(0, len(text), 8))
