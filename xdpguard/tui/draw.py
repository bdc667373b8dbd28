# SPDX-License-Identifier: GPL-2.0
"""Styled text, lines of an exact width, numbers with units, plots. Independent of the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size


class Span(NamedTuple):
    """Text and its meaning: a name in the application's palette."""

    text: str
    style: str = ""


Line = list[Span]


@dataclass(frozen=True)
class Glyphs:
    """The characters of plots, lowest first, and small marks."""

    levels: str = "▁▂▃▄▅▆▇█"
    full: str = "█"
    rule: str = "─"
    down: str = "▼"
    up: str = "▲"
    at_most: str = "≤"


UNICODE = Glyphs()
ASCII = Glyphs("_.-=+*#@", "#", "-", "v", "^", "<=")


def fit(line: Iterable[Span], width: int, style: str = "") -> Line:
    """Return a line of exactly ``width`` cells, padded in ``style``."""
    found: Line = []
    left = width
    for text, its in line:
        shown = "".join(letter if letter.isprintable() else "?" for letter in text)
        size = cell_len(shown)
        if size > left:
            shown, size = set_cell_size(shown, left), left
        if shown:
            found.append(Span(shown, its))
        left -= size
        if not left:
            return found
    return [*found, Span(" " * left, style)]


def cell(text: str, width: int, right: bool = False) -> str:
    """Pad or cut text to ``width`` cells; cut text ends with a mark."""
    if cell_len(text) > width:
        return set_cell_size(text, width - 1) + "~" if width > 1 else text[:width]
    space = " " * (width - cell_len(text))
    return space + text if right else text + space


def plain(line: Iterable[Span]) -> str:
    """Return the text of a line without styles."""
    return "".join(text for text, _ in line)


def scaled(value: float, digits: int = 3) -> str:
    """Format a number in at most five characters: 999, 1.23k, 45.6M, 789G; with 2 digits in four: 1.2k, 46M, 789G."""
    if math.isnan(value):
        return "-"
    if value < 999.5:
        return f"{value:.0f}"
    for unit in "kMGTPE":
        value /= 1000
        if value < 999.5 or unit == "E":
            whole = 1 if value < (9.995 if digits > 2 else 9.95) else 2 if value < 99.95 else 3
            return f"{value:.{max(0, digits - whole)}f}{unit}"
    raise AssertionError


def share(part: float, whole: float) -> str:
    """Format a part in percent of a whole, in at most five characters; any but nothing and all is visible as such."""
    if math.isnan(part) or math.isnan(whole) or whole <= 0:
        return "-"
    percent = 100 * part / whole
    if not part or part >= whole:
        return "100%" if part else "0%"
    return "<0.1%" if percent < 0.1 else f"{min(percent, 99.9):.1f}%"


def bars(
    values: Sequence[float] | NDArray[np.float64], width: int, height: int, glyphs: Glyphs, scale_to: float = 0.0
) -> list[str]:
    """Plot the last values, ``width`` cells wide and ``height`` high.

    ``scale_to``: the value that fills the height, for plots of one scale; by default the highest of these. Unknown
    values and 0 are empty; everything above 0 is visible.
    """
    known = np.nan_to_num(np.asarray(values, np.float64)[-width:])
    steps = len(glyphs.levels)
    most = max(scale_to, known.max(initial=0.0))
    # Scale to just below the top, so that stacked plots do not touch.
    scale = (height * steps - height.bit_length()) / most if most > 0 else 0.0
    levels = np.where(known > 0, np.maximum(1, np.rint(known * scale)), 0).astype(int)
    rows = []
    for row in range(height - 1, -1, -1):
        parts = np.clip(levels - row * steps, 0, steps)
        line = "".join(" " if not it else glyphs.full if it == steps else glyphs.levels[it - 1] for it in parts)
        rows.append(line.rjust(width))
    return rows


def highest(values: NDArray[np.float64], width: int) -> float:
    """Return the highest of the values that a plot of that width shows."""
    return float(np.nan_to_num(values[-width:]).max(initial=0.0))
