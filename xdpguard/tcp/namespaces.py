# SPDX-License-Identifier: GPL-2.0
"""The network namespaces of this host: those with a name, this command's own, and those that only processes hold."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

from xdpguard.net import netns
from xdpguard.net.netns import NoSuchNamespace

OWN = "."  # what --netns calls the namespace this command runs in
_PROC = Path("/proc")
_LOOK_AGAIN = 1.0  # seconds between two looks for namespaces that are not known
_CHECK_AGAIN = 0.1  # seconds between two looks whether one is still what it was
_MOST = 4096  # names kept
_OF_PROCESS = re.compile(r"pid ([0-9]{1,10})")
_SO_NETNS_COOKIE = 71  # asm-generic/socket.h


class Place(NamedTuple):
    """A network namespace: its name, empty for the one this command runs in, ``pid N`` for one without a name; its
    inode number; a file to enter it by.
    """

    name: str
    inode: int
    path: Path


def find(name: str) -> Place:
    """The namespace that --netns means: its name, ``.`` for this command's own, or ``pid N`` for that of a process.
    NoSuchNamespace else.
    """
    if name == OWN:
        return _own()
    if match := _OF_PROCESS.fullmatch(name):
        path = _PROC / match[1] / "ns" / "net"
        try:
            return Place(f"pid {match[1]}", path.stat().st_ino, path)
        except OSError as error:
            raise NoSuchNamespace(f"no process {match[1]}", "xdpguard tcp states shows the namespaces") from error
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
    """Names by inode number. The number of one that has gone is given to the next: so what is known is checked."""

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}
        self._sure: dict[int, str] = {}  # names that were checked a moment ago
        self._checked = self._looked = float("-inf")

    def name(self, inode: int) -> str:
        """The namespace's name, also for a moment after it has gone; ``net N`` with its inode number when it has none;
        ``?`` for 0.
        """
        now = time.monotonic()
        if now - self._checked > _CHECK_AGAIN:
            self._checked = now
            self._sure.clear()
        found = self._sure.get(inode)
        if found is None:
            found = self._sure[inode] = self._check(inode, now) if inode else "?"
        return found

    def _check(self, inode: int, now: float) -> str:
        known = self._places.get(inode)
        if not (known and is_current(known)) and (known or now - self._looked > _LOOK_AGAIN):
            self._looked = now
            there = {place.inode: place for place in all_places()}
            # What has gone keeps its name, until its number is another's.
            self._places = self._places | there if len(self._places) < _MOST else there
        found = self._places.get(inode)
        return found.name if found else f"net {inode}"


def is_current(place: Place) -> bool:
    """Whether the file still leads there."""
    try:
        return place.path.stat().st_ino == place.inode
    except OSError:
        return False


def cookie(place: Place) -> int:
    """What tells a namespace from all others there ever were since the machine was started. OSError when it has gone;
    0 before Linux 5.14.
    """
    with netns.entered_path(place.path), socket.socket() as made:
        try:
            return int.from_bytes(made.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError:
            return 0


__all__ = ["OWN", "Names", "NoSuchNamespace", "Place", "all_places", "cookie", "find", "is_current"]
