# SPDX-License-Identifier: GPL-2.0
"""The command run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xdpguard.cli.session import Options, controller, find_instance, options, pins, remembered_policy
from xdpguard.errors import UsageError

_RUN_EXAMPLES = """
\b
Examples:
  xdpguard run                               in the foreground, until Ctrl-C or SIGTERM
  xdpguard run --config guard.toml           SIGHUP reloads the file
  xdpguard run --attach eth0 --attach eth1@web
  xdpguard run --print-unit > /etc/systemd/system/xdpguard.service

Without it, the data plane still guards on its own; it adds a log, bans, window scaling under a flood, and
metrics at http://127.0.0.1:9782/metrics.
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_RUN_EXAMPLES)(run)


def run(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="Configuration, TOML; remembered.")
    ] = None,
    attach: Annotated[
        list[str] | None,
        typer.Option(
            "--attach", metavar="IFACE[@NETNS]", help="Attach to this interface, or wait for it; may be repeated."
        ),
    ] = None,
    netns: Annotated[
        str,
        typer.Option(
            "--netns", metavar="NAME", help="Network namespace of interfaces that --attach names without one."
        ),
    ] = "",
    print_unit: Annotated[bool, typer.Option("--print-unit", help="Print a systemd unit for this, and exit.")] = False,
) -> None:
    """Run as a service: attach recorded and named interfaces, follow them, log floods, ban sources.

    SIGTERM ends it."""
    from xdpguard.policy.attach import parse_place

    chosen = options(context)
    if netns and not attach:
        raise UsageError("--netns needs --attach", "add --attach IFACE, or leave out --netns")
    wanted = [parse_place(text, "" if "@" in text else netns) for text in attach or ()]
    if print_unit:
        from xdpguard.cli.unit import text

        typer.echo(text(chosen.instance.name, config, attach or (), netns), nl=False)
        return
    from xdpguard.policy.load import load
    from xdpguard.service import log
    from xdpguard.service.daemon import Daemon

    if config is not None:
        load(config)
    logger = log.begin(chosen.verbose)
    with chosen.instance.service():
        if config is not None:
            with controller(chosen) as session:
                session.remember_config(config)
        Daemon(
            pins(chosen),
            # What it undoes, as what others undo, is logged by the service itself.
            lambda: controller(chosen, on_wait=logger.info, on_undone=lambda text: None),
            # Looked up each time: /etc/xdpguard/INSTANCE.toml may have been created meanwhile.
            lambda session: remembered_policy(session, Options(find_instance(chosen.instance.name), chosen.verbose)),
            chosen.instance.store,
            wanted,
        ).run()
