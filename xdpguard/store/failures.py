# SPDX-License-Identifier: GPL-2.0
"""What an error of SQLite means for the store: locked, not writable, or damaged."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from xdpguard.owned import unwritable
from xdpguard.store.keeping import damaged
from xdpguard.store.locks import locked

# Texts of SQLite errors that are caused by the file system, not by the file.
_NOT_WRITABLE = ("readonly", "unable to open", "disk is full", "disk I/O")


@contextmanager
def explained(path: Path, others: bool = False) -> Iterator[None]:
    """Raise the errors of SQLite that the block raises as those of the store at ``path``, with their remedy.

    ``others``: the block also does what has nothing to do with the store, and may read text from elsewhere.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise locked(path) from error
        if any(word in str(error) for word in _NOT_WRITABLE):
            raise unwritable(path.parent, OSError(0, str(error))) from error
        # That of sums.py, which finds a value of another type.
        odd = "user-defined function" in str(error)
        raise damaged(path, "an entry is not what was written" if odd else error) from error
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from error
    except UnicodeDecodeError as error:
        if others:
            raise
        # Instead of an error of SQLite whose text quotes what is damaged.
        raise damaged(path, "it holds text that is not UTF-8") from error
