# SPDX-License-Identifier: GPL-2.0
"""The application: global options, exit codes, and no traceback, whatever happens."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import traceback
from typing import Annotated

import typer

from xdpguard import __version__
from xdpguard.cli import render
from xdpguard.cli.commands import LazyGroup, Source
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

# In the order of the help; each summary is the first sentence of the command's docstring.
_TABLE = {
    "attach": Source("xdpguard.cli.lifecycle", "Put the program on an interface, or swap the one that is there."),
    "detach": Source("xdpguard.cli.lifecycle", "Take the program off an interface."),
    "status": Source("xdpguard.cli.lifecycle", "Show what is attached, and how many rules are in force."),
    "doctor": Source(
        "xdpguard.cli.lifecycle",
        "Check that this machine has what xdpguard needs, and say what to do where it has not.",
    ),
    "block": Source("xdpguard.cli.rules", "Drop packets from sources, or to ports."),
    "unblock": Source("xdpguard.cli.rules", "Take block rules away, and shadow rules."),
    "allow": Source("xdpguard.cli.rules", "Let sources through, whatever blocks them."),
    "disallow": Source("xdpguard.cli.rules", "Take sources off the allow list."),
    "rules": Source("xdpguard.cli.rules", "Show the rules in force and what they hit."),
    "promote": Source("xdpguard.cli.promote", "Let shadow entries drop what they have only counted so far."),
    "confirm": Source("xdpguard.cli.confirm", "Keep the change made with --confirm, which is undone otherwise."),
    "undo": Source("xdpguard.cli.confirm", "Take the last change back; again, the one before it."),
    "stats": Source(
        "xdpguard.cli.observe", "Show packets and bytes by reason, TCP flags and protocols, for each interface."
    ),
    "syns": Source("xdpguard.cli.observe", "Show who tries to connect: initial SYNs, most first."),
    "top": Source(
        "xdpguard.cli.top",
        "Watch live: packets by verdict and reason, who sends SYNs, rules, lists, the guard; block and allow by key.",
    ),
    "run": Source(
        "xdpguard.cli.guard",
        "Run as a service: attach what is recorded or named, follow it, log floods, ban sources.",
    ),
    "dashboard": Source("xdpguard.cli.dashboard", "Print a Grafana dashboard for the metrics of `run`."),
    "events": Source("xdpguard.cli.events", "Show which packets were dropped of late, and why each of them was."),
    "capture": Source(
        "xdpguard.cli.capture",
        "Write dropped packets' headers to a pcapng file, with the reason of each in its comment.",
    ),
    "explain": Source(
        "xdpguard.cli.explain",
        "Say what becomes of a packet and what decides it, or all that is known of an address.",
    ),
    "replay": Source(
        "xdpguard.cli.replay",
        "Run a capture through the attached program, or through a policy that is not in force, and count nothing.",
    ),
    "bench": Source(
        "xdpguard.cli.bench", "Measure what this machine can do: costs of a packet, drop rates, loading times."
    ),
    "guard": Source("xdpguard.cli.guard", "The SYN guard: look at it, change its policy."),
    "lists": Source("xdpguard.cli.lists", "Named block lists of up to millions of entries."),
    "tcp": Source(
        "xdpguard.cli.tcp",
        "TCP on this host: states, transitions, round-trip times, retransmissions, congestion windows.",
    ),
}


class _Commands(LazyGroup):
    table = _TABLE


app = typer.Typer(
    name="xdpguard",
    cls=_Commands,
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
    context.obj = Options(find_instance(instance), verbose, context.obj or "")


def main() -> None:
    """Run the command line, and exit with its code."""
    _open_standard_streams()
    sys.exit(run(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Open those of the three that are closed (>&-): no map or socket may get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))


def run(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
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
    except Exception as error:  # the user never sees a traceback
        return _unexpected(error, f"{type(error).__name__}: {error}", verbose)
    # Typer ends with 1 when the reader of a pipe has closed it (| head). That is not a failure.
    return EXIT_DONE if code == EXIT_FAILED and render.reader_gone(1) else code


def _invoke(arguments: list[str]) -> int:
    try:
        app(args=arguments, prog_name="xdpguard", obj=shlex.join(arguments))
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else EXIT_DONE
    return EXIT_DONE


def _silence() -> None:
    """Keep Python from retrying failed writes when it exits."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _unexpected(error: Exception, words: str, verbose: bool) -> int:
    remedy = "run again with -v for where it happened; xdpguard doctor checks the environment"
    trace = "".join(traceback.format_exception(error))
    render.failure(XdpguardError(f"unexpected: {words}", remedy, trace), verbose)
    return EXIT_FAILED
