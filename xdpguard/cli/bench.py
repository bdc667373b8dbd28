# SPDX-License-Identifier: GPL-2.0
"""The command bench."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from xdpguard.cli import output, render
from xdpguard.cli.columns import Column
from xdpguard.errors import UsageError
from xdpguard.instance import require_privileges

_EXAMPLES = """
\b
Examples:
  xdpguard bench                          everything, in a few minutes
  xdpguard bench --quick                  a first impression, in seconds
  xdpguard bench --only costs --entries 0 --entries 5000000
  xdpguard bench --markdown > figures.md  tables that name the machine

The bench uses network namespaces and an instance of its own, and does not touch anything attached. Other load on
the machine affects the figures. xdp-filter, nftables, ipset and iptables, if installed, are measured on the same
packets.
"""
_MOST = 50_000_000


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(epilog=_EXAMPLES)(bench)


def bench(
    entries: Annotated[
        list[int] | None,
        typer.Option("--entries", metavar="N", min=0, max=_MOST, help="Number of list entries; may be repeated."),
    ] = None,
    only: Annotated[
        str,
        typer.Option(
            "--only", metavar="PARTS", help="Only these of costs, rates, loading and filters, comma-separated."
        ),
    ] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer rounds, fewer entries.")] = False,
    as_json: output.Json = False,
    _output: output.Output = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables in Markdown.")] = False,
) -> None:
    """Measure this machine: cost per packet, drop rates, loading times."""
    from xdpguard.bench import report
    from xdpguard.bench.run import ENTRIES, PARTS, QUICK_ENTRIES, run

    if as_json and markdown:
        raise UsageError("--json and --markdown cannot be combined", "give one of them")
    wanted = only.split(",") if only else list(PARTS)
    if not set(wanted) <= set(PARTS):
        raise UsageError(f"--only has an unknown part: {only}", f"give some of {', '.join(PARTS)}")
    require_privileges()
    chosen = entries or (QUICK_ENTRIES if quick else ENTRIES)
    results = run(chosen, [part for part in PARTS if part in wanted], quick, _progress)
    if as_json:
        render.print_json(results.report())
        return
    if markdown:
        typer.echo(report.markdown(results), nl=False)
        return
    render.say(report.named(results))
    for grid in report.grids(results):
        render.say(f"\n{grid.title}")
        render.print_table([Column(grid.columns[0]), *(Column(it, right=True) for it in grid.columns[1:])], grid.rows)
    for text in report.notes(results):
        render.note(text)


def _progress(text: str) -> None:
    typer.echo(f"xdpguard: {text}", err=True)
    sys.stderr.flush()
