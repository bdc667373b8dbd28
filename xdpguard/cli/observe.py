# SPDX-License-Identifier: GPL-2.0
"""The commands stats, syns."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xdpguard import units
from xdpguard.cli import render
from xdpguard.cli.places import key
from xdpguard.cli.redraw import Redraw
from xdpguard.cli.session import Options, options, pins
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.instance import require_privileges

if TYPE_CHECKING:
    from xdpguard.control.presence import Presence
    from xdpguard.telemetry.counters import Counters

_Json = Annotated[bool, typer.Option("--json", help="Print JSON; with --watch, a line each time.")]
_SHORTEST_WATCH, _LONGEST_WATCH = 0.1, 86_400

_STATS_EXAMPLES = """
\b
Examples:
  xdpguard stats
  xdpguard stats --watch 1           redrawn every second, with rates; Ctrl-C ends it
  xdpguard stats --json | jq '.interfaces.eth0.reasons.deny.packets'
"""
_SYNS_EXAMPLES = """
\b
Examples:
  xdpguard syns                      connection attempts by source, destination and ports
  xdpguard syns --by source --top 10
  xdpguard syns --by port            which services are tried
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_STATS_EXAMPLES)(stats)
    app.command(epilog=_SYNS_EXAMPLES)(syns)


def stats(
    context: typer.Context,
    watch: Annotated[
        float,
        typer.Option(
            "--watch",
            metavar="SECONDS",
            show_default="once",
            help="Repeat every 0.1 to 86400 s, with rates; in place on a terminal.",
        ),
    ] = 0.0,
    as_json: _Json = False,
) -> None:
    """Show packets and bytes by reason, TCP flags and protocols, for each interface."""
    if watch and not _SHORTEST_WATCH <= watch <= _LONGEST_WATCH:
        raise UsageError("--watch is too short or too long", f"give {_SHORTEST_WATCH} to {_LONGEST_WATCH} seconds")
    require_privileges()
    chosen = options(context)
    (before, lost), since = _read(chosen), time.monotonic()
    screen = Redraw(bool(watch) and not as_json)
    with screen.frame():
        _show(before, None, 0.0, as_json, lost)
    try:
        while watch:
            select.select([], [], [], watch)
            (now, lost), moment = _read(chosen), time.monotonic()
            with screen.frame():
                _show(now, before, moment - since, as_json, lost)
            before, since = now, moment
    except KeyboardInterrupt:
        return


def syns(
    context: typer.Context,
    by: Annotated[
        Literal["tuple", "source", "destination", "port"], typer.Option("--by", help="What to group by.")
    ] = "tuple",
    top: Annotated[int, typer.Option("--top", metavar="N", min=0, help="How many rows; 0 for all.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show who tries to connect: initial SYNs, the most frequent first."""
    from xdpguard.telemetry.tracking import syns_by

    require_privileges()
    held = pins(options(context))
    rows = syns_by(held, by, top or None) if held.exist() else _nothing_attached()
    if as_json:
        render.print_json(rows)
        return
    if not rows:
        typer.echo("no SYNs seen")
        return
    columns = [name.replace("_", " ") for name in rows[0]]
    cells = [[units.number(v) if name == "syns" else str(v) for name, v in row.items()] for row in rows]
    render.print_table(columns, cells, right="syns")


def _nothing_attached() -> list[dict[str, str | int]]:
    raise XdpguardError("nothing is attached", "attach an interface first: xdpguard attach IFACE")


def _read(chosen: Options) -> tuple[dict[str, Counters], dict[str, Presence]]:
    """Return the counters by interface, and which of these do not carry the program now, or not under that name."""
    from xdpguard.control.presence import presences
    from xdpguard.store.database import Store
    from xdpguard.telemetry import counters

    held = pins(chosen)
    with Store(chosen.instance.store, read_only=True) as store:
        places = [it for it in presences(store).all if held.is_current(it.name, it.netns)]
    if not places:
        _nothing_attached()
    lost = {key(it.name, it.netns): it for it in places if it.fault}
    return {key(it.name, it.netns): counters.read(held, it.name, it.netns) for it in places}, lost


def _show(
    now: Mapping[str, Counters],
    before: Mapping[str, Counters] | None,
    seconds: float,
    as_json: bool,
    lost: Mapping[str, Presence],
) -> None:
    for name, it in lost.items():
        render.note(f"{name} {it.fault}{'' if it.moved else ': nothing is inspected there'}; see xdpguard status")
    if as_json:
        from xdpguard.cli.answers.traffic import Counted, Stats

        gone = {name for name, it in lost.items() if not it.moved}
        render.print_json(Stats({name: Counted.of(counters, name not in gone) for name, counters in now.items()}))
        return
    if before is not None:
        typer.echo(f"--- {units.moment(time.time())}")
    for name, counters in now.items():
        _print(name, counters, before.get(name) if before else None, seconds)


def _print(name: str, counters: Counters, before: Counters | None, seconds: float) -> None:
    from xdpguard.dataplane.sys.abi import reasons

    helps = {reason.name: reason.help for reason in reasons()}
    rows = []
    for reason, count in counters.reasons.items():
        total = count.packets + count.observed_packets
        if not total and reason != "pass":
            continue
        row = [
            reason,
            units.number(count.packets),
            units.number(count.observed_packets),
            units.byte_count(count.bytes + count.observed_bytes),
        ]
        if before is not None:
            old = before.reasons[reason]
            row.append(units.number(max(0, round((total - old.packets - old.observed_packets) / seconds))))
        rows.append([*row, helps[reason]])
    columns = ["reason", "packets", "observed", "bytes", *(["packets/s"] if before else []), ""]
    title = f"{name}: {units.number(counters.packets)} packets, {units.byte_count(counters.bytes)}, "
    title += f"{units.number(counters.dropped)} dropped"
    render.print_table(columns, rows, title, right="packets observed bytes packets/s")
    typer.echo("  flags      " + _pairs(counters.flags))
    typer.echo("  protocols  " + _pairs(counters.protocols))
    if counters.reasons["cookie_sent"].packets:
        typer.echo(f"  cookies    {units.number(counters.cookies_valid)} came back valid")
    if counters.sources_skipped or counters.tuples_skipped:
        typer.echo(
            f"  not tracked: {units.number(counters.sources_skipped)} sources and"
            f" {units.number(counters.tuples_skipped)} tuples over the limit of new entries"
        )


def _pairs(values: Mapping[str, int]) -> str:
    return "  ".join(f"{name} {units.number(value)}" for name, value in values.items())
