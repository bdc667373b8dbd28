# SPDX-License-Identifier: GPL-2.0
"""How this host's clock differs from the fleet's server's: each entry has an absolute end, which is judged here."""

from __future__ import annotations

import time

from xdpguard import units

_LEAST = 2.0  # seconds: smaller differences are not told from the way to the server and back
_AGAIN = 900.0  # seconds after which it is measured again


class Clock:
    """``ahead``: by how many whole seconds this host's clock is ahead of the server's; negative: behind; 0: neither."""

    def __init__(self) -> None:
        self.ahead = 0
        self._at = float("-inf")  # when it was measured, monotonic, s

    @property
    def due(self) -> bool:
        """Whether it is to be measured."""
        return time.monotonic() - self._at >= _AGAIN

    def take(self, ahead: float | None) -> str:
        """Take a measurement, in seconds; None if there was none. Return what is to be said, empty for nothing."""
        if ahead is None:
            return ""
        self._at = time.monotonic()
        before, self.ahead = self.ahead, round(ahead) if abs(ahead) >= _LEAST else 0
        if abs(self.ahead - before) < _LEAST:
            self.ahead = before
            return ""
        if not self.ahead:
            return "this host's clock is right again by the fleet's server's"
        when = "sooner" if self.ahead > 0 else "later"
        return f"this host's clock is {words(self.ahead)} the fleet's server's: entries end that much {when} here"


def words(ahead: float) -> str:
    """Return a difference as text that fits before "the server's"."""
    return f"{units.span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'}"
