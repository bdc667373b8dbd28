# SPDX-License-Identifier: GPL-2.0
"""The widget that fills the screen, and the styles of the meanings that text can have."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from xdpguard.tui.draw import Line
from xdpguard.tui.frame import frame
from xdpguard.tui.view import View

# Meanings map to colours of the terminal's own palette; nothing important depends on colour alone.
_PALETTE = {
    "pass": Style(color="green"),
    "drop": Style(color="red"),
    "guard": Style(color="yellow"),
    "name": Style(color="cyan"),
    "key": Style(bold=True),
    "bold": Style(bold=True),
    "dim": Style(dim=True),
    "head": Style(bold=True),
    "column": Style(bold=True, underline=True),
    "title": Style(bold=True),
    "tab": Style(bold=True, reverse=True),
    "chosen": Style(reverse=True),
    "notice": Style(color="yellow", bold=True),
    "alarm": Style(color="red", bold=True, reverse=True),
    "good": Style(color="green"),
    "bad": Style(color="red", bold=True),
}


class Board(Widget):
    """The whole screen. Draws a frame once and serves its lines."""

    def __init__(self, view: View) -> None:
        super().__init__()
        self._view = view
        self._lines: list[Strip] = []

    def redraw(self) -> None:
        """Draw the frame again and send only the lines that changed."""
        lines = [_strip(line) for line in frame(self._view, *self.size)]
        if len(lines) != len(self._lines):
            self._lines = lines
            self.refresh()
            return
        for row, (new, old) in enumerate(zip(lines, self._lines, strict=True)):
            if new != old:
                self._lines[row] = new
                self.refresh_line(row)

    def refresh_line(self, row: int) -> None:
        """Send one line."""
        self.refresh(Region(0, row, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        """Return a line of the frame."""
        return self._lines[y] if y < len(self._lines) else Strip.blank(self.size.width)

    def on_resize(self) -> None:
        """Draw everything again."""
        self._lines = []
        self.redraw()


def _strip(line: Line) -> Strip:
    found = []
    for text, names in line:
        # Some SVG renderers strip leading spaces from a text and shift what follows.
        rest = text.lstrip(" ")
        style = _style(names)
        if rest and len(rest) < len(text):
            found.append(Segment(text[: len(text) - len(rest)], style))
        found.append(Segment(rest or text, style))
    return Strip(found)


@cache
def _style(names: str) -> Style:
    found = Style()
    for name in names.split():
        found += _PALETTE[name]
    return found


def colourless(environment: Mapping[str, str]) -> bool:
    """Return whether the terminal has no colours, or the user wants none."""
    kind = environment.get("TERM", "")
    return (
        "NO_COLOR" in environment
        or kind in ("", "dumb")
        or kind.startswith(("vt1", "vt2", "vt52"))
        or (kind.endswith(("-m", "-mono")))
    )
