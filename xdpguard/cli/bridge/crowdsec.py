# SPDX-License-Identifier: GPL-2.0
"""The command bridge crowdsec."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from xdpguard.cli.session import Options, controller, options, remembered_policy, ruleset
from xdpguard.errors import UsageError
from xdpguard.policy.foreign import ForeignLimits
from xdpguard.policy.rule import CROWDSEC

_LEAST, _MOST = 1.0, 3600.0  # seconds

_EXAMPLES = """
\b
Examples:
  cscli bouncers add xdpguard -o raw > /etc/xdpguard/crowdsec.key     the key, once
  xdpguard bridge crowdsec --mode shadow                              only count what it would drop
  xdpguard bridge crowdsec --url https://lapi.example:8080 --ca lapi.pem --every 30s
  xdpguard bridge crowdsec --push /etc/xdpguard/crowdsec.yaml         cscli machines add xdpguard --auto -f FILE
  xdpguard bridge crowdsec --print-unit > /etc/systemd/system/xdpguard-crowdsec.service

Runs until Ctrl-C or SIGTERM; what is blocked then stays blocked until its end, and `bridge forget crowdsec` removes
it. Each host needs a key of its own: the server remembers what it has told each. Bans of addresses and ranges are put
in force; captcha and other decisions, and bans by country or AS, are left to others and counted. What is allowed here,
what this host needs, and prefixes shorter than /16 or /32 are refused; [bridges.crowdsec] in the configuration has the
limits. `xdpguard bridge show` and `status` say what it holds.
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(crowdsec)


def crowdsec(
    context: typer.Context,
    url: Annotated[str, typer.Option("--url", metavar="URL", help="CrowdSec's local API.")] = "http://127.0.0.1:8080",
    key_file: Annotated[Path, typer.Option("--key-file", metavar="FILE", help="The key of a bouncer.")] = Path(
        "/etc/xdpguard/crowdsec.key"
    ),
    every: Annotated[str, typer.Option("--every", metavar="TIME", help="How often to ask for decisions.")] = "10s",
    mode: Annotated[
        str,
        typer.Option("--mode", metavar="MODE", help="enforce, or shadow: only count. Default: the configuration's."),
    ] = "",
    push: Annotated[
        Path | None,
        typer.Option(
            "--push", metavar="FILE", help="Send the SYN guard's bans as alerts, with a machine's credentials."
        ),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="Certificate authorities to trust, PEM.")
    ] = None,
    print_unit: Annotated[bool, typer.Option("--print-unit", help="Print a systemd unit for this, and exit.")] = False,
) -> None:
    """Block what CrowdSec decides: run as a bouncer of its local API."""
    from xdpguard.bridges.crowdsec.client import Client, parse_server, read_key
    from xdpguard.policy.duration import parse_interval

    chosen = options(context)
    client = Client(parse_server(url), ca)
    if not _LEAST <= (seconds := parse_interval(every)) <= _MOST:
        raise UsageError("--every is too short or too long", "give 1s to 1h")
    if mode not in ("", "enforce", "shadow"):
        raise UsageError(f"no such mode: {mode!r}", "give --mode enforce or --mode shadow")
    if ca and not client.server.secure:
        raise UsageError(
            "--ca is for https", f"write https://{client.server.host}:{client.server.port}, or leave it out"
        )
    if print_unit:
        from xdpguard.cli import unit

        files = {"--key-file": key_file, "--push": push, "--ca": ca}
        words = ["--url", url, "--every", every, *(("--mode", mode) if mode else ())]
        words += [word for name, path in files.items() if path for word in (name, str(path.absolute()))]
        typer.echo(unit.bridge_text(chosen.instance.name, CROWDSEC, words), nl=False)
        return
    read_key(key_file)
    if push:
        from xdpguard.bridges.crowdsec.alerts import read_login

        read_login(push)
    _run(chosen, client, key_file, seconds, cast(Literal["", "enforce", "shadow"], mode), push)


def _run(
    chosen: Options, client: object, key: Path, every: float, mode: Literal["", "enforce", "shadow"], push: Path | None
) -> None:
    from xdpguard.bridges.crowdsec.alerts import Alerts
    from xdpguard.bridges.crowdsec.bouncer import Bouncer
    from xdpguard.bridges.crowdsec.client import Client
    from xdpguard.bridges.crowdsec.decisions import Decisions
    from xdpguard.bridges.state import Account, alone
    from xdpguard.service import log
    from xdpguard.store.bridges import Bridge, bridges

    assert isinstance(client, Client)
    logger = log.begin(chosen.verbose)
    with alone(chosen.instance, CROWDSEC):
        with controller(chosen) as session:
            limits = remembered_policy(session, chosen).bridges.get(CROWDSEC, ForeignLimits())
            before = next((it for it in bridges(session.store) if it.name == CROWDSEC), None)
        its_mode = mode or limits.mode
        scenario = f"xdpguard/guard/{socket.gethostname()}/{chosen.instance.name}"
        account = Account(Bridge(name=CROWDSEC, peer=str(client.server), mode=its_mode))
        account.state.sent_until = before.sent_until if before else 0.0
        Bouncer(
            client,
            key,
            lambda: ruleset(chosen, on_wait=logger.info, on_undone=lambda text: None),
            account,
            ForeignLimits(**{it: getattr(limits, it) for it in limits.__struct_fields__} | {"mode": its_mode}),
            every,
            Decisions(scenario),
            Alerts(Client(client.server, client.ca), push, chosen.instance.store, scenario) if push else None,
        ).run()
