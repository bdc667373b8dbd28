# SPDX-License-Identifier: GPL-2.0
"""Faults inside a command: at a step of a change, at a call of bpf(2) that changes something, at a statement of SQLite.

A fault is ``PLACE: WHAT``. PLACE: a step's name; or step#N, bpf#N, sql#N, the N-th from 1 of that kind; with a + behind
it, that one and all that follow. WHAT: kill; an errno such as ENOSPC, which is what the call fails with; or
``sh COMMAND``, run just before. ``count: FILE`` injects nothing, and writes what there was, in order.

Loaded by forked.py into the process that becomes the command: no variable of xdpguard's own can do any of this.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import json
import os
import signal
import sqlite3
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

FAILED = 98  # the exit code when a fault could not be made
# enum bpf_cmd: those that change something in the kernel.
_CHANGING = {0: "create", 2: "update", 3: "delete", 6: "pin", 26: "update", 27: "delete"}
# What SQLite says when the file system answers so.
_SQLITE = {
    "ENOSPC": "database or disk is full",
    "EROFS": "attempt to write a readonly database",
    "EIO": "disk I/O error",
    "EBUSY": "database is locked",
}


class _Injection:
    def __init__(self, fault: str) -> None:
        self._seen: list[str] = []
        self._numbers: Counter[str] = Counter()
        self._place, _, self._what = fault.partition(": ")
        if self._place == "count":
            atexit.register(lambda: Path(self._what).write_text(json.dumps(self._seen)))

    def at(self, kind: str, name: str) -> str:
        """Called before whatever may fail; returns the errno's name that it shall fail with, or nothing."""
        self._numbers[kind] += 1
        self._seen.append(f"{kind} {name}")
        if not self._here(kind, name):
            return ""
        if self._what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._what.startswith("sh "):
            if subprocess.run(["sh", "-c", self._what[3:]], check=False, stdin=subprocess.DEVNULL).returncode:
                os._exit(FAILED)
            return ""
        return self._what

    def _here(self, kind: str, name: str) -> bool:
        place = self._place.removesuffix("+")
        its, _, number = place.partition("#")
        if not number:
            return kind == "step" and name == place
        now = self._numbers[kind]
        return kind == its and (now == int(number) or (self._place.endswith("+") and now > int(number)))


def arm(fault: str) -> None:
    """Have this process suffer a fault."""
    from xdpguard.cli import session
    from xdpguard.dataplane.sys.kernel import call

    injection = _Injection(fault)

    def on_step(step: str) -> None:
        if code := injection.at("step", step):
            number = getattr(errno, code)
            raise MemoryError if code == "ENOMEM" else OSError(number, os.strerror(number))

    class Library:
        """libc, whose system call may fail."""

        def syscall(self, number: object, command: ctypes.c_int, *rest: object) -> int:
            name = _CHANGING.get(command.value)
            if name and (code := injection.at("bpf", name)):
                ctypes.set_errno(getattr(errno, code))
                return -1
            return int(libc.syscall(number, command, *rest))

    class Connection(sqlite3.Connection):
        """A connection whose statements may fail."""

        def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
            words = sql.split()
            if words and words[0] not in ("SELECT", "PRAGMA", "WITH") and "TEMP" not in words and "temp." not in sql:
                self._at(words[0])
            return super().execute(sql, *values)

        def commit(self) -> None:
            self._at("COMMIT")
            super().commit()

        def _at(self, name: str) -> None:
            if code := injection.at("sql", name):
                raise sqlite3.OperationalError(_SQLITE[code])

    libc: Any = call._libc
    vars(call)["_libc"] = Library()
    vars(session)["on_step"] = on_step
    connect = sqlite3.connect
    vars(sqlite3)["connect"] = lambda path, *rest, **more: connect(path, *rest, factory=Connection, **more)
