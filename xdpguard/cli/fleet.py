# SPDX-License-Identifier: GPL-2.0
"""The commands fleet join, leave, status, top and mode."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import fleet_publish, fleet_setup, output, render
from xdpguard.cli.answers.fleet import FleetStatus
from xdpguard.cli.columns import Column, Row, ago, number
from xdpguard.cli.session import controller, options, remembered_policy
from xdpguard.errors import UsageError, XdpguardError

if TYPE_CHECKING:
    from xdpguard.cli.answers.fleet import HostAnswer
    from xdpguard.fleet.client import Connection

_JOIN_EXAMPLES = """
\b
Examples:
  xdpguard fleet join nats://192.0.2.5
  xdpguard fleet join tls://nats.example.net:4222 --name web1 --credentials /etc/xdpguard/web1.toml --ca ca.pem
  xdpguard fleet join nats://192.0.2.5 --mode shadow     count what the fleet's entries would drop

The server is nats-server with JetStream. `run` follows it: what any host blocks for the fleet is in force on all.
A host keeps what it needs, and its own allow rules, whatever the fleet wants; [fleet] in the configuration sets limits.
"""

_HOST_COLUMNS = [
    Column("host"),
    Column("version", 3),
    Column("seen"),
    Column("mode", 1),
    Column("wanted", right=True),
    Column("held", right=True),
    Column("refused", 2, right=True),
    Column("bans", right=True),
    Column("floods", clip="end", colour="red"),
    Column("digest", 4),
]
_TOP_COLUMNS = [
    Column("source"),
    Column("hosts", right=True),
    Column("guards", right=True),
    Column("first of them", 1, clip="end"),
    Column("reason", clip="end"),
]

fleet_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Share entries with other hosts through a NATS server.",
    epilog="What it does, its server, and fleets of thousands of hosts: xdpguard help fleet",
)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    fleet_app.command(epilog=_JOIN_EXAMPLES)(join)
    more = {status: " --json", top: " --count 50", mode: " shadow"}
    for command in (leave, status, top, mode, fleet_publish.publish):
        example = f"xdpguard fleet {command.__name__}{more.get(command, '')}"
        fleet_app.command(epilog=f"\b\nExamples:\n  {example}")(command)
    fleet_setup.add_to(fleet_app)
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
    from xdpguard.control.foreign_lists import ForeignLists
    from xdpguard.fleet import settings
    from xdpguard.policy.foreign import ForeignLimits
    from xdpguard.policy.rule import FLEET

    with controller(options(context)) as session:
        if remembered_policy(session, options(context)).fleet.server:
            raise XdpguardError(
                "the configuration file has a [fleet] server", "remove it there, and then: xdpguard fleet leave"
            )
        answer = Foreign(session.ruleset, FLEET).replace([])
        lists = ForeignLists(session, FLEET, ForeignLimits())
        gone = [*lists.held(), *lists.misplaced()]
        lists.drop(list(lists.held()))
        lists.drop_misplaced(lists.misplaced())
        if settings.joined(session.store) is None and not (answer.changed or gone):
            raise XdpguardError("this host belongs to no fleet", "nothing was changed")
        settings.record(session.store, None)
    done = "removed what it wanted here" if answer.changed or gone else "nothing of it was in force here"
    render.say(f"left the fleet; {done}")


def status(context: typer.Context, as_json: output.Json = False, _output: output.Output = "") -> None:
    """Show how all hosts stand, and whether they know the same."""
    from xdpguard.fleet import client, hosts, settings
    from xdpguard.fleet.failures import Unreachable
    from xdpguard.fleet.keys import HOSTS, OPERATOR
    from xdpguard.fleet.state import Message
    from xdpguard.store.fleet import outbox

    with controller(options(context), read_only=True) as session:
        its = settings.expect(session.store, remembered_policy(session, options(context)).fleet)
        here, waiting = hosts.recorded(session.store) or hosts.Standing(), len(outbox(session.store))

    async def look(connection: Connection) -> tuple[list[Message], list[Message], float]:
        found = await connection.read(HOSTS), await connection.read(keys=f"{OPERATOR}.list.*")
        return *found, connection.clock or 0.0

    failed = ""
    states: list[Message] = []
    lists: list[Message] = []
    ahead = 0.0
    try:
        states, lists, ahead = client.run(its, look)
    except Unreachable as error:
        failed = str(error)
    answer = FleetStatus.of(its, here, waiting, states, lists, failed, ahead)
    if as_json:
        render.print_json(answer)
        return
    for line in answer.lines():
        render.say(line)
    if answer.hosts:
        now = time.time()
        render.print_table(_HOST_COLUMNS, [_row(name, it, now) for name, it in answer.hosts.items()])
    if failed:
        render.note(f"{failed}; the other hosts are not shown")


def top(
    context: typer.Context,
    count: Annotated[int, typer.Option("--count", min=1, max=1000, help="How many to show.")] = 20,
    as_json: output.Json = False,
    _output: output.Output = "",
) -> None:
    """Rank sources by how many hosts block them for the fleet."""
    from xdpguard.cli.answers.fleet import ranked
    from xdpguard.fleet import client, settings

    with controller(options(context), read_only=True) as session:
        its = settings.expect(session.store, remembered_policy(session, options(context)).fleet)
    found = ranked(client.run(its, lambda connection: connection.read(keys="*.block.>")))[:count]
    if as_json:
        render.print_json(found)
        return
    if not found:
        render.say("the fleet blocks nothing")
        return
    rows: list[Row] = [
        [it.target, number(len(it.hosts)), number(it.guards), ", ".join(it.hosts[:5]), it.reason] for it in found
    ]
    render.print_table(_TOP_COLUMNS, rows)


def _row(name: str, its: HostAnswer, now: float) -> Row:
    seen = ago(now - its.age, now)
    if its.silent:
        seen = seen._replace(text=f"{seen.text}, silent", colour="yellow")
    counts = map(number, (its.wanted, its.held, its.refused, its.bans))
    return [name, its.version, seen, its.mode, *counts, ", ".join(its.floods), its.digest]


def mode(
    context: typer.Context, wanted: Annotated[str, typer.Argument(metavar="enforce|shadow", help="What it does here.")]
) -> None:
    """Enforce the fleet's entries on this host, or only count."""
    import msgspec

    from xdpguard.fleet import settings

    if wanted not in ("enforce", "shadow"):
        raise UsageError(f"not a mode: {wanted!r}", "write enforce or shadow")
    with controller(options(context)) as session:
        if remembered_policy(session, options(context)).fleet.mode is not None:
            raise XdpguardError("the configuration file gives [fleet] mode", "change it there, and reload: SIGHUP")
        its = settings.joined(session.store)
        if its is None:
            raise XdpguardError("this host has not joined a fleet", "give [fleet] mode in the configuration file")
        settings.record(session.store, msgspec.structs.replace(its, mode=wanted))
    done = "are enforced" if wanted == "enforce" else "only count what they would drop"
    render.say(f"the fleet's entries {done} on this host as soon as xdpguard run sees it, within a second")
