# SPDX-License-Identifier: GPL-2.0
"""The processes of sshd, and what they show about who is logged in.

Until a user has authenticated, every process of a connection has a title with a bracket: ``sshd: [accepted]``,
``sshd: [net]``, ``sshd: bob [priv]``, or, since OpenSSH 9.8, a program ``sshd-auth``. Afterwards the title is
``sshd: bob``, ``sshd: bob@pts/0`` or ``sshd: bob@notty`` (since 9.8 ``sshd-session: ...``). The process with that title
is root's, or that of the user, a child of root's [priv]; both have the connection open (sshd.c, session.c, monitor.c).

dropbear has no titles: a process of it that holds a connection and has started another one serves somebody who has
authenticated (a shell, a command). One that only forwards is not told from one that waits for a password.

Anyone may write such a title, so it counts only from a process that root started: its real user is root and its
program is not set-user-ID, or its parent is such a process of sshd.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_DROPBEAR = "dropbear"
_NAMES = ("sshd", "sshd-session", _DROPBEAR)
# Compiled where they are used: mostly there is no session.
_TITLE = r"(?s)sshd(?:-session)?: (.*)"
_BEFORE_LOGIN = r"\[|^unknown$"
_STARTING = {"-R", "-i"}  # options of a process that serves a single connection, before it has a title
_PRIVSEP = "sshd"  # the user of the process that talks to a peer before authentication
_SOCKET = r"socket:\[([0-9]+)\]"


class Process(NamedTuple):
    """A process named sshd or dropbear, by its program or its title; ``user``: the real one.

    ``sockets``: inodes of its sockets by file descriptor, the lowest first; ``started``: whether it has a child.
    """

    pid: int
    parent: int
    user: int
    words: tuple[str, ...]
    sockets: tuple[int, ...]
    started: bool = False

    @property
    def is_dropbear(self) -> bool:
        """Whether its program is dropbear."""
        return self.words[0].rpartition("/")[2] == _DROPBEAR

    @property
    def title(self) -> str | None:
        """What it says behind "sshd: "; None if it has no such title."""
        found = re.fullmatch(_TITLE, self.words[0].strip()) if self.words else None
        return "".join(it if it.isprintable() else "?" for it in found[1]) if found else None


class Sshd(NamedTuple):
    """The processes of sshd that root has started, and the children of these, by process id."""

    processes: dict[int, Process]

    def logins(self, connections: Collection[int]) -> dict[int, str]:
        """Return the connections (inodes) of authenticated sessions, each with the evidence, as text."""
        found: dict[int, str] = {}
        for it in self.processes.values():
            if it.title is None:
                served = f"dropbear process {it.pid}" if it.is_dropbear else f"process {it.pid}, which is named sshd"
                found |= dict.fromkeys(self._untitled(it, connections), served)
            elif not re.search(_BEFORE_LOGIN, it.title):
                # The first connection is the peer's; what a session forwards comes later, from anywhere.
                own = next((inode for inode in it.sockets if inode in connections), None)
                if own is not None and self._behind_monitor(it, own):
                    found[own] = f"sshd process {it.pid}, {it.title}"
        return found

    def sockets(self) -> set[int]:
        """Return the inodes of all their sockets."""
        return {inode for it in self.processes.values() for inode in it.sockets}

    def _behind_monitor(self, its: Process, connection: int) -> bool:
        if its.user == 0:
            return True
        parent = self.processes.get(its.parent)
        return parent is not None and parent.user == 0 and connection in parent.sockets and its.user != _privsep()

    def _untitled(self, its: Process, connections: Collection[int]) -> Iterator[int]:
        """Yield the connections of a server that is not OpenSSH: it does not show which of them are logged in."""
        serves = its.started if its.is_dropbear else not _STARTING.intersection(its.words)
        if its.user == 0 and serves:
            yield from (inode for inode in its.sockets if inode in connections)


def read() -> Sshd:
    """Read the processes of sshd, in whatever network namespace they are."""
    named = {it.pid: it for it in _processes()}
    roots = {pid for pid, it in named.items() if it.user == 0}
    return Sshd({pid: it for pid, it in named.items() if pid in roots or it.parent in roots})


def _processes() -> Iterator[Process]:
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal():
            # It may end meanwhile, or lie out of reach in a container.
            with contextlib.suppress(OSError, KeyError, ValueError):
                found = _process(entry.path)
                if found is not None:
                    yield found


def _process(folder: str) -> Process | None:
    words = _read(f"{folder}/cmdline").rstrip("\0").split("\0")
    if words[0].partition(":")[0].rpartition("/")[2] not in _NAMES and _read(f"{folder}/comm").strip() not in _NAMES:
        return None
    status = dict(line.split(":\t", 1) for line in Path(folder, "status").read_text().splitlines() if ":\t" in line)
    user = int(status["Uid"].split()[0])  # the real one
    if Path(folder, "exe").stat().st_mode & stat.S_ISUID:
        return None
    pid = int(status["Pid"])
    return Process(pid, int(status["PPid"]), user, tuple(words), tuple(_sockets(folder)), _has_child(folder, pid))


def _has_child(folder: str, pid: int) -> bool:
    """Return whether a process has a child; false on a kernel that does not tell."""
    with contextlib.suppress(OSError):
        return bool(_read(f"{folder}/task/{pid}/children").strip())
    return False


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (called often)
        return file.read()


def _sockets(folder: str) -> Iterator[int]:
    for number in sorted(int(it.name) for it in os.scandir(f"{folder}/fd")):
        with contextlib.suppress(OSError):
            match = re.fullmatch(_SOCKET, os.readlink(f"{folder}/fd/{number}"))  # noqa: PTH115 (called often)
            if match:
                yield int(match[1])


def _privsep() -> int:
    try:
        return pwd.getpwnam(_PRIVSEP).pw_uid
    except KeyError:
        return -1
