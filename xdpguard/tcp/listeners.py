# SPDX-License-Identifier: GPL-2.0
"""Find the listener of a connection that has not been accepted yet."""

from __future__ import annotations

import time

from xdpguard.errors import XdpguardError
from xdpguard.net.netns import Place, all_places, is_current
from xdpguard.policy.target import MAPPED
from xdpguard.tcp.diag import Diag
from xdpguard.tcp.names import LISTEN

_ANY6 = bytes(16)
_ANY4 = MAPPED + bytes(4)
_STALE = 5.0  # seconds before listeners are read again


class Listeners:
    """The listeners of all namespaces, by namespace and port."""

    def __init__(self) -> None:
        self._known: dict[int, dict[int, list[tuple[bytes, int]]]] = {}
        self._read: dict[int, float] = {}
        self._places: dict[int, Place] = {}

    def forget(self) -> None:
        """Discard the cache; call this when a socket starts to listen."""
        self._read.clear()

    def inode(self, netns: int, address: bytes, port: int) -> int:
        """Return the inode of the listener for a local address (16 bytes) and port; 0 if none, or several."""
        found = self._current(netns).get(port, [])
        # The kernel prefers the exact address, then the family's wildcard, then IPv6's, which may accept both.
        for wanted in (address, _ANY4 if address.startswith(MAPPED) else _ANY6, _ANY6):
            inodes = [inode for local, inode in found if local == wanted]
            if inodes:
                return inodes[0] if len(inodes) == 1 else 0
        return 0

    def listens(self, netns: int, port: int) -> bool:
        """Return whether any socket listens on the port, whatever its address."""
        return port in self._current(netns)

    def _current(self, netns: int) -> dict[int, list[tuple[bytes, int]]]:
        now = time.monotonic()
        if now - self._read.get(netns, -_STALE) >= _STALE:
            self._read[netns] = now
            self._known[netns] = self._listening(netns)
        return self._known[netns]

    def _listening(self, netns: int) -> dict[int, list[tuple[bytes, int]]]:
        place = self._places.get(netns)
        if place is None or not is_current(place):
            self._places = {it.inode: it for it in all_places()}
            place = self._places.get(netns)
        found: dict[int, list[tuple[bytes, int]]] = {}
        if place is None:
            return found
        try:
            with Diag(place) as diag:
                sockets = diag.sockets(1 << LISTEN)
        except (XdpguardError, OSError):
            return found  # the namespace is gone
        for local, port, inode in zip(
            sockets["local"], sockets["local_port"].tolist(), sockets["inode"].tolist(), strict=True
        ):
            found.setdefault(port, []).append((local.tobytes(), inode))
        return found
