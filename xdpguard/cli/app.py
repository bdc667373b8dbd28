# SPDX-License-Identifier: GPL-2.0
"""The application: global options, exit codes, errors reported without a traceback."""

from __future__ import annotations

import contextlib
import os
import sys
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
  sudo xdpguard block 198.51.100.7 --for 10m   block a source for ten minutes
  sudo xdpguard allow 192.0.2.0/24             let a network through, overriding every block
  sudo xdpguard stats --watch 1                show what passes, what is dropped, and why
  sudo xdpguard detach eth0                    detach the program; rules are kept
\b
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the environment lacks something (the message names it).
"""

# In the order of the help; each summary is the first sentence of the command's docstring.
_TABLE = {
    "attach": Source("xdpguard.cli.lifecycle", "Attach the program to an interface, or swap the one attached."),
    "detach": Source("xdpguard.cli.lifecycle", "Detach the program from an interface."),
    "status": Source("xdpguard.cli.lifecycle", "Show what is attached, and how many rules are in force."),
    "doctor": Source(
        "xdpguard.cli.lifecycle",
        "Check that this machine has what xdpguard needs, and say how to get what it lacks.",
    ),
    "block": Source("xdpguard.cli.rules", "Drop packets from sources, or to ports."),
    "unblock": Source("xdpguard.cli.rules", "Remove block rules, closed ports and shadow rules."),
    "allow": Source("xdpguard.cli.rules", "Let sources through, overriding every block."),
    "disallow": Source("xdpguard.cli.rules", "Remove sources from the allow list."),
    "rules": Source("xdpguard.cli.rules", "Show the rules in force and their hits."),
    "promote": Source("xdpguard.cli.promote", "Enforce shadow entries: drop what they have only counted so far."),
    "recover": Source(
        "xdpguard.cli.recover",
        "Rebuild a lost or damaged rule store from what the kernel holds and the last good copy.",
    ),
    "stats": Source(
        "xdpguard.cli.observe", "Show packets and bytes by reason, TCP flags and protocols, for each interface."
    ),
    "syns": Source("xdpguard.cli.observe", "Show who tries to connect: initial SYNs, the most frequent first."),
    "top": Source(
        "xdpguard.cli.top",
        "Watch live: packets by verdict and reason, who sends SYNs, rules, lists, the guard; block and allow by key.",
    ),
    "run": Source(
        "xdpguard.cli.guard",
        "Run as a service: attach recorded and named interfaces, follow them, log floods, ban sources.",
    ),
    "dashboard": Source("xdpguard.cli.dashboard", "Print a Grafana dashboard for the metrics of `run`."),
    "events": Source("xdpguard.cli.events", "Show recently dropped packets, and why each was dropped."),
    "capture": Source(
        "xdpguard.cli.capture",
        "Write headers of dropped packets to a pcapng file, the reason in each packet's comment.",
    ),
    "explain": Source(
        "xdpguard.cli.explain",
        "Show what happens to a packet and what decides it, or all that is known about an address.",
    ),
    "replay": Source(
        "xdpguard.cli.replay",
        "Run a capture through the attached program, or a policy that is not in force; no counter changes.",
    ),
    "bench": Source("xdpguard.cli.bench", "Measure this machine: cost per packet, drop rates, loading times."),
    "guard": Source("xdpguard.cli.guard", "Show the SYN guard, and change its policy."),
    "lists": Source("xdpguard.cli.lists", "Load, show and drop named block lists of up to millions of entries."),
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
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all details of an error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """XDP packet-inspection firewall and SYN-flood guard for Linux hosts."""
    context.obj = Options(find_instance(instance), verbose)


def main() -> None:
    """Run the command line and exit with its code."""
    _open_standard_streams()
    os.umask(0o077)  # rules, captures and pins are for nobody else to read
    sys.exit(run(sys.argv[1:]))


def _open_standard_streams() -> None:
    """Open the standard streams that are closed (>&-), lest a map or a socket get their numbers."""
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
    except Exception as error:  # the user never sees a traceback
        if isinstance(error, OSError):
            _silence()
        from xdpguard.cli.kinds import explained

        told = explained(error)
        render.failure(told, verbose)
        return told.exit_code
    # Typer ends with 1 when the reader of a pipe has closed it (| head). That is not a failure.
    return EXIT_DONE if code == EXIT_FAILED and render.reader_gone(1) else code


def _invoke(arguments: list[str]) -> int:
    try:
        app(args=arguments, prog_name="xdpguard")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else EXIT_DONE
    return EXIT_DONE


def _silence() -> None:
    """Keep Python from retrying failed writes when it exits."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
