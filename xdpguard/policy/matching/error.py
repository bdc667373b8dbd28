# SPDX-License-Identifier: GPL-2.0
"""An invalid match, and the place in its text."""

from __future__ import annotations

import unicodedata

from xdpguard.errors import UsageError
from xdpguard.units import visible

_BEFORE, _AFTER = 60, 40  # characters of the text that are shown around the place


class MatchError(UsageError):
    """The text of a match is wrong at ``column``, counted from 1; the remedy says what can stand there."""

    def __init__(self, message: str, remedy: str, text: str, column: int) -> None:
        super().__init__(f"{message} (column {column})", remedy)
        self.text = text
        self.column = column

    def shown(self) -> str:
        """Return two lines: the text around the place, and a caret below it."""
        at = self.column - 1
        first = max(0, at - _BEFORE)
        before = ("..." if first else "") + visible(self.text[first:at])
        after = visible(self.text[at : at + _AFTER]) + ("..." if len(self.text) > at + _AFTER else "")
        return f"{before}{after}\n{' ' * _columns(before)}^"


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(0 if unicodedata.combining(it) else 2 if unicodedata.east_asian_width(it) in "WF" else 1 for it in text)
