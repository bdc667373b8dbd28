# SPDX-License-Identifier: GPL-2.0
"""Processes like those of sshd: in a folder that stands for /proc, and real ones that hold a connection.

The real ones are `sleep` under the names, titles and users of sshd, with its parents and children: root's process, and
below it that of the user who is logged in, or the one that talks to the peer until somebody is.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from support.traffic import eventually

USER = 4242  # nobody's
_LISTENER = "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"
# Starts the child, if there is to be one, and becomes the parent: the child ends with it.
_START = """
import ctypes, os, signal, sys
program, descriptors, parent, child, user = sys.argv[1:]
for descriptor in descriptors.split(","):
    os.set_inheritable(int(descriptor), True)
if child and os.fork() == 0:
    os.setresuid(*[int(user)] * 3)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    os.execv(program, [child, "1000"])
os.execv(program, [parent, "1000"])
"""


class Folder:
    """A folder that stands for /proc."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def process(
        self,
        pid: int,
        title: str,
        *sockets: int,
        parent: int = 1,
        user: int = 0,
        effective: int | None = None,
        comm: str = "sshd",
        setuid: bool = False,
        child: int = 0,
    ) -> None:
        """Adds a process; ``title``: its command line, words apart by NUL; ``sockets``: inodes; ``child``: its pid."""
        folder = self.path / str(pid)
        (folder / "fd").mkdir(parents=True)
        (folder / "comm").write_text(f"{comm}\n")
        uids = f"{user}\t{user if effective is None else effective}\t{user}\t{user}"
        (folder / "status").write_text(f"Name:\t{comm}\nPid:\t{pid}\nPPid:\t{parent}\nUid:\t{uids}\n")
        (folder / "cmdline").write_bytes(title.encode() + bytes(9))
        (folder / "exe").touch()
        (folder / "exe").chmod(0o4755 if setuid else 0o755)
        (folder / "task" / str(pid)).mkdir(parents=True)
        (folder / "task" / str(pid) / "children").write_text(f"{child} " if child else "")
        (folder / "fd" / "0").symlink_to("/dev/null")
        for place, inode in enumerate(sockets, 3):
            (folder / "fd" / str(place)).symlink_to(f"socket:[{inode}]")


class Sshd:
    """Real processes; they end with the context."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp())
        self._folder.chmod(0o755)
        self._program = self._folder / "sshd"
        shutil.copy(str(shutil.which("sleep")), self._program)
        # Not readable: then, as after a change of users, the process belongs to root in /proc.
        self._program.chmod(0o711)
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.wait()
        shutil.rmtree(self._folder)

    def listens(self, listener: socket.socket) -> None:
        """Starts the process that holds a listener."""
        self._start(listener, _LISTENER, "")

    def logged_in(self, connection: socket.socket) -> None:
        """Starts the processes of a connection whose peer has logged in, and closes it here."""
        self._start(connection, "sshd: bob [priv]", "sshd: bob@pts/0")
        connection.close()

    def half_logged_in(self, *connections: socket.socket) -> None:
        """Starts the processes of connections whose peers have not logged in, and closes them here."""
        self._start(connections[-1], "sshd: bob [priv]", "sshd: bob [net]", connections[:-1])
        for connection in connections:
            connection.close()

    def _start(self, held: socket.socket, parent: str, child: str, more: Sequence[socket.socket] = ()) -> None:
        handed = [held.fileno(), *(it.fileno() for it in more)]
        line = [sys.executable, "-IS", "-c", _START, str(self._program), ",".join(map(str, handed)), parent, child]
        started = subprocess.Popen([*line, str(USER)], pass_fds=handed, stdin=subprocess.DEVNULL)
        self._started.append(started)
        _await(started.pid, parent)
        if child:
            (it,) = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
            _await(int(it), child)


def _await(pid: int, title: str) -> None:
    """Waits until a process has become the one with that title."""
    assert eventually(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(title.encode() + b"\0")), title
