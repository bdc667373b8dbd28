# SPDX-License-Identifier: GPL-2.0
"""The command help: a topic, or a command."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xdpguard.cli import render, topics
from xdpguard.cli.catalogue import COMMANDS, overview
from xdpguard.cli.commands import found_in
from xdpguard.errors import UsageError

_EXAMPLES = """
\b
Examples:
  xdpguard help                 the commands, and the topics
  xdpguard help block           as xdpguard block --help
  xdpguard help lists load
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command("help", epilog=_EXAMPLES)(show)


def show(
    context: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[TOPIC|COMMAND]", help="What to explain.", show_default=False)
    ] = None,
) -> None:
    """Explain a topic or a command; without either, list them."""
    asked = words or []
    if not asked:
        render.say(overview().rstrip("\n"))
    elif len(asked) == 1 and asked[0] in topics.names():
        topics.show(asked[0])
    else:
        typer.echo(_command(context.find_root(), asked))


def _near(word: str) -> str:
    """Return which topics or commands can be meant by a word that is none."""
    import difflib

    known = [*topics.names(), *COMMANDS]
    close = difflib.get_close_matches(word, known, 2, 0.75)
    told = [] if close else [it for it in topics.names() if word.casefold() in topics.text(it).casefold()]
    if close:
        return f"did you mean {' or '.join(close)}? All topics and commands: xdpguard help"
    return f"topics{' that name it' if told else ''}: {', '.join(told or topics.names())}; commands: xdpguard help"


def _command(at: Any, words: list[str]) -> str:
    """Return the help of a command. ``at``: the context of the application."""
    for word in words:
        found = found_in(at.command, word)
        if found is None:
            raise UsageError(f"there is no topic or command {' '.join(words)}", _near(word))
        at = found.make_context(word, [], parent=at, resilient_parsing=True)
    text: str = at.get_help()
    return text
