# SPDX-License-Identifier: GPL-2.0
"""Ports that a container runtime holds with a listener of its own while NAT redirects their connections.

A cookie is answered by an ACK, which netfilter takes for a new connection and translates to a container that has never
seen a SYN. So the guard must leave such ports alone. rootlessport and slirp4netns, of rootless containers, are not
among the holders: nothing is translated there, and they accept connections as any listener does.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable

from xdpguard.net import listening, nat
from xdpguard.process import name_of
from xdpguard.tcp.owners import inodes_of

_HOLDERS = frozenset({"docker-proxy", "conmon"})  # of Docker; of Podman as root


def find(namespaces: Iterable[str], protocol: int = socket.IPPROTO_TCP) -> dict[int, str]:
    """Return the published ports in these network namespaces, each with the process that holds it."""
    translating = [it for it in namespaces if nat.NAT in nat.reasons(it)]
    if not translating:
        return {}
    held: dict[int, str] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal() and (name := name_of(int(entry.name))) in _HOLDERS:
            held |= dict.fromkeys(inodes_of(int(entry.name)), name)
    listeners = [it for netns in translating for it in listening.read(netns, protocol)] if held else []
    return {it.port: held[it.inode] for it in listeners if it.inode in held}
