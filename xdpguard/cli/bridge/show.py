# SPDX-License-Identifier: GPL-2.0
"""The commands bridge show and bridge forget."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import render
from xdpguard.cli.session import options, ruleset
from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdpguard.store.bridges import Bridge

_FORGET_EXAMPLES = """
\b
Examples:
  xdpguard bridge forget crowdsec        stop the bridge first
"""

_SHOW_EXAMPLES = """
\b
Examples:
  xdpguard bridge show
  xdpguard bridge show --json
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_SHOW_EXAMPLES)(show)
    app.command(epilog=_FORGET_EXAMPLES)(forget)


def show(context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the bridges, what they hold, and what this host refuses."""
    from xdpguard.cli.answers.bridges import Shown
    from xdpguard.store.bridges import bridges

    with ruleset(options(context), read_only=True) as session:
        found = bridges(session.store)
    now = time.time()
    if as_json:
        render.print_json([Shown.of(it, now) for it in found])
        return
    if not found:
        render.say("no bridge has run here; start one with: xdpguard bridge crowdsec")
        return
    for its in found:
        for line in _lines(its, now):
            render.say(line)


def _lines(its: Bridge, now: float) -> Iterator[str]:
    """Describe a bridge and what it holds."""
    yield its.summary(now)
    if fault := its.wrong(now):
        yield f"  {fault}"
    if its.refused:
        yield f"  {its.refused:,} refused by this host: {'; '.join(its.refusals)}"
    if its.left_alone:
        named = ", ".join(f"{count:,} {kind}" for kind, count in its.left_alone.items())
        yield f"  decisions that are not for a firewall: {named}"
    if its.sent:
        yield f"  sent to {its.peer}: {its.sent:,}"


def forget(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the bridge: crowdsec, bgp.", show_default=False)],
) -> None:
    """Remove all that a bridge has put in force, and its state."""
    from xdpguard.bridges.state import alone
    from xdpguard.control.foreign import Foreign
    from xdpguard.policy.foreign import ForeignLimits, check_origin
    from xdpguard.store.bridges import bridges, forget_bridge

    check_origin(name)
    chosen = options(context)
    with alone(chosen.instance, name), ruleset(chosen) as session:
        its = next((it for it in bridges(session.store) if it.name == name), None)
        if its is None:
            raise UsageError(f"no bridge {name!r} has run here", "xdpguard bridge show names those that have")
        Foreign(session, name, ForeignLimits(mode=its.mode), needed=()).replace([])
        forget_bridge(session.store, name)
    render.say(f"forgot the bridge {name}; what only it had blocked passes again")
