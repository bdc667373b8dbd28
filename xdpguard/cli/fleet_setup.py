# SPDX-License-Identifier: GPL-2.0
"""The commands fleet setup and fleet init."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import render
from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from xdpguard.fleet.client import Connection
    from xdpguard.fleet.setup import Plan

_SETUP_EXAMPLES = """
\b
Examples:
  xdpguard fleet setup fleet --listen 192.0.2.5:4222 --tls --host web1 --host web2
  nats-server -c fleet/nats-server.conf
  xdpguard fleet init tls://192.0.2.5:4222 --credentials fleet/operator.toml --ca fleet/ca.pem
  xdpguard fleet setup fleet --host web3         a host more; then: nats-server --signal reload
  xdpguard fleet setup fleet --listen 192.0.2.5:4222 --listen 192.0.2.6:4222 --listen 192.0.2.7:4222\
  a cluster of three, which survives the loss of one

A host publishes under its own name only and reads everything; the operator may do all. Nobody else gets in. The files
hold passwords: they can be read by their owner only, who is to be the user of nats-server. Copy hosts/NAME.toml, and
ca.pem, to that host. Who is to lose access: remove its file, run setup again, and reload the servers.
"""

_INIT_EXAMPLES = """
\b
Examples:
  xdpguard fleet init tls://192.0.2.5:4222 --credentials fleet/operator.toml --ca fleet/ca.pem
  xdpguard fleet init nats://192.0.2.5:4222 --credentials fleet/operator.toml --replicas 3     on a cluster of three

What is there already stays as it is.
"""


def add_to(fleet_app: typer.Typer) -> None:
    """Add these commands to those of the fleet."""
    fleet_app.command(epilog=_SETUP_EXAMPLES)(setup)
    fleet_app.command("init", epilog=_INIT_EXAMPLES)(initialize)


def setup(
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where to write the files.")],
    hosts: Annotated[
        list[str] | None, typer.Option("--host", metavar="NAME", help="A host to make credentials for; repeatable.")
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen", metavar="ADDR:PORT", help="Where the server listens; repeat for a cluster. [0.0.0.0:4222]"
        ),
    ] = None,
    addresses: Annotated[
        list[str] | None,
        typer.Option("--address", metavar="NAME", help="Name or address by which hosts reach it, for its certificate."),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt; makes a certificate authority by openssl.")] = False,
    data: Annotated[
        Path | None, typer.Option("--data", metavar="DIRECTORY", help="Where the server stores. [DIRECTORY/data]")
    ] = None,
) -> None:
    """Write a server's configuration and the hosts' credentials.

    Nobody else gets in, and a host publishes under its own name only. Later it adds hosts to what is there.
    """
    from xdpguard.fleet import setup as work

    directory = directory.absolute()
    plan = _plan(directory, listen or [], addresses or [], tls, data)
    if work.exists(directory):
        if plan:
            raise UsageError(
                f"{directory} is set up already: only --host can be given now",
                "to change the servers, edit their files; or set up another directory",
            )
    else:
        plan = plan or _default(directory)
        work.begin(directory, plan)
    made = work.add(directory, hosts or [])
    for path in made:
        render.say(f"wrote {path}")
    render.say(f"wrote {directory / work.USERS}: all users and their permissions")
    _tell(directory, plan)


def _plan(directory: Path, listen: list[str], addresses: list[str], tls: bool, data: Path | None) -> Plan | None:
    from xdpguard.fleet.setup import Plan, parse_listen

    if not (listen or addresses or tls or data):
        return None
    default = _default(directory)
    found = [parse_listen(it) for it in listen] or default.listen
    if len(found) == 2:
        raise UsageError("two servers cannot outvote each other", "give one --listen, or three")
    names = addresses or ([socket.gethostname()] if any(it.anywhere for it in found) else [])
    return Plan(found, names, tls, data.absolute() if data else default.data)


def _default(directory: Path) -> Plan:
    from xdpguard.fleet.setup import Listen, Plan

    return Plan([Listen("0.0.0.0", 4222)], [socket.gethostname()], False, directory / "data")


def _tell(directory: Path, plan: Plan | None) -> None:
    from xdpguard.fleet import certificates, setup

    servers = setup.configurations(directory)
    if plan is None:
        render.note("running servers know it after: nats-server --signal reload=PID, or systemctl reload nats-server")
        return
    for path in servers:
        render.say(f"wrote {path}")
    ca = directory / certificates.CA if plan.tls else None
    urls = [f"{'tls' if plan.tls else 'nats'}://{it}" for it in plan.listen]
    if plan.listen[0].anywhere:
        urls = [f"{'tls' if plan.tls else 'nats'}://{it}:{plan.listen[0].port}" for it in plan.addresses]
    if not plan.tls:
        render.note("without --tls passwords and entries travel in clear: for a network of your own only")
    render.note(f"start: nats-server -c {servers[0]}" + (" (each on its own machine)" if len(servers) > 1 else ""))
    replicas = f" --replicas {min(3, len(servers))}" if len(servers) > 1 else ""
    more = f" --ca {ca}" if ca else ""
    render.note(f"once: xdpguard fleet init {urls[0]} --credentials {directory / 'operator.toml'}{more}{replicas}")
    render.note(f"on each host: {setup.joins(urls, 'NAME', Path('NAME.toml'), Path('ca.pem') if ca else None)}")


def initialize(
    server: Annotated[list[str], typer.Argument(metavar="URL...", help="nats://HOST[:PORT], or tls:// for TLS.")],
    credentials: Annotated[
        Path | None, typer.Option("--credentials", metavar="FILE", help="The operator's: operator.toml of setup.")
    ] = None,
    ca: Annotated[Path | None, typer.Option("--ca", metavar="FILE", help="Who signs the server's certificate.")] = None,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, max=5, metavar="N", help="On how many servers entries are stored.")
    ] = 1,
) -> None:
    """Make the buckets of a new fleet on its server."""
    from xdpguard.fleet import client
    from xdpguard.fleet.keys import OPERATOR
    from xdpguard.policy.fleet import Fleet, FleetTls, fleet_faults

    file, tls = str(credentials.absolute()) if credentials else "", FleetTls(str(ca.absolute()) if ca else "")
    its = Fleet(tuple(server), OPERATOR, file, tls)
    for _, fault in fleet_faults(its):
        raise fault

    async def work(connection: Connection) -> None:
        await connection.make(replicas)

    client.run(its, work)
    render.say("the fleet's buckets are there")
