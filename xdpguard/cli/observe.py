# SPDX-License-Identifier: GPL-2.0
"""The commands stats, syns."""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from xdpguard import units
from xdpguard.cli import output, render
from xdpguard.cli.columns import REASON_COLUMNS, Column, Row, number, size, verdict_colour
from xdpguard.cli.places import key
from xdpguard.cli.redraw import Redraw
from xdpguard.cli.session import Options, nothing_attached, options, pins
from xdpguard.errors import UsageError
from xdpguard.instance import require_privileges

if TYPE_CHECKING:
    from xdpguard.control.presence import Presence
    from xdpguard.telemetry.counters import Counters

_SHORTEST_WATCH, _LONGEST_WATCH = 0.1, 86_400

_STATS_EXAMPLES = """
\b
Examples:
  xdpguard stats
  xdpguard stats eth0
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
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[IFACE]...", help="Only these interfaces.", show_default=False)
    ] = None,
    watch: Annotated[
        float,
        typer.Option(
            "--watch",
            metavar="SECONDS",
            show_default="once",
            help="Repeat every 0.1 to 86400 s, with rates; in place on a terminal.",
        ),
    ] = 0.0,
    as_json: Annotated[bool, output.json_option("Print JSON; with --watch, a line each time.")] = False,
    _output: output.Output = "",
) -> None:
    """Show packets and bytes by reason, TCP flags and protocols, for each interface."""
    if watch and not _SHORTEST_WATCH <= watch <= _LONGEST_WATCH:
        raise UsageError("--watch is too short or too long", f"give {_SHORTEST_WATCH} to {_LONGEST_WATCH} seconds")
    require_privileges()
    chosen = options(context)
    (before, lost), since = _read(chosen, names), time.monotonic()
    screen = Redraw(bool(watch) and not as_json)
    with screen.frame():
        _show(before, None, 0.0, as_json, lost)
    try:
        while watch:
            select.select([], [], [], watch)
            (now, lost), moment = _read(chosen, names), time.monotonic()
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
    top: Annotated[int, typer.Option("--top", "-n", metavar="N", min=0, help="How many rows; 0 for all.")] = 20,
    as_json: output.Json = False,
    _output: output.Output = "",
) -> None:
    """Show who tries to connect: initial SYNs, the most frequent first."""
    from xdpguard.telemetry.tracking import syns_by

    require_privileges()
    chosen = options(context)
    held = pins(chosen)
    if not held.exist():
        raise nothing_attached(chosen)
    rows = syns_by(held, by, top or None)
    if as_json:
        render.print_json(rows)
        return
    if not rows:
        render.say("no SYNs seen")
        return
    columns = [Column(name.replace("_", " "), right=name == "syns") for name in rows[0]]
    cells = [[number(value) if isinstance(value, int) else value for value in row.values()] for row in rows]
    render.print_table(columns, cells)


def _read(chosen: Options, names: list[str] | None = None) -> tuple[dict[str, Counters], dict[str, Presence]]:
    """Return the counters by interface, and which of these do not carry the program now, or not under that name."""
    from xdpguard.control.presence import presences
    from xdpguard.store.database import Store
    from xdpguard.telemetry import counters

    held = pins(chosen)
    with Store(chosen.instance.store, read_only=True) as store:
        places = [it for it in presences(store).all if held.is_current(it.name, it.netns)]
    if not places:
        raise nothing_attached(chosen)
    if names:
        known = {key(it.name, it.netns) for it in places}
        wrong = next((name for name in names if not any(name in (it, it.partition("@")[0]) for it in known)), None)
        if wrong is not None:
            raise UsageError(f"{wrong} is not attached", f"attached: {', '.join(sorted(known))}")
        places = [it for it in places if {it.name, key(it.name, it.netns)} & {*names}]
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
        render.say(f"--- {units.moment(time.time())}", "dim")
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
        row: Row = [
            reason,
            number(count.packets, verdict_colour(reason)),
            number(count.observed_packets),
            size(count.bytes + count.observed_bytes),
        ]
        if before is not None:
            old = before.reasons[reason]
            row.append(number(max(0, round((total - old.packets - old.observed_packets) / seconds))))
        rows.append([*row, helps[reason]])
    *counts, meaning = REASON_COLUMNS
    columns = [*counts, *([Column("packets/s", right=True)] if before else []), meaning]
    title = f"{name}: {render.counted(counters.packets, 'packet')}, {units.byte_count(counters.bytes)}, "
    title += f"{units.number(counters.dropped)} dropped"
    render.print_table(columns, rows, title)
    render.say("  flags      " + _pairs(counters.flags))
    render.say("  protocols  " + _pairs(counters.protocols))
    if counters.reasons["cookie_sent"].packets:
        render.say(f"  cookies    {units.number(counters.cookies_valid)} came back valid")
    if counters.sources_skipped or counters.tuples_skipped:
        render.say(
            f"  not tracked: {render.counted(counters.sources_skipped, 'source')} and"
            f" {render.counted(counters.tuples_skipped, 'tuple')} over the limit of new entries"
        )


def _pairs(values: Mapping[str, int]) -> str:
    return "  ".join(f"{name} {units.number(value)}" for name, value in values.items())
