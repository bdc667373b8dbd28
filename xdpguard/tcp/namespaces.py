# SPDX-License-Identifier: GPL-2.0
"""Names of network namespaces by inode number, which is what kernel events carry."""

from __future__ import annotations

import time

from xdpguard.net.netns import Place, all_places, is_current

_LOOK_AGAIN = 1.0  # seconds between two searches for unknown namespaces
_CHECK_AGAIN = 0.1  # seconds between two checks that a number still means the same namespace
_MOST = 4096  # names kept


class Names:
    """Names by inode number. The number of a deleted namespace is reused, so known names are verified."""

    def __init__(self) -> None:
        self._places: dict[int, Place] = {}
        self._sure: dict[int, str] = {}  # names verified a moment ago
        self._checked = self._looked = float("-inf")

    def name(self, inode: int) -> str:
        """Return the namespace's name, even for a moment after it was deleted.

        Returns ``net N`` with the inode number if it has none, and ``?`` for 0.
        """
        now = time.monotonic()
        if now - self._checked > _CHECK_AGAIN:
            self._checked = now
            self._sure.clear()
        found = self._sure.get(inode)
        if found is None:
            found = self._sure[inode] = self._check(inode, now) if inode else "?"
        return found

    def _check(self, inode: int, now: float) -> str:
        known = self._places.get(inode)
        if not (known and is_current(known)) and (known or now - self._looked > _LOOK_AGAIN):
            self._looked = now
            there = {place.inode: place for place in all_places()}
            # A deleted namespace keeps its name until its number is reused.
            self._places = self._places | there if len(self._places) < _MOST else there
        found = self._places.get(inode)
        return found.name if found else f"net {inode}"
