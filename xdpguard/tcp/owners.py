# SPDX-License-Identifier: GPL-2.0
"""The process that owns a socket: found by the socket's inode through /proc.

Scanning all of /proc takes long on a busy host, so it takes at most a twentieth of the time. A known owner is verified
each time it is returned: the process may have closed the socket or passed it to another.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from xdpguard.process import name_of

_SHARE = 20  # seconds of pause per second of scanning
_LEAST_PAUSE = 0.2


class Owner(NamedTuple):
    """A process: its id and name, and how many others have the socket open as well."""

    pid: int
    name: str
    others: int = 0

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}{f' and {self.others} more' if self.others else ''})"


class _Holder(NamedTuple):
    pid: int
    link: str  # its file descriptor below /proc


class Owners:
    """Owners of sockets by inode. A socket shared by several processes has no single owner."""

    def __init__(self) -> None:
        self._held: dict[int, list[_Holder]] = {}
        self._names: dict[int, str] = {}
        self._next = 0.0

    def find(self, inode: int) -> Owner | None:
        """Return the only process that has the socket open; None if it is unknown, or there are several."""
        if not inode:
            return None
        found = self.known(inode)
        if found is None and time.monotonic() >= self._next:
            self.look()
            found = self.known(inode)
        return found if found and not found.others else None

    def known(self, inode: int) -> Owner | None:
        """Return the process that has the socket open according to the last scan; of several, the lowest id."""
        held = self._held.get(inode, ())
        live = {it.pid for it in held if _is(it.link, inode)}
        if not live:
            return None
        pid = min(live)
        if pid not in self._names:
            self._names[pid] = name_of(pid)
        return Owner(pid, self._names[pid], len(live) - 1)

    def look(self, inodes: Iterable[int] | None = None) -> None:
        """Scan all processes, for these sockets or for every one."""
        begun = time.monotonic()
        wanted = None if inodes is None else set(inodes)
        held: dict[int, list[_Holder]] = {}
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal():
                for inode, holders in _sockets_of(entry.name, wanted).items():
                    held.setdefault(inode, []).extend(holders)
        self._held = held
        self._names.clear()
        now = time.monotonic()
        self._next = now + max(_LEAST_PAUSE, _SHARE * (now - begun))


def inodes_of(pid: int) -> set[int]:
    """Return the sockets of any kind that a process has open."""
    return set(_sockets_of(str(pid), None))


def _sockets_of(process: str, wanted: set[int] | None) -> dict[int, list[_Holder]]:
    found: dict[int, list[_Holder]] = {}
    for link, inode in _links(f"/proc/{process}/fd"):
        if wanted is None or inode in wanted:
            found.setdefault(inode, []).append(_Holder(int(process), link))
    return found


def _links(folder: str) -> Iterator[tuple[str, int]]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                target = os.readlink(entry.path)  # noqa: PTH115 (called often)
                if target.startswith("socket:["):
                    yield entry.path, int(target[8:-1])


def _is(link: str, inode: int) -> bool:
    try:
        return os.readlink(link) == f"socket:[{inode}]"  # noqa: PTH115 (called often)
    except OSError:
        return False
