# SPDX-License-Identifier: GPL-2.0
"""The application as typer sees it: the global options, and the commands of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from xdpguard import __version__, units
from xdpguard.cli import output
from xdpguard.cli.catalogue import ABOUT, COMMANDS, OPTIONS, WIDEST, overview
from xdpguard.cli.commands import LazyGroup
from xdpguard.cli.session import Options, find_instance


@contextmanager
def _neutral() -> Iterator[None]:
    """Keep what a user typed from steering the terminal by an error about it."""
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)
        if isinstance(message, str):
            error.message = units.visible(message, keep="\n")  # type: ignore[attr-defined]
        raise


class _Commands(LazyGroup):
    table = COMMANDS

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the global options."""
        with _neutral():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Parse and run a command."""
        with _neutral():
            return super().invoke(ctx)

    def format_help(self, _context: Any, formatter: Any) -> None:
        """Write the help that --help alone prints without typer."""
        formatter.write(overview())


app = typer.Typer(
    name="xdpguard",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
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
    colour: Annotated[
        str, typer.Option("--color", metavar="WHEN", help=OPTIONS["--color WHEN"], show_default=False)
    ] = "auto",
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help=OPTIONS["--version"])
    ] = False,
) -> None:
    output.begin(context, colour)
    context.obj = Options(find_instance(instance), verbose, context.obj or "")
