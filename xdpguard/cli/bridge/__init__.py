# SPDX-License-Identifier: GPL-2.0
"""bridge bgp, crowdsec, fail2ban, show, forget: what other systems decide becomes entries here."""

from __future__ import annotations

import typer

from xdpguard.cli.catalogue import Source
from xdpguard.cli.commands import LazyGroup

_HELP = "Put in force what other systems decide: services, one for each system, each with an origin of its own."
_TABLE = {
    "bgp": Source(
        "xdpguard.cli.bridge.bgp",
        "Put in force the FlowSpec rules and blackhole routes of BGP.",
    ),
    "crowdsec": Source(
        "xdpguard.cli.bridge.crowdsec", "Block what CrowdSec decides: run as a bouncer of its local API."
    ),
    "fail2ban": Source(
        "xdpguard.cli.bridge.fail2ban", "Print an action file for fail2ban, which then bans in xdpguard."
    ),
    "show": Source("xdpguard.cli.bridge.show", "Show the bridges, what they hold, and what this host refuses."),
    "forget": Source("xdpguard.cli.bridge.show", "Remove all that a bridge has put in force, and its state."),
}

_EXAMPLES = """
\b
Examples:
  xdpguard bridge crowdsec --print-unit
  xdpguard bridge fail2ban
  xdpguard bridge bgp --mode shadow
  xdpguard bridge show
"""


class _Commands(LazyGroup):
    table = _TABLE


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(
        typer.Typer(cls=_Commands, epilog=_EXAMPLES, no_args_is_help=True, rich_markup_mode=None, help=_HELP),
        name="bridge",
    )
