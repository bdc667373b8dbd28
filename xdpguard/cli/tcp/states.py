# SPDX-License-Identifier: GPL-2.0
"""tcp states: sockets by state, by listener, by remote prefix; now, or kept current."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import output
from xdpguard.cli.places import OneNetns
from xdpguard.cli.tcp import loop, options
from xdpguard.cli.tcp.states_shown import By, Part, View
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.instance import require_privileges

if TYPE_CHECKING:
    from xdpguard.net.netns import Place
    from xdpguard.tcp.snapshot import Snapshot

_SHORTEST, _LONGEST = 0.1, 86_400

_EXAMPLES = """
\b
Examples:
  xdpguard tcp states                        sockets by state, and what is abnormal
  xdpguard tcp states --watch 1              kept current, with changes per second; Ctrl-C ends it
  xdpguard tcp states --by listener          accept queues and SYN backlogs with their limits
  xdpguard tcp states --by remote --prefix4 24 --prefix6 48 --top 10
  xdpguard tcp states --json | jq '.namespaces[].states'
"""


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    group.command(epilog=_EXAMPLES)(states)


def states(
    netns: OneNetns = "",
    by: Annotated[By, typer.Option("--by", help="What to group by.")] = "state",
    prefix4: options.Prefix4 = 32,
    prefix6: options.Prefix6 = 128,
    top: Annotated[
        int, typer.Option("--top", metavar="N", min=0, help="How many listeners or remotes; 0 for all.")
    ] = 20,
    watch: Annotated[
        float,
        typer.Option(
            "--watch",
            metavar="SECONDS",
            show_default="once",
            help="Repeat every 0.1 to 86400 seconds, with changes per second.",
        ),
    ] = 0.0,
    length: options.Length = None,
    as_json: Annotated[bool, output.json_option("Print JSON; with --watch, a line each time.")] = False,
    _output: output.Output = "",
) -> None:
    """Show how many TCP sockets are in each state, the queues of the listeners, and what is abnormal."""
    if watch and not _SHORTEST <= watch <= _LONGEST:
        raise UsageError("--watch is too short or too long", f"give {_SHORTEST} to {_LONGEST} seconds")
    until = options.seconds(length)
    if until and not watch:
        raise UsageError("--for needs --watch", "add --watch 1, or leave out --for")
    if (prefix4, prefix6) != (32, 128) and by != "remote":
        raise UsageError("--prefix4 and --prefix6 need --by remote", "add it, or leave the prefixes out")
    require_privileges()
    view = View(by, prefix4, prefix6, top, as_json)
    if watch:
        _watch(netns, view, watch, until)
        return
    view.show([Part(it.place, it) for it in _taken(netns)], 0.0)


def _places(netns: str) -> list[Place]:
    from xdpguard.net import netns as namespaces

    return [namespaces.find(netns)] if netns else namespaces.all_places()


def _taken(netns: str) -> list[Snapshot]:
    from xdpguard.tcp import snapshot

    found = []
    for place in _places(netns):
        try:
            found.append(snapshot.take(place))
        except (XdpguardError, OSError):
            if netns or not place.name:
                raise
            # Skip a namespace that no longer exists.
    return found


def _watch(netns: str, view: View, pause: float, until: float | None) -> None:
    from xdpguard.tcp.changes import Changes
    from xdpguard.tcp.filters import Filter
    from xdpguard.tcp.live import Live

    inode = _places(netns)[0].inode if netns else 0
    with Changes(Filter(netns=inode)) as changes:
        live = Live(changes, lambda: _places(netns))
        live.read()
        before = time.monotonic()
        for last in loop.rounds("watching TCP states", pause, until):
            if last:
                break
            now, moment, begun = live.read(), time.monotonic(), time.thread_time()
            parts = [Part(it.place, it.taken, it.states, it.changes, it.listening) for it in now]
            if view.show(parts, moment - before):
                live.spent(time.thread_time() - begun)
            before = moment
