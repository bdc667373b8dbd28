# SPDX-License-Identifier: GPL-2.0
"""Decide when kernel notifications make the service look at its interfaces: at once, but debounced."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from xdpguard.net.changes import Changes

_log = logging.getLogger(__name__)

_DEBOUNCE = 0.05  # seconds to wait after a change for the others that belong to it
_BETWEEN = 0.5  # minimum seconds between two such looks


class Looks:
    """Receives changes of links, addresses, routes and named namespaces. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self.at = float("inf")  # when the next look is due
        self._changes = Changes()
        self._deleted: set[tuple[str, int]] = set()
        self._before = float("-inf")  # when the last look was
        self._told = False

    def close(self) -> None:
        """Stop listening."""
        self._changes.close()

    def fileno(self) -> int:
        """Return the descriptor to select for reading."""
        return self._changes.fileno()

    @property
    def mounts(self) -> int:
        """The descriptor to select for exceptional conditions."""
        return self._changes.mounts

    def watch(self, namespaces: Iterable[str]) -> None:
        """Watch these named namespaces in addition to our own."""
        wanted = sorted(name for name in namespaces if name)
        self._changes.watch(wanted)
        if wanted and not self._changes.everywhere and not self._told:
            self._told = True
            _log.warning(
                f"changes of interfaces in {', '.join(wanted)} are noticed only within ten seconds: the service lacks "
                "CAP_NET_BROADCAST, as under the unit file of an earlier version; a new one: xdpguard run --print-unit"
            )

    def heed(self, mounted: bool) -> None:
        """Read the notifications. ``mounted``: something was mounted or unmounted, as named namespaces are."""
        seen = self._changes.read()
        if seen is None and not mounted:
            return
        if seen is not None:
            self._deleted |= seen.deleted
            if seen.lost:
                _log.warning("more link changes arrived than could be received; checking all links")
        self.at = min(self.at, max(time.monotonic() + _DEBOUNCE, self._before + _BETWEEN))

    def take(self, now: float) -> bool:
        """Return whether a look is due now, and if so, record it as taken."""
        if now < self.at:
            return False
        self.at, self._before = float("inf"), now
        return True

    def deleted(self) -> set[tuple[str, int]]:
        """Return namespace and index of each interface removed since the last call."""
        found, self._deleted = self._deleted, set()
        return found
