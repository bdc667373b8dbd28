# SPDX-License-Identifier: GPL-2.0
"""The commands lists load, lists remove, lists show."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import entries, fleet_lists, health, output, render, undoing
from xdpguard.cli.fleet_entries import OnFleet
from xdpguard.cli.loaded import progress, report, report_reading, say_ends
from xdpguard.cli.session import options, ruleset
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.instance import require_privileges
from xdpguard.policy.rule import FLEET

if TYPE_CHECKING:
    pass

_Shadow = Annotated[bool, typer.Option("--shadow", help="Drop nothing; only count what the list would drop.")]


_LOAD_EXAMPLES = """
\b
Examples:
  xdpguard lists load firehol firehol_level1.netset
  xdpguard lists load tor tor-exits.txt --strict     reject the file if a line is invalid
  xdpguard lists load drop https://www.spamhaus.org/drop/drop.txt      once; run does not fetch it again
  curl -s URL | xdpguard lists load drop -           from standard input
  xdpguard lists load firehol new.netset --shadow    what would it drop that is not dropped yet?
  xdpguard lists load drop drop.txt --fleet          on all hosts of the fleet
  xdpguard lists load siem hits.csv --column src --dry-run    how is it read?

A file that allows two readings is refused; --format, --column and --prefix-column decide. Entries that have an end
(timeout, expires, until, ...) stop blocking at it; those that have ended, and rows that say allow, are left out and
counted.

The format is detected automatically, gzipped or not: one address, prefix or range (a-b) per line with # and ;
comments, netset and P2P files, CSV with a column of addresses, Spamhaus DROP (text, JSON lines), dumps of ipset save
and nft list ruleset, CrowdSec decisions. Loading a name again swaps the list atomically.

A shadow list may exist beside an enforced list of the same name, until `promote --list NAME` swaps it in.
"""
_REMOVE_EXAMPLES = """
\b
Examples:
  xdpguard lists remove firehol
  xdpguard lists remove drop --fleet                 on all hosts of the fleet
"""
_SHOW_EXAMPLES = """
\b
Examples:
  xdpguard lists show
  xdpguard lists show --json | jq '.[] | {name, entries, packets}'
"""

lists_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Load, show and remove named block lists of up to millions of entries.",
)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    lists_app.command(epilog=_LOAD_EXAMPLES)(load)
    lists_app.command(epilog=_REMOVE_EXAMPLES)(remove)
    lists_app.command("drop", epilog=_REMOVE_EXAMPLES, hidden=True)(remove)  # its name in earlier versions
    lists_app.command(epilog=_SHOW_EXAMPLES)(show)
    for name, command in (("ls", show), ("list", show), ("rm", remove), ("delete", remove)):
        lists_app.command(name, hidden=True)(command)
    app.add_typer(lists_app, name="lists")


def load(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the list.", show_default=False)],
    file: Annotated[
        str,
        typer.Argument(metavar="FILE|URL|-", help="A file, an https URL, or - for standard input.", show_default=False),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Reject the file if a line is invalid.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Load even if it, or a filter that asks it, blocks an address this host needs, or it has shrunk by "
            "more than half.",
        ),
    ] = False,
    shadow: _Shadow = False,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Read it as: plain (one entry per line, then comments), addresses (all on a line), ranges (the first "
            "two on a line), csv, dat, rbldnsd, spamhaus, nftables, ipset, crowdsec.",
            show_default=False,
        ),
    ] = "",
    column: Annotated[
        str,
        typer.Option(
            metavar="COLUMN", help="The column of the addresses, by name or number; A,B: of ranges.", show_default=False
        ),
    ] = "",
    prefix_column: Annotated[
        str,
        typer.Option(metavar="COLUMN|none", help="The column of prefix lengths or netmasks.", show_default=False),
    ] = "",
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Load it even if it has no entries.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Load nothing: show how the file is read.")] = False,
    confirm: undoing.Confirm = "",
    on_fleet: OnFleet = False,
    credentials: fleet_lists.Credentials = None,
    as_json: output.Json = False,
) -> None:
    """Block every address of a list. Loading it again swaps it atomically, never a mixture of old and new."""
    from xdpguard.control import needed
    from xdpguard.control.loader import Loader, check_name
    from xdpguard.control.presence import presences_of
    from xdpguard.control.sources import read_source, read_stream
    from xdpguard.control.standing import Standing
    from xdpguard.lists.formats.request import Request
    from xdpguard.net import web

    check_name(name)
    request = Request(form, column, prefix_column, allow_empty or force).checked()
    own = {"--shadow": shadow, "--dry-run": dry_run, "--confirm": confirm, "--json": as_json}
    fleet_lists.check_alone(on_fleet, credentials, own)
    if dry_run and confirm:
        raise UsageError("--confirm and --dry-run cannot be combined", "leave out --confirm: nothing is changed")
    command = None if dry_run else undoing.of_command(context, confirm)
    require_privileges()
    with progress() as step:
        # Before the lock is taken: a slow pipe holds up nobody else.
        if web.is_url(file):
            with web.fetched(file, step) as stream:
                given = read_stream(file, stream, strict, step, request, file)
        elif file != "-":
            given = read_source(Path(file), strict, step, request)
        elif sys.stdin is not None:
            given = read_stream("standard input", sys.stdin.buffer, strict, step, request)
        else:
            raise UsageError("standard input is closed", "give it a file: xdpguard lists load NAME FILE")
        if on_fleet:
            fleet_lists.load(context, name, given, force, credentials)
            return
        with ruleset(options(context), read_only=dry_run, command=command) as found:
            loader = Loader(found.shadow_lists if shadow else found.lists, step, dry_run)
            ready = loader.prepare(name, given, "cli", force)
            done = ready.loaded(False) if dry_run else loader.put(ready)
            if force and not dry_run:
                needed.accept(found.store, filters=[it.name for it in found.filters.alive() if name in it.lists])
            where = presences_of(found)
            passing = [] if shadow or dry_run else list(Standing(found).allowed_of(name))
    if dry_run:
        report_reading(done, ready.entries, shadow, as_json)
        if ready.refusal:
            raise ready.refusal
        return
    report(done, shadow, as_json, where)
    for text in passing if not as_json else ():
        render.note(text)


def remove(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Lists to remove.", show_default=False)],
    shadow: Annotated[bool, typer.Option("--shadow", help="Remove shadow lists only; enforced lists stay.")] = False,
    confirm: undoing.Confirm = "",
    on_fleet: OnFleet = False,
    credentials: fleet_lists.Credentials = None,
) -> None:
    """Remove lists: all that are named, or none."""
    fleet_lists.check_alone(on_fleet, credentials, {"--shadow": shadow, "--confirm": confirm})
    if on_fleet:
        fleet_lists.remove(context, list(dict.fromkeys(names)), credentials)
        return
    with ruleset(options(context), command=undoing.of_command(context, confirm)) as found:
        real = {} if shadow else {it.name: it for it in found.lists.stored.all()}
        counting = {it.name: it for it in found.shadow_lists.stored.all()}
        missing = next((name for name in names if name not in real and name not in counting), None)
        if missing is not None:
            raise XdpguardError(
                f"there is no {'shadow ' if shadow else ''}list {missing}",
                f"nothing was changed; lists: {', '.join(sorted({*real, *counting})) or 'none'}",
            )
        wanted = list(dict.fromkeys(names))
        done = [(it[name], it is counting) for name in wanted for it in (real, counting) if name in it]
        found.drop_lists([name for name in wanted if name in real], [name for name in wanted if name in counting])
    for it, counted in done:
        what = f"{'the shadow list ' if counted else ''}{it.name}"
        render.say(f"removed {what}: {render.counted(it.entries, 'entry', 'entries')}")
        if it.source == "config":
            render.note(f"{it.name} is in the configuration file, and is loaded again with it")
        if it.source == FLEET:
            render.note(
                f"{it.name} is the fleet's, and comes again; on all hosts: xdpguard lists remove {it.name} --fleet"
            )


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only this list.", show_default=False)] = "",
    as_json: output.Json = False,
    _output: output.Output = "",
) -> None:
    """Show the lists, their hits, and how many of their entries the kernel holds."""
    from xdpguard.control.presence import presences_of

    with ruleset(options(context), read_only=True) as kept:
        found, shadow = kept.lists.in_force(), kept.shadow_lists.in_force()
        shares, counted = kept.lists.shares(), kept.shadow_lists.shares()
        left_out = health.left_out(kept.store)
        where = presences_of(kept)
    if name:
        found = [item for item in found if item.its.name == name]
        shadow = [item for item in shadow if item.its.name == name]
        if not found and not shadow:
            raise XdpguardError(f"there is no list {name}", "xdpguard lists show names them all")
    if as_json:
        from xdpguard.cli.answers.entries import NamedList, ShadowList

        real = [NamedList.of(item, shares, where, left_out.get(f"the list {item.its.name}")) for item in found]
        render.print_json([*real, *(ShadowList.counted(item, counted, where) for item in shadow)])
        return
    if found:
        rows = [entries.list_row(item, shares, where, time.time()) for item in found]
        render.print_table(entries.LIST_COLUMNS, rows)
        for item in found:
            if addresses := left_out.get(f"the list {item.its.name}"):
                render.say(f"{item.its.name} does not apply to {', '.join(addresses)}; see xdpguard status")
        say_ends(found, "")
    if shadow:
        rows = [entries.shadow_list_row(item, counted, where, time.time()) for item in shadow]
        render.print_table(entries.SHADOW_LIST_COLUMNS, rows, entries.SHADOW_TITLE)
        say_ends(shadow, "the shadow list ")
    if not found and not shadow:
        render.say("no lists; load one with: xdpguard lists load NAME FILE")
        return
    for text in where.notes("nothing is attached: none of these is in force"):
        render.note(text)
