# SPDX-License-Identifier: GPL-2.0
"""Output that is repeated: on a terminal each time replaces the one before, elsewhere they follow each other."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from itertools import accumulate
from typing import TextIO

from xdpguard.units import counted

_UP, _END_OF_LINE, _BELOW = "\x1b[{}A", "\x1b[K", "\x1b[J"

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class _Frame(io.StringIO):
    """Stands in for a terminal while a frame is written."""

    encoding = property(lambda self: self._terminal.encoding)
    errors = property(lambda self: self._terminal.errors)

    def __init__(self, terminal: TextIO) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        """Return True: what is drawn is for a terminal."""
        return True


class Redraw:
    """Draws frames over each other and leaves the last one. The modes of the terminal stay as they are."""

    def __init__(self, wanted: bool = True) -> None:
        """``wanted``: False for output that machines read."""
        self._in_place = wanted and sys.stdout.isatty()
        self._height = 0  # rows of the last frame

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Collect what is printed, notes included, and draw it over the last frame. A failure draws nothing."""
        if not self._in_place:
            yield
            sys.stdout.flush()
            return
        written = _Frame(sys.stdout)
        with redirect_stdout(written), redirect_stderr(written if sys.stderr.isatty() else sys.stderr):
            yield
        columns, rows = shutil.get_terminal_size()
        lines = written.getvalue().splitlines()
        heights = [max(1, -(-len(_STYLE.sub("", line)) // columns)) for line in lines]
        if sum(heights) >= rows:  # the cursor is below
            kept = sum(1 for end in accumulate(heights) if end < rows - 1)
            more, left = counted(len(lines) - kept, "more line"), "it" if len(lines) - kept == 1 else "them"
            lines = [*lines[:kept], f"... {more}: a taller terminal shows {left}"]
            heights = [*heights[:kept], 1]
        text = "".join(f"{line}{_END_OF_LINE}\n" for line in lines)
        up = _UP.format(min(self._height, rows - 1)) if self._height else ""
        sys.stdout.write(f"{up}{text}{_BELOW}")
        sys.stdout.flush()
        self._height = sum(heights)
