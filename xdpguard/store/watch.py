# SPDX-License-Identifier: GPL-2.0
"""Notice that the store was changed, without reading it."""

from __future__ import annotations

import sqlite3
from pathlib import Path


class StoreWatch:
    """Whether others have committed to a store. One thread at a time; holds the file open from the first question on.

    SQLite compares the counter of changes in the file's header, so that no commit is missed, however coarse the file
    system's clock.
    """

    def __init__(self, path: Path) -> None:
        """``path`` is the store's file, which need not exist."""
        self._path = path
        self._place = (0, 0)
        self._database: sqlite3.Connection | None = None
        self._found: int | None = None
        self._version = 0

    def version(self) -> int:
        """Return 0 without a store, else a number: greater than before if it was written, replaced or created since.

        Writes of this process count like those of others. A store that cannot be read counts as written, so that
        whoever reads it learns why.
        """
        try:
            status = self._path.stat()
            place = status.st_dev, status.st_ino  # not given to another file while this one is open
            if self._database is None or place != self._place:
                self.close()
                uri = f"{self._path.absolute().as_uri()}?mode=ro"
                self._place, self._database = place, sqlite3.connect(uri, uri=True, check_same_thread=False)
            found = int(self._database.execute("PRAGMA data_version").fetchone()[0])
        except FileNotFoundError:
            self.close()
            return 0
        except sqlite3.Error:
            self.close()
            found = -1
        if found != self._found or found < 0:
            self._version += 1
        self._found = found
        return self._version

    def close(self) -> None:
        """Close the file. The next version differs, as nobody knows what happens until then."""
        if self._database:
            self._database.close()
        self._database = self._found = None
