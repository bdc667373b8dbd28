# SPDX-License-Identifier: GPL-2.0
"""lists load, lists drop, lists show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import entries, health, render, undoing
from xdpguard.cli.session import options, ruleset
from xdpguard.errors import UsageError, XdpguardError

if TYPE_CHECKING:
    from xdpguard.control.loader import Loaded

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_Shadow = Annotated[bool, typer.Option("--shadow", help="Drop nothing: only count what the list would drop.")]

_LOAD_EXAMPLES = """
\b
Examples:
  xdpguard lists load firehol firehol_level1.netset
  xdpguard lists load tor tor-exits.txt --strict     refuse the file when a line is no entry
  curl -s URL | xdpguard lists load drop -           from standard input
  xdpguard lists load firehol new.netset --shadow    what would it drop that is not dropped yet?
\b
Understood, told apart by what is in them, and packed with gzip or not: one address, prefix or range (a-b) a line
with # and ; comments, netset and P2P files, CSV with a column of addresses, Spamhaus DROP (text, JSON lines), dumps of
ipset save and nft list ruleset, CrowdSec decisions. Loading a name again swaps the list in one step.
\b
A shadow list stands beside the one of its name that is in force, until `promote --list NAME` puts it in its place.
"""
_DROP_EXAMPLES = """
\b
Examples:
  xdpguard lists drop firehol
"""
_SHOW_EXAMPLES = """
\b
Examples:
  xdpguard lists show
  xdpguard lists show --json | jq '.[] | {name, entries, packets}'
"""

lists_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Named block lists of up to millions of entries."
)


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    lists_app.command(epilog=_LOAD_EXAMPLES)(load)
    lists_app.command(epilog=_DROP_EXAMPLES)(drop)
    lists_app.command(epilog=_SHOW_EXAMPLES)(show)
    app.add_typer(lists_app, name="lists")


def load(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the list.", show_default=False)],
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file, or - for standard input.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="Refuse the file when a line is no entry.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Even if it blocks an address this host needs, or has shrunk by more than half."),
    ] = False,
    shadow: _Shadow = False,
    confirm: undoing.Confirm = "",
    as_json: _Json = False,
) -> None:
    """Block every address of a list. Loading it again swaps it in one step: never half of the old, half of the new."""
    from xdpguard.control.loader import Loader, check_name

    check_name(name)
    if shadow and force:
        raise UsageError("--shadow does not go with --force", "a shadow list cuts nobody off")
    command = undoing.of_command(context, confirm)
    with ruleset(options(context), command=command) as found, _progress() as step:
        loader = Loader(found.shadow_lists if shadow else found.lists, step)
        if file == "-":
            if sys.stdin is None:
                raise UsageError("standard input is closed", "give it a file: xdpguard lists load NAME FILE")
            done = loader.load_stream(name, "standard input", sys.stdin.buffer, strict, force)
        else:
            done = loader.load_file(name, Path(file), "cli", strict, force)
    _report(done, shadow, as_json)


def drop(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Lists to take away.", show_default=False)],
    shadow: Annotated[bool, typer.Option("--shadow", help="Shadow lists only; a list in force stays.")] = False,
    confirm: undoing.Confirm = "",
) -> None:
    """Take lists away. All that are named, or none."""
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
        typer.echo(f"dropped {'the shadow list ' if counted else ''}{it.name}: {it.entries:,} entries")
        if it.source == "config":
            render.note(f"{it.name} stands in the configuration file, and comes back with it")


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only this list.", show_default=False)] = "",
    as_json: _Json = False,
) -> None:
    """Show the lists, what they hit, and how many of their entries the kernel really holds."""
    with ruleset(options(context), read_only=True) as kept:
        found, shadow = kept.lists.in_force(), kept.shadow_lists.in_force()
        shares, counted = kept.lists.shares(), kept.shadow_lists.shares()
        left_out = health.left_out(kept.store)
    if name:
        found = [item for item in found if item.its.name == name]
        shadow = [item for item in shadow if item.its.name == name]
        if not found and not shadow:
            raise XdpguardError(f"there is no list {name}", "xdpguard lists show tells which there are")
    if as_json:
        from xdpguard.cli.answers.entries import NamedList, ShadowList

        real = [NamedList.of(item, shares, left_out.get(f"the list {item.its.name}")) for item in found]
        render.print_json([*real, *(ShadowList.counted(item, counted) for item in shadow)])
        return
    if found:
        rows = [entries.list_row(item, shares) for item in found]
        render.print_table(entries.LIST_COLUMNS, rows, right="entries packets bytes skipped")
        for item in found:
            if addresses := left_out.get(f"the list {item.its.name}"):
                typer.echo(f"{item.its.name} does not hold for {', '.join(addresses)}; see xdpguard status")
    if shadow:
        rows = [entries.shadow_list_row(item, counted) for item in shadow]
        render.print_table(entries.SHADOW_LIST_COLUMNS, rows, entries.SHADOW_TITLE, entries.SHADOW_RIGHT)
    if not found and not shadow:
        typer.echo("no lists; load one with: xdpguard lists load NAME FILE")


def list_notes(done: Loaded) -> Iterator[str]:
    """Yield notes for the user about a list that was loaded."""
    its = done.its
    for fault in done.faults:
        yield f"{its.file or 'standard input'}:{fault.line}: {fault.text!r}: {fault.why}; skipped"
    if its.skipped > len(done.faults):
        yield f"... and {its.skipped - len(done.faults):,} more lines skipped"
    yield from done.notes


def _report(done: Loaded, shadow: bool, as_json: bool) -> None:
    its = done.its
    for text in list_notes(done):
        render.note(text)
    if as_json:
        from xdpguard.cli.answers.entries import LoadedNow

        before = done.before.entries if done.before else None
        render.print_json(LoadedNow.of(its, shadow, before, done.in_force))
        return
    was = f" (had {done.before.entries:,})" if done.before else ""
    skipped = f", {its.skipped:,} lines skipped" if its.skipped else ""
    twice = f", {its.duplicates:,} of them twice" if its.duplicates else ""
    verb = "counting for" if shadow else "loaded"
    typer.echo(
        f"{verb} {its.name}: {its.given:,} entries{twice}, as {its.entries:,} prefixes{was}{skipped} ({its.format})"
    )
    if not done.in_force:
        render.note(f"nothing is attached: stored, {'counting' if shadow else 'in force'} from the next attach on")


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show progress on a terminal."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update
