# SPDX-License-Identifier: GPL-2.0
"""Say who holds SQLite's lock on the store: not another xdpguard command, which waits for the instance's lock."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from xdpguard.errors import XdpguardError
from xdpguard.process import name_of


def locked(path: Path) -> XdpguardError:
    """Return the error to raise when another process holds the store's lock, naming it if it is found."""
    found = [f"process {pid} ({name_of(pid) or 'ended meanwhile'})" for pid in holders(path)]
    return XdpguardError(
        f"the rule store {path} is locked by {', '.join(found) or 'another process'}",
        "end what has the file open (a backup, an editor, sqlite3), and try again",
    )


def holders(path: Path) -> list[int]:
    """Return the processes, besides this one, that hold a lock on a file, from /proc/locks."""
    found: dict[int, None] = {}
    with contextlib.suppress(OSError, ValueError):
        status = path.stat()
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if place in words and "->" not in words and int(words[4]) not in (-1, 0, os.getpid()):
                found[int(words[4])] = None
    return list(found)
