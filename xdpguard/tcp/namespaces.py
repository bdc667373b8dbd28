# SPDX-License-Identifier: GPL-2.0
"""The network namespaces of this host: those with a name, this command's own, and those that only processes hold."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import NamedTuple

from xdpguard.net import netns
from xdpguard.net.netns import NoSuchNamespace

OWN = "."  # what --netns calls the namespace this command runs in
_PROC = Path("/proc")
_LOOK_AGAIN = 1.0  # seconds between two looks for namespaces that are not known


class Place(NamedTuple):
    """A network namespace: its name, empty for the one this command runs in, ``pid N`` for one without a name; its
    inode number; a file to enter it by.
    """

    name: str
    inode: int
    path: Path


def find(name: str) -> Place:
    """The namespace that --netns means: its name, or ``.`` for this command's own. NoSuchNamespace else."""
    if name == OWN:
        return _own()
    path = netns.path_of(name)
    return Place(name, path.stat().st_ino, path)


def all_places() -> list[Place]:
    """Every network namespace: this command's own first, then those with a name, then those of processes."""
    own = _own()
    found = {own.inode: own}
    for name in netns.names():
        path = netns.FOLDER / name
        with contextlib.suppress(OSError):
            inode = path.stat().st_ino
            if inode != own.inode:
                found.setdefault(inode, Place(name, inode, path))
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            path = _PROC / entry.name / "ns" / "net"
            with contextlib.suppress(OSError):
                inode = path.stat().st_ino
                if inode not in found:
                    found[inode] = Place(f"pid {entry.name}", inode, path)
    return list(found.values())


def _own() -> Place:
    path = Path("/proc/thread-self/ns/net")
    inode = path.stat().st_ino
    return Place("", inode, Path(f"/proc/{os.getpid()}/ns/net"))


class Names:
    """Names by inode number, looked up again when an unknown one turns up."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._looked = 0.0

    def name(self, inode: int) -> str:
        """The namespace's name; ``net N`` with its inode number when it has none, or has gone; ``?`` for 0."""
        if not inode:
            return "?"
        found = self._names.get(inode)
        if found is None and time.monotonic() - self._looked > _LOOK_AGAIN:
            self._names |= {place.inode: place.name for place in all_places()}
            self._looked = time.monotonic()
            found = self._names.setdefault(inode, f"net {inode}")
        return f"net {inode}" if found is None else found


__all__ = ["OWN", "Names", "NoSuchNamespace", "Place", "all_places", "find"]
