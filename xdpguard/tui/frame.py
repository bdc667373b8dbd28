# SPDX-License-Identifier: GPL-2.0
"""The whole screen as lines of styled text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from rich.cells import cell_len

from xdpguard.tui.draw import Line, Span, cell, fit
from xdpguard.tui.head import head
from xdpguard.tui.layout import Box, boxes
from xdpguard.tui.panes import PANES
from xdpguard.tui.table import FILL, Pane, fitted
from xdpguard.tui.view import View

SMALLEST = (60, 14)
_SHORT = {"destinations": "dests", "interfaces": "links"}

# The last ones are omitted if there is no room for them.
_FOOTER = (
    ("?", "help"),
    ("q", "quit"),
    ("b", "block"),
    ("u", "unblock"),
    ("a", "allow"),
    ("/", "filter"),
    ("s", "sort"),
    ("p", "pause"),
    ("i", "interface"),
    ("r", "reverse"),
    ("1-8", "table"),
)

HELP = (
    "  1 to 8, Tab         another table",
    "  arrows, PgUp, PgDn  select a row, followed as it moves; Home: the first",
    "  s, r                sort by the next column; reverse the order",
    "  /                   filter: an address or its beginning, a prefix, :port, or",
    "                      text of rules; Esc shows all again",
    "  p or Space          pause the picture, and resume; reading continues",
    "  i                   the next interface, after the last all of them together;",
    "                      Enter on a row of table 7 shows that one",
    "  b                   block the selected source (table 2) or target (table 5)",
    "  a                   allow it, overriding every block",
    "  u                   unblock it; on table 5 remove the selected rule",
    "                      each asks first: left and right set how long, y confirms",
    "  q or Ctrl-C         quit; the data plane keeps running",
    "",
    "  pass went on to the kernel, drop ended here, answer is a SYN cookie sent back.",
    "  Tables 2 to 4: initial SYNs of all interfaces that no rule dropped, as far as",
    "  they are tracked (in a flood, most new ones are not), and drops, attributed by",
    "  samples. 'others' are too many sources with too few SYNs to list: / finds one.",
    "  Tables 5, 6 and 8 have the exact hits of rules, lists and",
    "  filters; whom a filter drops most of is known by samples.",
)


def frame(view: View, width: int, height: int) -> list[Line]:
    """Return exactly ``height`` lines of ``width`` cells."""
    if width < SMALLEST[0] or height < SMALLEST[1]:
        text = f"{width}x{height} is too small: at least {SMALLEST[0]}x{SMALLEST[1]}; q quits"
        return [fit([Span(text if not row else "")], width) for row in range(height)]
    lines = head(view, width, height)
    if view.helping:
        lines = [lines[0], fit([], width), *(fit([Span(text)], width) for text in HELP)]
    elif view.shown() is None:
        lines += [fit([], width), fit([Span(f"  {view.stale() or 'reading ...'}", "dim")], width)]
    else:
        # Boxes are ordered from the left and the top: join those of one row.
        left = len(lines)
        area: dict[int, dict[int, Line]] = {}
        found = boxes(view, width, left, height - 2)
        for box in found:
            for row, line in enumerate(_table(view, box, alone=len(found) == 1)):
                area.setdefault(box.top + row, {})[box.left] = line
        for row in range(left, height - 2):
            joined: Line = []
            for at, line in sorted(area.get(row, {}).items()):
                joined = [*fit(joined, at), *line] if at else [*line]
            lines.append(fit(joined, width))
    # Show messages in full: they may cover the end of the tables.
    bottom = [fit(line, width) for line in _bottom(view, width)][: height // 3]
    lines = lines[: height - 1 - len(bottom)]
    lines += [fit([], width)] * (height - 1 - len(bottom) - len(lines))
    return [*lines, *bottom, _keys(view, width)]


def _table(view: View, box: Box, alone: bool) -> list[Line]:
    pane, front = PANES[box.pane], box.pane == view.pane
    lines = [_tabs(view, box.width) if alone else _name(view, box)]
    shown = view.shown()
    if shown is None or box.height < 3:
        return lines
    choice = view.choices[pane.name]
    choice.height = box.height - 2
    order = view.order(pane)
    at = view.settle(pane, order)
    rows = range(choice.top, min(choice.top + choice.height, len(order)))
    table = [pane.cells(shown, int(order[row]), 0) for row in rows]
    longest = [max(map(cell_len, column)) for column in zip(*([it.text for it in its] for its in table), strict=True)]
    widths = fitted(pane.columns, box.width, longest or [0] * len(pane.columns))
    lines.append(fit(_heads(view, pane, widths), box.width, "column"))
    for row, first in zip(rows, table, strict=True):
        cells = pane.cells(shown, int(order[row]), widths[-1]) if pane.plots else first
        chosen = front and row == at
        line: Line = [Span(" ")]
        for text, column, width in zip(cells, pane.columns, widths, strict=True):
            if width > 0:
                # Reversed, a plot would look inside out.
                style = "chosen" if chosen and column.title != FILL else text.style
                line += [Span(cell(text.text, width, column.right), style), Span(" ", style if chosen else "")]
        lines.append(fit(line, box.width))
    if not len(order):
        lines.append(fit([Span("  nothing matches the filter" if view.wanted.text else "  none", "dim")], box.width))
    return lines[: box.height] + [fit([], box.width)] * (box.height - len(lines))


def _heads(view: View, pane: Pane, widths: list[int]) -> Line:
    choice = view.choices[pane.name]
    line: Line = [Span(" ", "column")]
    falls = choice.sort not in ("number", "address", "expires", "age")
    mark = view.glyphs.down if falls != choice.reverse else view.glyphs.up
    for column, width in zip(pane.columns, widths, strict=True):
        title = "" if column.title == FILL else column.title
        if column.sort and column.sort == choice.sort:
            title = f"{mark}{title}" if column.right else f"{title} {mark}"
        if width > 0:
            line.append(Span(cell(title, width, column.right) + " ", "column"))
    return line


def _tabs(view: View, width: int) -> Line:
    """Draw the tabs; with less room some names are short, and with too little only the front one gets its name."""
    short = {pane.name: pane.name for pane in PANES}
    if _tabs_width(short.values()) > width:
        short |= _SHORT
    named = _tabs_width(short.values()) <= width
    line: Line = []
    for number, pane in enumerate(PANES):
        name = f" {short[pane.name]}" if named or number == view.pane else ""
        line.append(Span(f" {number + 1}{name} ", "tab" if number == view.pane else "dim"))
    return fit(line, width)


def _tabs_width(names: Iterable[str]) -> int:
    return sum(len(name) + 4 for name in names)


def _name(view: View, box: Box) -> Line:
    pane, shown = PANES[box.pane], view.shown()
    title = Span(f" {box.pane + 1} {pane.name} ", "tab" if box.pane == view.pane else "title")
    note = pane.note(shown) if shown else ""
    return fit([title, Span(f" {note}" if len(title.text) + len(note) < box.width else "", "dim")], box.width)


def _bottom(view: View, width: int) -> list[Line]:
    """Return the bottom lines: a prompt, a message, the filter, or the note on the table in front."""
    shown = view.shown()
    text, style = view.message
    said: list[Line] = [[Span(f" {part}", style)] for part in textwrap.wrap(text, width - 2)]
    if view.prompt:
        return [*said, view.prompt]
    if said:
        return said
    if view.wanted.text:
        return [[Span(f" filter: {view.wanted.text}   (Esc: all)", "notice")]]
    return [[Span(f" {PANES[view.pane].note(shown)}" if shown and not view.helping else "", "dim")]]


def _keys(view: View, width: int) -> Line:
    if view.helping:
        return fit([Span(" any key", "key"), Span(" back to the figures", "dim")], width)
    line: Line = []
    for key, what in _FOOTER:
        if sum(len(text) for text, _ in line) + len(key) + len(what) + 3 <= width:
            line += [Span(f" {key}", "key"), Span(f" {what} ", "dim")]
    return fit(line, width)
