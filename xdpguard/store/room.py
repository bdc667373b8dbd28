# SPDX-License-Identifier: GPL-2.0
"""Room on the file system for a change of the store, checked before what cannot be rolled back."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from pathlib import Path

from xdpguard.instance import unwritable

_SLACK = 128 << 10  # bytes: the rollback journal of a few small transactions, which undo a change that failed


def check_room(database: sqlite3.Connection, path: Path) -> None:
    """Raise MissingError if what an open transaction has changed so far could not be committed for want of room.

    SQLite has written its rollback journal by then; what is left is what the file grows by.
    """
    (pages,), (size,) = (database.execute(f"PRAGMA {it}").fetchone() for it in ("page_count", "page_size"))
    try:
        grows = max(0, pages * size - path.stat().st_size)
        with tempfile.TemporaryFile(dir=path.parent) as trial:
            os.posix_fallocate(trial.fileno(), 0, grows + _SLACK)
    except FileNotFoundError:
        return  # a store in memory
    except OSError as error:
        raise unwritable(path.parent, error) from error
