# SPDX-License-Identifier: GPL-2.0
"""When the service looks at its interfaces because the kernel told of a change: at once, but not at every one."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from xdpguard.net.changes import Changes

_log = logging.getLogger(__name__)

_DEBOUNCE = 0.05  # seconds after a change, in which the others that belong to it come
_BETWEEN = 0.5  # seconds at least between two such looks


class Looks:
    """Hears of changes of links, addresses, routes and named namespaces. Times are monotonic, seconds."""

    def __init__(self) -> None:
        self.at = float("inf")  # when to look
        self._changes = Changes()
        self._deleted: set[tuple[str, int]] = set()
        self._before = float("-inf")  # when the last look was
        self._told = False

    def close(self) -> None:
        """Hears no more."""
        self._changes.close()

    def fileno(self) -> int:
        """To be selected for reading."""
        return self._changes.fileno()

    @property
    def mounts(self) -> int:
        """To be selected for exceptional conditions."""
        return self._changes.mounts

    def watch(self, namespaces: Iterable[str]) -> None:
        """Hears of these named namespaces besides our own."""
        wanted = sorted(name for name in namespaces if name)
        self._changes.watch(wanted)
        if wanted and not self._changes.everywhere and not self._told:
            self._told = True
            _log.warning(
                f"changes of interfaces in {', '.join(wanted)} are noticed within ten seconds only: the service lacks "
                "CAP_NET_BROADCAST; a unit file of an earlier version lacks it: xdpguard run --print-unit"
            )

    def heed(self, mounted: bool) -> None:
        """Takes in what has changed. ``mounted``: something was mounted or unmounted, as named namespaces are."""
        seen = self._changes.read()
        if seen is None and not mounted:
            return
        if seen is not None:
            self._deleted |= seen.deleted
            if seen.lost:
                _log.warning("more changes of links came than could be heard; all of them are looked at")
        self.at = min(self.at, max(time.monotonic() + _DEBOUNCE, self._before + _BETWEEN))

    def take(self, now: float) -> bool:
        """Whether to look now; that look is taken then."""
        if now < self.at:
            return False
        self.at, self._before = float("inf"), now
        return True

    def deleted(self) -> set[tuple[str, int]]:
        """Namespace and index of interfaces that went since the last call."""
        found, self._deleted = self._deleted, set()
        return found
