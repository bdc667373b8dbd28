# SPDX-License-Identifier: GPL-2.0
"""The command dashboard."""

from __future__ import annotations

from typing import Annotated

import typer

_EXAMPLES = """
\b
Examples:
  xdpguard dashboard > xdpguard.json            for Grafana: Dashboards, New, Import
  xdpguard dashboard --alerts > xdpguard.yml    for Prometheus: add the file to rule_files

Both read the metrics that `xdpguard run` serves at http://127.0.0.1:9782/metrics, or where [metrics] listen says.
"""


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=_EXAMPLES)(dashboard)


def dashboard(
    alerts: Annotated[bool, typer.Option("--alerts", help="Print Prometheus alert rules instead.")] = False,
) -> None:
    """Print a Grafana dashboard for the metrics of `run`."""
    from xdpguard.metrics import dashboard as its

    typer.echo(its.alerts() if alerts else its.dashboard(), nl=False)
