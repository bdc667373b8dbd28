# SPDX-License-Identifier: GPL-2.0
"""A real fail2ban with one jail on a log file, whose bans go to an instance of xdpguard."""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
import subprocess
import time
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Self

from tied import tied

from support.command import Command
from support.traffic import eventually
from support.unpacked import unpacked

_JAIL = """\
[DEFAULT]
backend = polling
usedns = no
findtime = 600
maxretry = 3
banaction = xdpguard

[Front-Door]
enabled = true
filter = door
logpath = {log}
bantime = {bantime}
action = %(banaction)s

[back_door]
enabled = true
filter = door
logpath = {other}
bantime = {bantime}
action = %(banaction)s
"""
_MAIN = """\
[Definition]
loglevel = INFO
logtarget = {at}/fail2ban.log
syslogsocket = auto
socket = {at}/socket
pidfile = {at}/pid
dbfile = {at}/bans.sqlite
dbmaxmatches = 10
dbpurgeage = 1d
allowipv6 = auto
"""
FRONT, BACK = "Front-Door", "back_door"


class Fail2ban:
    """The server; use as a context manager. ``bantime``: seconds, -1 for ever."""

    def __init__(self, folder: Path, command: Command, bantime: int = 600) -> None:
        self._files = unpacked("fail2ban")
        self.folder = folder
        self.logs = {FRONT: folder / "front.log", BACK: folder / "back.log"}
        self._environment = command.environment | {
            "PYTHONPATH": f"{self._files}/usr/lib/python3/dist-packages",
            "PYTHONWARNINGS": "ignore",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("action.d", "filter.d"):
            (folder / name).mkdir(parents=True)
        for log in self.logs.values():
            log.touch()
        action = command.ok("bridge", "fail2ban")
        # fail2ban's own PYTHONPATH is not for xdpguard.
        ours = f"env PYTHONPATH={shlex.quote(os.environ.get('PYTHONPATH', ''))} {shlex.join(command.line())}"
        action = "".join(
            f"xdpguard = {ours}\n" if line.startswith("xdpguard = ") else line for line in action.splitlines(True)
        )
        files = {
            "fail2ban.conf": _MAIN.format(at=folder),
            "jail.conf": _JAIL.format(log=self.logs[FRONT], other=self.logs[BACK], bantime=bantime),
            "filter.d/door.conf": "[Definition]\nfailregex = ^ ?failed from <HOST>$\n",
            "action.d/xdpguard.conf": action,
        }
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end(SIGKILL)

    @property
    def log(self) -> str:
        """What it has logged."""
        file = self.folder / "fail2ban.log"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def errors(self) -> list[str]:
        """The errors that it has logged, but for the socket that it finds after it was killed."""
        return [it for it in self.log.splitlines() if " ERROR " in it and "already running" not in it]

    def start(self) -> None:
        """Starts it, and waits until both jails run."""
        before = {it: self._started(it) for it in self.logs}
        line = ["/usr/bin/python3", f"{self._files}/usr/bin/fail2ban-server", "-c", str(self.folder), "-xf", "start"]
        self._process = subprocess.Popen(
            tied(line),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert eventually(lambda: all(self._started(it) > before[it] for it in self.logs)), self.log

    def _started(self, jail: str) -> int:
        """How often a jail was started. To ask the server for one that it does not know yet is an error in its log."""
        return self.log.count(f"Jail '{jail}' started")

    def kept(self) -> set[str]:
        """The addresses whose bans are in its database, so that they are restored; it stores a ban after it made it."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder}/bans.sqlite?mode=ro", uri=True)) as database:
            return {address for (address,) in database.execute("SELECT ip FROM bans")}

    def end(self, number: int = SIGTERM) -> None:
        """Ends it with a signal, and waits."""
        if self._process:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def client(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs fail2ban-client."""
        line = ["/usr/bin/python3", f"{self._files}/usr/bin/fail2ban-client", "-c", str(self.folder), *arguments]
        return subprocess.run(line, env=self._environment, capture_output=True, text=True, timeout=60, check=False)

    def forget_attempts(self) -> None:
        """Empties the jails' logs, as a rotation does: a server that starts finds no attempts, and bans nobody anew."""
        for log in self.logs.values():
            log.write_text("", encoding="utf-8")

    def fails(self, address: str, jail: str = FRONT, times: int = 3) -> None:
        """Writes failed attempts into a jail's log."""
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        with self.logs[jail].open("a", encoding="utf-8") as log:
            log.write(f"{now} failed from {address}\n" * times)
