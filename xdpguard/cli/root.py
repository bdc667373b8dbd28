# SPDX-License-Identifier: GPL-2.0
"""The application as typer sees it: the global options, and the commands of the catalogue."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from xdpguard import __version__
from xdpguard.cli.catalogue import ABOUT, COMMANDS, OPTIONS, overview
from xdpguard.cli.commands import LazyGroup
from xdpguard.cli.session import Options, find_instance


class _Commands(LazyGroup):
    table = COMMANDS

    def format_help(self, _context: Any, formatter: Any) -> None:
        """Write the help that --help alone prints without typer."""
        formatter.write(overview())


app = typer.Typer(
    name="xdpguard",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=ABOUT,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xdpguard {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    context: typer.Context,
    instance: Annotated[
        str,
        typer.Option("--instance", envvar="XDPGUARD_INSTANCE", metavar="NAME", help=OPTIONS["--instance NAME"]),
    ] = "default",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help=OPTIONS["-v, --verbose"])] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help=OPTIONS["--version"])
    ] = False,
) -> None:
    context.obj = Options(find_instance(instance), verbose)
