# SPDX-License-Identifier: GPL-2.0
"""The command config check."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xdpguard.cli import render
from xdpguard.cli.session import options
from xdpguard.errors import EXIT_USAGE, UsageError

_EXAMPLES = """
\b
Examples:
  xdpguard config check guard.toml
  xdpguard config check                    the file of this instance
  xdpguard config check guard.toml --json | jq '.mistakes[].line'

All mistakes are told, each with its line. Nothing is changed, and no privileges are needed. Whether lists can be read
and interfaces exist is seen at attach.
"""

config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check a configuration file.")


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    config_app.command(epilog=_EXAMPLES)(check)
    config_app.callback()(lambda: None)
    app.add_typer(config_app, name="config")


def check(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Default: that of the instance.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell every mistake in a configuration file, with its line; put nothing in force."""
    from xdpguard.cli.answers.changes import Checked, Mistake
    from xdpguard.policy.load import Mistakes, load

    chosen = options(context).instance
    path = file or chosen.config
    if path is None:
        raise UsageError(f"instance {chosen.name} has no configuration file", "name one: xdpguard config check FILE")
    try:
        policy = load(path)
    except Mistakes as error:
        if not as_json:
            raise
        found = [Mistake(it.line or None, it.key, it.message, it.remedy) for it in error.found]
        render.print_json(Checked(str(path), found))
        raise typer.Exit(EXIT_USAGE) from error
    if as_json:
        render.print_json(Checked(str(path), []))
        return
    rules = len(policy.rules.allow) + len(policy.rules.block) + len(policy.rules.ports)
    parts = [
        render.counted(len(policy.attach), "interface"),
        render.counted(rules, "rule"),
        render.counted(len(policy.lists), "list"),
        render.counted(len(policy.filters), "filter"),
    ]
    render.say(f"{path}: no mistakes; {', '.join(parts)}")
