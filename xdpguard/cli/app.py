# SPDX-License-Identifier: GPL-2.0
"""The application: global options, exit codes, and no traceback, whatever happens."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from typing import Annotated

import typer

from xdpguard import __version__
from xdpguard.cli import (
    bench,
    capture,
    dashboard,
    events,
    explain,
    guard,
    lifecycle,
    lists,
    observe,
    promote,
    render,
    replay,
    rules,
    tcp,
    top,
)
from xdpguard.cli.session import Options, find_instance
from xdpguard.errors import EXIT_DONE, EXIT_FAILED, XdpguardError

_EPILOG = """
\b
Examples:
  sudo xdpguard attach eth0                    inspect and filter what eth0 receives
  sudo xdpguard block 198.51.100.7 --for 10m   drop a source for ten minutes
  sudo xdpguard allow 192.0.2.0/24             let a network through, whatever else blocks it
  sudo xdpguard stats --watch 1                see what passes and what is dropped, and why
  sudo xdpguard detach eth0                    take it off again; rules are kept
\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 something is missing here (the message names it).
"""

app = typer.Typer(
    name="xdpguard",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
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
        typer.Option("--instance", envvar="XDPGUARD_INSTANCE", metavar="NAME", help="Policy, maps and store to use."),
    ] = "default",
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="With an error, show all that is known of it.")
    ] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """XDP packet-inspection firewall and SYN-flood guard for Linux hosts."""
    context.obj = Options(find_instance(instance), verbose)


lifecycle.register(app)
rules.register(app)
promote.register(app)
observe.register(app)
top.register(app)
guard.register(app)
lists.register(app)
dashboard.register(app)
events.register(app)
capture.register(app)
explain.register(app)
replay.register(app)
tcp.register(app)
bench.register(app)


def main() -> None:
    """Runs the command line and exits with its code."""
    _open_standard_streams()
    sys.exit(run(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Where one of the three is closed (>&-) there is nobody to tell; but no map or socket may get its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def run(arguments: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
    except XdpguardError as error:
        render.failure(error, verbose)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_FAILED
    except BrokenPipeError:
        _silence()
        return EXIT_DONE
    except OSError as error:
        _silence()
        return _unexpected(error, error.strerror or str(error), verbose)
    except Exception as error:  # whatever it is, nobody gets a traceback for it
        return _unexpected(error, f"{type(error).__name__}: {error}", verbose)
    # Typer ends with 1 when the reader of a pipe has what it wanted (| head). That is no failure.
    return EXIT_DONE if code == EXIT_FAILED and render.reader_gone(1) else code


def _invoke(arguments: list[str]) -> int:
    try:
        app(args=arguments, prog_name="xdpguard")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else EXIT_DONE
    return EXIT_DONE


def _silence() -> None:
    """Keeps Python from trying at its end to write what could not be written."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _unexpected(error: Exception, words: str, verbose: bool) -> int:
    remedy = "run again with -v for where it happened; xdpguard doctor checks the environment"
    trace = "".join(traceback.format_exception(error))
    render.failure(XdpguardError(f"unexpected: {words}", remedy, trace), verbose)
    return EXIT_FAILED
