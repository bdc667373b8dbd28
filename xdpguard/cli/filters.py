# SPDX-License-Identifier: GPL-2.0
"""The commands filter add, list, show, remove, move, test, presets, import."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import (
    filter_flowspec,
    filter_presets,
    filter_readings,
    filters_shown,
    fleet_entries,
    places,
    probing,
    undoing,
)
from xdpguard.cli.changing import reason_of
from xdpguard.cli.filter_changes import change
from xdpguard.cli.session import options
from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.policy.filter import Filter, NewFilter

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Force = Annotated[bool, typer.Option("--force", help="Override the check that no address this host needs is cut off.")]
_Name = Annotated[str, typer.Argument(metavar="NAME", help="What the filter is called.", show_default=False)]
_Before = Annotated[
    str, typer.Option("--before", metavar="NAME", help="Ask it before this filter. Default: last.", show_default=False)
]

_ADD_EXAMPLES = """
\b
Examples:
  xdpguard filter add long-dns 'udp sport 53 meta length > 512' --drop --shadow
  xdpguard filter add ssh 'ip saddr 192.0.2.0/24 tcp dport 22' --pass --before no-ssh
  xdpguard filter add no-ssh 'tcp dport 22 tcp flags & (syn | ack) == syn' --drop
  xdpguard filter add web 'tcp dport { 80, 443, 8000-8010 }' --limit 1000/s --per source
  xdpguard filter add tor 'ip saddr @tor tcp dport 25' --drop --for 7d --reason spam
  xdpguard filter add pings 'icmp type echo-request' --limit 10mbit/s --confirm 60s

MATCH says in nftables' words what a packet must be, all of it. Filters are asked in order; the first that drops or
passes a packet decides. --count and a --limit that is kept go on with the next filter. What allow, block and lists
decide comes before. A RATE is packets (1000/s, 60/m) or bits (10mbit/s), shared by all that the filter matches, or per
source; --burst is how much may come at once. @LIST is a list loaded by `lists load`, with --shadow where it shall drop
nothing by itself.
"""
_MOVE_EXAMPLES = """
\b
Examples:
  xdpguard filter move ssh --before no-ssh
  xdpguard filter move web --last
"""
_TEST_EXAMPLES = """
\b
Examples:
  xdpguard filter test 'udp 192.0.2.1:53 > 198.51.100.1:40000 len=1400'
  xdpguard filter test 'tcp 192.0.2.1:4000 > 198.51.100.1:22 S' --config guard.toml
"""


_REMOVE_EXAMPLES = """
\b
Examples:
  xdpguard filter remove long-dns web
"""

filter_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Match packets by address, port, flags, length and more: drop, limit, pass or count them.",
)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    filter_app.command(epilog=_ADD_EXAMPLES)(add)
    filter_app.command("list", epilog=filter_readings.LIST_EXAMPLES)(filter_readings.show_all)
    filter_app.command(epilog=filter_readings.SHOW_EXAMPLES)(filter_readings.show)
    filter_app.command(epilog=_REMOVE_EXAMPLES)(remove)
    filter_app.command(epilog=_MOVE_EXAMPLES)(move)
    filter_app.command(epilog=_TEST_EXAMPLES)(test)
    filter_app.command(epilog=filter_presets.PRESETS_EXAMPLES)(filter_presets.presets)
    filter_app.command("import", epilog=filter_flowspec.IMPORT_EXAMPLES)(filter_flowspec.bring)
    for name, command in (("ls", filter_readings.show_all), ("rm", remove), ("delete", remove)):
        filter_app.command(name, hidden=True)(command)
    app.add_typer(filter_app, name="filter")


def add(
    context: typer.Context,
    name: _Name,
    match: Annotated[list[str], typer.Argument(metavar="MATCH", help="What a packet must be.", show_default=False)],
    drop: Annotated[bool, typer.Option("--drop", help="Drop what matches.")] = False,
    let_pass: Annotated[bool, typer.Option("--pass", help="Ask no later filter about what matches.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Only count what matches.")] = False,
    limit: Annotated[
        str, typer.Option("--limit", metavar="RATE", help="Drop what is above: 1000/s, 60/m, 10mbit/s.")
    ] = "",
    burst: Annotated[
        str, typer.Option("--burst", metavar="N", help="How much at once: 500 packets, 2mbit. Default: a second's.")
    ] = "",
    per: Annotated[
        str,
        typer.Option(metavar="WHAT", help="Whose rate: filter, source, source/24, source/24,56 or source+port."),
    ] = "filter",
    shadow: Annotated[bool, typer.Option("--shadow", help="Drop nothing; only count what would be dropped.")] = False,
    before: _Before = "",
    life: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 2h, 7d. Default: forever.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the filter.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the filter of this name, if there is one.")
    ] = False,
    confirm: undoing.Confirm = "",
    force: _Force = False,
    fleet: fleet_entries.OnFleet = False,
) -> None:
    """Add a filter: what matches is dropped, passed, counted, or limited to a rate."""
    from xdpguard.control.filter_order import with_new
    from xdpguard.policy.filters import FilterEntry

    given = [word for word, wanted in (("drop", drop), ("pass", let_pass), ("count", count)) if wanted]
    if len(given) + bool(limit) != 1:
        raise UsageError("give one of --drop, --pass, --count and --limit RATE", "see xdpguard filter add --help")
    entry = FilterEntry(name, " ".join(match), "".join(given), limit, burst, per, shadow, reason_of(reason))
    new = _parsed(entry, life)
    if fleet:
        fleet_entries.check_alone({"--before": before, "--replace": replace, "--force": force, "--confirm": confirm})
        fleet_entries.add_filter(context, entry, life)
        return

    def plan(held: list[Filter]) -> list[Filter]:
        return with_new(held, new, before, replace)

    def told(found: Ruleset) -> list[str]:
        return filters_shown.added(found, new)

    change(context, plan, [name], told, confirm, force, filters_shown.asked_lists)


def remove(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Filters to remove.", show_default=False)],
    confirm: undoing.Confirm = "",
    force: _Force = False,
    fleet: fleet_entries.OnFleet = False,
) -> None:
    """Remove filters: all that are named, or none."""
    from xdpguard.control.filter_order import without
    from xdpguard.policy.origins import is_foreign

    wanted = list(dict.fromkeys(names))
    if fleet:
        fleet_entries.check_alone({"--force": force, "--confirm": confirm})
        fleet_entries.take_back(context, "filter", wanted)
        return
    told = [f"removed {_named(wanted)}"]

    def plan(held: list[Filter]) -> list[Filter]:
        its = (it for it in held if it.name in wanted and is_foreign(it.source))
        told.extend(f"{it.source}, which decides about {it.name}, may add it again" for it in its)
        return without(held, wanted)

    change(context, plan, None, lambda found: told, confirm, force, stored=False)


def move(
    context: typer.Context,
    name: _Name,
    before: Annotated[
        str, typer.Option("--before", metavar="NAME", help="The filter that it is to be asked before.")
    ] = "",
    last: Annotated[bool, typer.Option("--last", help="Ask it after all others.")] = False,
    confirm: undoing.Confirm = "",
    force: _Force = False,
) -> None:
    """Move a filter to another place in the order."""
    from xdpguard.control.filter_order import moved

    if bool(before) == last:
        raise UsageError("give --before NAME or --last", "xdpguard filter list shows the order")
    change(
        context,
        lambda held: moved(held, name, before),
        None,
        lambda found: [filters_shown.placed(found, name)],
        confirm,
        force,
    )


def test(
    context: typer.Context,
    packet: Annotated[
        list[str], typer.Argument(metavar="PACKET", help="A packet in a line, as for explain.", show_default=False)
    ],
    config: probing.Config = None,
    interface: places.Interface = "",
    netns: places.Netns = None,
    as_json: _Json = False,
) -> None:
    """Show what happens to a packet, and which filter decides it; see explain."""
    from xdpguard.cli.explain import explain_line

    explain_line(options(context), " ".join(packet), (config, interface, netns), as_json)


def _parsed(entry: object, life: str | None) -> NewFilter:
    """Return the filter that was asked for; of an invalid match, show the place."""
    from xdpguard.policy.duration import end_of
    from xdpguard.policy.filters import FilterEntry, new_filter
    from xdpguard.policy.matching.error import MatchError

    assert isinstance(entry, FilterEntry)
    now = time.time()
    try:
        return new_filter(entry, "cli", now, end_of(life, now))
    except MatchError as error:
        typer.echo(error.shown(), err=True)
        raise


def _named(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"the filter {units.visible(names[0])}"
    return f"the filters {', '.join(names)}" if len(names) <= 5 else f"{len(names):,} filters"
