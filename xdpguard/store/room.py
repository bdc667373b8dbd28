# SPDX-License-Identifier: GPL-2.0
"""Room on the file system for a change of the store, checked before what cannot be rolled back."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from xdpguard.owned import unwritable
from xdpguard.store.database import Store

_SLACK = 128 << 10  # bytes: the rollback journal of a few small transactions, which undo a change that failed


def check_room(store: Store) -> None:
    """Raise MissingError if what the open transaction has changed so far could not be committed for want of room.

    SQLite has written its rollback journal by then; what is left is what the file grows by.
    """
    (pages,), (size,) = (store.execute(f"PRAGMA {it}")[0] for it in ("page_count", "page_size"))
    try:
        grows = max(0, pages * size - store.path.stat().st_size)
        with tempfile.TemporaryFile(dir=store.path.parent) as trial:
            os.posix_fallocate(trial.fileno(), 0, grows + _SLACK)
    except FileNotFoundError:
        return  # a store in memory
    except OSError as error:
        raise unwritable(store.path.parent, error) from error


@contextmanager
def rehearsal(store: Store) -> Iterator[None]:
    """Run the block within the open transaction and take it back: then it does not lack room when it is done."""
    assert store.changing
    store.execute("SAVEPOINT rehearsal")
    try:
        yield
    finally:
        store.execute("ROLLBACK TO rehearsal")
        store.execute("RELEASE rehearsal")
