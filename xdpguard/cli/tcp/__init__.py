# SPDX-License-Identifier: GPL-2.0
"""tcp states, trace, rtt, retrans, cwnd: what this host's TCP makes of the packets."""

from __future__ import annotations

import typer

from xdpguard.cli.tcp import cwnd, retrans, rtt, states, trace

_HELP = "TCP on this host: states, transitions, round-trip times, retransmissions, congestion windows."


def register(app: typer.Typer) -> None:
    """Adds these commands to the application."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=_HELP)
    states.register(group)
    trace.register(group)
    rtt.register(group)
    retrans.register(group)
    cwnd.register(group)
    app.add_typer(group, name="tcp")
