# SPDX-License-Identifier: GPL-2.0
"""The commands fleet join, leave, status, mode and publish."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import fleet_setup, render
from xdpguard.cli.session import controller, options, remembered_policy
from xdpguard.errors import UsageError, XdpguardError

if TYPE_CHECKING:
    from xdpguard.fleet.client import Connection

_JOIN_EXAMPLES = """
\b
Examples:
  xdpguard fleet join nats://192.0.2.5
  xdpguard fleet join tls://nats.example.net:4222 --name web1 --credentials /etc/xdpguard/web1.toml --ca ca.pem
  xdpguard fleet join nats://192.0.2.5 --mode shadow     count what the fleet's entries would drop
\b
The server is nats-server with JetStream. `run` follows it: what any host blocks for the fleet is in force on all.
A host keeps what it needs, and its own allow rules, whatever the fleet wants; [fleet] in the configuration sets limits.
"""

fleet_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Share entries with other hosts through a NATS server."
)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    fleet_app.command(epilog=_JOIN_EXAMPLES)(join)
    fleet_app.command()(leave)
    fleet_setup.register(fleet_app)
    app.add_typer(fleet_app, name="fleet")


def join(
    context: typer.Context,
    server: Annotated[list[str], typer.Argument(metavar="URL...", help="nats://HOST[:PORT], or tls:// for TLS.")],
    name: Annotated[
        str, typer.Option("--name", metavar="HOST", help="Publish under this name; default: hostname.")
    ] = "",
    credentials: Annotated[
        Path | None, typer.Option("--credentials", metavar="FILE", help="User and password, or a .creds file.")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="Who signs the server's certificate.")] = None,
    cert: Annotated[Path | None, typer.Option("--cert", metavar="FILE", help="This host's certificate.")] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The certificate's key.")] = None,
    mode: Annotated[str, typer.Option("--mode", metavar="MODE", help="enforce, or shadow: only count.")] = "enforce",
) -> None:
    """Join a fleet: `run` puts its entries in force from now on."""
    from xdpguard.fleet import client, settings
    from xdpguard.policy.fleet import Fleet, FleetTls, fleet_faults, own_name

    if mode not in ("enforce", "shadow"):
        raise UsageError(f"not a mode: {mode!r}", "write enforce or shadow")
    tls = FleetTls(*(str(it.absolute()) if it else "" for it in (ca, cert, key)))
    file = str(credentials.absolute()) if credentials else ""
    its = Fleet(tuple(server), name or own_name(), file, tls, "shadow" if mode == "shadow" else "enforce")
    for _, fault in fleet_faults(its):
        raise fault

    async def look(connection: Connection) -> None:
        await connection.make()

    client.run(its, look)
    with controller(options(context)) as session:
        settings.record(session.store, its)
        wins = remembered_policy(session, options(context)).fleet.server
    render.say(f"joined the fleet of {', '.join(server)} as {its.name}")
    if wins:
        render.note("the configuration file has a [fleet] server, which wins over this")
    render.note("xdpguard run follows it; entries are for the fleet with: xdpguard block TARGET --fleet")


def leave(context: typer.Context) -> None:
    """Leave the fleet: remove what it wanted here. What this host published stays, until it is removed there."""
    from xdpguard.control.foreign import Foreign
    from xdpguard.fleet import settings
    from xdpguard.policy.rule import FLEET

    with controller(options(context)) as session:
        if remembered_policy(session, options(context)).fleet.server:
            raise XdpguardError(
                "the configuration file has a [fleet] server", "remove it there, and then: xdpguard fleet leave"
            )
        if settings.joined(session.store) is None:
            raise XdpguardError("this host belongs to no fleet", "nothing was changed")
        answer = Foreign(session.ruleset, FLEET).replace([])
        settings.record(session.store, None)
    done = "removed what it wanted here" if answer.changed else "nothing of it was in force here"
    render.say(f"left the fleet; {done}")
