# SPDX-License-Identifier: GPL-2.0
"""The commands attach and detach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xdpguard.cli import places, render, undoing
from xdpguard.cli.session import controller, options, remembered_policy
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.net.netns import place_of

if TYPE_CHECKING:
    from xdpguard.control.attach import Outcome

_ATTACH_EXAMPLES = """
\b
Examples:
  xdpguard attach eth0                      native mode, or generic if the driver lacks it
  xdpguard attach eth0 --observe            count what would be dropped, drop nothing
  xdpguard attach eth0 --netns web          an interface in another network namespace
  xdpguard attach eth0 --netns 'pid 1234'   in the namespace of a process, such as a container's
  xdpguard attach eth0 --mtu-any            let the MTU be raised later
  xdpguard attach eth0 --config guard.toml  with limits, checks and rules from a file
  xdpguard attach eth0 --confirm 60s        undone in a minute, unless xdpguard confirm follows

Attaching again swaps the program atomically: no packet passes unfiltered, rules and counters are kept.
A driver may refuse a larger MTU while the program is attached: detach, raise it, attach again; or use --mtu-any.
"""

_DETACH_EXAMPLES = """
\b
Examples:
  xdpguard detach eth0
  xdpguard detach --all      every interface of this instance

Rules and their hit counts stay in the store for the next attach.
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_ATTACH_EXAMPLES)(attach)
    app.command(epilog=_DETACH_EXAMPLES)(detach)


def attach(
    context: typer.Context,
    interface: Annotated[str, typer.Argument(metavar="IFACE", help="The interface whose incoming packets to inspect.")],
    netns: places.OneNetns = "",
    mode: Annotated[
        Literal["auto", "native", "generic"],
        typer.Option(
            "--mode", help="native: in the driver; generic: later and slower, on any driver; auto: native if it works."
        ),
    ] = "auto",
    observe: Annotated[bool, typer.Option("--observe", help="Count what would be dropped; drop nothing.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace another XDP program.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Configuration file, TOML; remembered.")
    ] = None,
    no_config: Annotated[bool, typer.Option("--no-config", help="Forget the configuration; use the defaults.")] = False,
    mtu_any: Annotated[
        bool, typer.Option("--mtu-any", help="Accept frames of any size, so that the MTU can be raised while attached.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Attach even if a rule blocks an address this host needs.")
    ] = False,
    confirm: undoing.Confirm = "",
) -> None:
    """Attach the program to an interface, or swap the one attached."""
    from xdpguard.cli.loaded import list_notes
    from xdpguard.control.planning import Request
    from xdpguard.policy.load import load
    from xdpguard.policy.model import Policy

    chosen = options(context)
    if config is not None and no_config:
        raise UsageError("--config and --no-config cannot be combined", "give one of them")
    policy = load(config) if config else Policy()
    with controller(chosen, command=undoing.of_command(context, confirm)) as session:
        if config is None and not no_config:
            policy = remembered_policy(session, chosen)
        place = session.place(interface, netns, anew=True)
        wanted = Request(
            *place, mode, observe=observe, replace=replace, force=force, tried=bool(confirm), any_mtu=mtu_any
        )
        outcome = session.attach(wanted, policy)
        if no_config or (config is not None and config.is_file()):
            session.remember_config(config)
    for text in [*(text for done in outcome.lists for text in list_notes(done)), *outcome.moved, *outcome.notes]:
        render.note(text)
    done = outcome.interface
    words = f"{', observing only' if done.observe else ''}{', any MTU' if done.any_mtu else ''}"
    render.say(f"attached to {place_of(done.name, done.netns)} in {done.mode} mode{words} (program {done.prog_id})")


def detach(
    context: typer.Context,
    interface: Annotated[str, typer.Argument(metavar="[IFACE]", help="The interface.", show_default=False)] = "",
    netns: places.OneNetns = "",
    everything: Annotated[bool, typer.Option("--all", help="Every interface of this instance.")] = False,
) -> None:
    """Detach the program from an interface. Programs of others are never touched."""
    if bool(interface) == everything:
        words = "an interface and --all cannot be combined" if everything else "give an interface, or --all"
        raise UsageError(words, "xdpguard status shows what is attached")
    if everything and netns:
        raise UsageError("--all means every namespace", "leave out --netns, or name one interface in it")
    errors: list[XdpguardError] = []
    with controller(options(context), command=undoing.of_command(context, always=True)) as session:
        if everything:
            outcomes, errors = session.detach_all()
        else:
            outcomes = [session.detach(*session.place(interface, netns))]
    for outcome in outcomes:
        _report(outcome)
    # What is wrong with the environment is wrong for each interface.
    for error in {str(it): it for it in errors}.values():
        render.failure(error, options(context).verbose)
    if errors:
        raise typer.Exit(max(it.exit_code for it in errors))
    if not outcomes:
        render.say("nothing is attached")


def _report(outcome: Outcome) -> None:
    for text in [*outcome.moved, *outcome.notes]:
        render.note(text)
    if not outcome.notes:
        render.say(f"detached from {place_of(outcome.interface.name, outcome.interface.netns)}")
    for change in outcome.restored:
        render.say(f"put back {change}")
