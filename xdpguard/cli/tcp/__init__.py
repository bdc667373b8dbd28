# SPDX-License-Identifier: GPL-2.0
"""tcp states, trace, rtt, retrans, cwnd: what this host's TCP does with the packets."""

from __future__ import annotations

import typer

from xdpguard.cli.catalogue import Source
from xdpguard.cli.commands import LazyGroup

_HELP = "TCP on this host: states, transitions, round-trip times, retransmissions, congestion windows."
_TABLE = {
    "states": Source(
        "xdpguard.cli.tcp.states",
        "Show how many TCP sockets are in each state, the queues of the listeners, and what is abnormal.",
    ),
    "trace": Source(
        "xdpguard.cli.tcp.trace",
        "Show every state transition of TCP sockets: the process, and how long the old state lasted.",
    ),
    "rtt": Source(
        "xdpguard.cli.tcp.rtt", "Show smoothed round-trip times as histograms, with percentiles and average."
    ),
    "retrans": Source(
        "xdpguard.cli.tcp.retrans", "Show retransmitted segments: which, why, and what share of those sent."
    ),
    "cwnd": Source(
        "xdpguard.cli.tcp.cwnd",
        "Show congestion window, slow-start threshold, round-trip time and windows of connections over time.",
    ),
}

_EXAMPLES = """
\b
Examples:
  xdpguard tcp states --by listener    accept queues and SYN backlogs
  xdpguard tcp trace --remote 198.51.100.0/24 --for 10s
  xdpguard tcp rtt --by remote
  xdpguard tcp retrans --count
"""


class _Commands(LazyGroup):
    table = _TABLE


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.add_typer(
        typer.Typer(cls=_Commands, epilog=_EXAMPLES, no_args_is_help=True, rich_markup_mode=None, help=_HELP),
        name="tcp",
    )
