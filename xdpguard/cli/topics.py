# SPDX-License-Identifier: GPL-2.0
"""The topics of ``xdpguard help``: Markdown files in xdpguard/help, which manual pages are made from, too.

The first line of each is its title: ``# NAME: what it is about``.
"""

from __future__ import annotations

import sys
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "help"
_WIDEST = 100  # columns; longer lines are hard to read


def names() -> list[str]:
    """Return the names of the topics, in alphabetical order."""
    return sorted(path.stem for path in _FOLDER.glob("*.md"))


def topics() -> dict[str, str]:
    """Return what each topic is about, by its name."""
    return {name: text(name).partition("\n")[0].partition(": ")[2] for name in names()}


def text(name: str) -> str:
    """Return a topic's Markdown."""
    return (_FOLDER / f"{name}.md").read_text(encoding="utf-8")


def show(name: str) -> None:
    """Print a topic, laid out for the terminal; the Markdown itself into a pipe or a file."""
    if not sys.stdout.isatty():
        sys.stdout.write(text(name))
        return
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.theme import Theme

    # Nothing with a background, which would be wrong on one half of all terminals.
    console = Console(theme=Theme({"markdown.code": "bold", "markdown.h1": "bold", "markdown.h2": "bold underline"}))
    console.print(Markdown(text(name), code_theme="ansi_dark"), width=min(console.width, _WIDEST))
