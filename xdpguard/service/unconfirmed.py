# SPDX-License-Identifier: GPL-2.0
"""Changes that wait for their confirmation: noticed when they are due, and logged when they were undone.

A session that is opened after the deadline undoes the change first (cli/session.py); `run` opens one then.
"""

from __future__ import annotations

import logging
import time

from xdpguard.control import confirm
from xdpguard.store import journal
from xdpguard.store.database import Store

_log = logging.getLogger(__name__)

_AGAIN = 10.0  # seconds between two tries to undo a change


class Unconfirmed:
    """Tracks the pending change of one instance."""

    def __init__(self) -> None:
        self._since = time.time()  # what was undone before is not logged again
        self._tried = float("-inf")
        self._waiting: journal.Change | None = None

    def look(self, store: Store) -> None:
        """Log what waits for its confirmation, and what was undone, whoever did it."""
        before, self._waiting = self._waiting, journal.pending(store)
        if self._waiting is not None and (before is None or before.id != self._waiting.id):
            _log.info(f"{self._waiting.command!r} waits for its confirmation: xdpguard confirm")
        gone = confirm.unconfirmed(store)
        if gone is not None and (gone.settled or 0.0) >= self._since:
            self._since = (gone.settled or 0.0) + 1e-3
            _log.warning(confirm.told(gone))

    def due(self) -> bool:
        """Return whether to undo the change now; after a failure, not again at once."""
        if self._waiting is None or self._waiting.left() > 0 or time.monotonic() - self._tried < _AGAIN:
            return False
        self._tried = time.monotonic()
        return True
