# SPDX-License-Identifier: GPL-2.0
"""The command help: a topic, or a command."""

from __future__ import annotations

from importlib import resources
from typing import Annotated, Any

import typer

from xdpguard.cli import render
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


def topics() -> list[str]:
    """Return the names of the topics."""
    folder = resources.files("xdpguard") / "help"
    return sorted(it.name.removesuffix(".md") for it in folder.iterdir() if it.name.endswith(".md")) if _any() else []


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
        if names := topics():
            render.say(f"\nTopics, for xdpguard help TOPIC: {', '.join(names)}.")
        return
    if len(asked) == 1 and asked[0] in topics():
        render.say((resources.files("xdpguard") / "help" / f"{asked[0]}.md").read_text("utf-8").rstrip("\n"))
        if asked[0] in COMMANDS:
            render.say(f"\nThe command: xdpguard {asked[0]} --help")
        return
    typer.echo(_command(context.find_root(), asked))


def _any() -> bool:
    return (resources.files("xdpguard") / "help").is_dir()


def _command(at: Any, words: list[str]) -> str:
    """Return the help of a command. ``at``: the context of the application."""
    for word in words:
        found = found_in(at.command, word)
        if found is None:
            known = f"topics: {', '.join(topics())}; " if topics() else ""
            raise UsageError(f"there is no topic or command {' '.join(words)}", f"{known}commands: xdpguard help")
        at = found.make_context(word, [], parent=at, resilient_parsing=True)
    text: str = at.get_help()
    return text
