# SPDX-License-Identifier: GPL-2.0
"""lists load, lists drop, lists show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard.cli import render
from xdpguard.cli.session import listbook, options
from xdpguard.errors import UsageError, XdpguardError

if TYPE_CHECKING:
    from xdpguard.listbook import ListHits, Share
    from xdpguard.listloader import Loaded

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_LOAD_EXAMPLES = """
\b
Examples:
  xdpguard lists load firehol firehol_level1.netset
  xdpguard lists load tor tor-exits.txt --strict     refuse the file when a line is no entry
  curl -s URL | xdpguard lists load drop -           from standard input
\b
Understood, told apart by what is in them, and packed with gzip or not: one address, prefix or range (a-b) a line
with # and ; comments, netset and P2P files, CSV with a column of addresses, Spamhaus DROP (text, JSON lines), dumps of
ipset save and nft list ruleset, CrowdSec decisions. Loading a name again swaps the list in one step.
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
    """Adds these commands to the application."""
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
    as_json: _Json = False,
) -> None:
    """Block every address of a list. Loading it again swaps it in one step: never half of the old, half of the new."""
    from xdpguard.listloader import Loader, check_name

    check_name(name)
    with listbook(options(context)) as (book, store), _progress() as step:
        loader = Loader(store, book, step)
        if file == "-":
            if sys.stdin is None:
                raise UsageError("standard input is closed", "give it a file: xdpguard lists load NAME FILE")
            done = loader.load_stream(name, "standard input", sys.stdin.buffer, strict, force)
        else:
            done = loader.load_file(name, Path(file), "cli", strict, force)
    _report(done, as_json)


def drop(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Lists to take away.", show_default=False)],
) -> None:
    """Take lists away. All that are named, or none."""
    with listbook(options(context)) as (book, _):
        known = {it.name: it for it in book.shelf.all()}
        missing = next((name for name in names if name not in known), None)
        if missing is not None:
            raise XdpguardError(
                f"there is no list {missing}",
                f"nothing was changed; lists: {', '.join(sorted(known)) or 'none'}",
            )
        done = [known[name] for name in dict.fromkeys(names)]
        book.apply([], [it.name for it in done])
    for it in done:
        typer.echo(f"dropped {it.name}: {it.entries:,} entries")
        if it.source == "config":
            render.note(f"{it.name} stands in the configuration file, and comes back with it")


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="Only this list.", show_default=False)] = "",
    as_json: _Json = False,
) -> None:
    """Show the lists, what they hit, and how many of their entries the kernel really holds."""
    with listbook(options(context), read_only=True) as (book, _):
        found = book.in_force()
        shares = book.shares()
    if name:
        found = [item for item in found if item.its.name == name]
        if not found:
            raise XdpguardError(f"there is no list {name}", "xdpguard lists show tells which there are")
    if as_json:
        render.print_json([_as_json(item, shares) for item in found])
        return
    if not found:
        typer.echo("no lists; load one with: xdpguard lists load NAME FILE")
        return
    columns = ["list", "entries", "in kernel", "packets", "bytes", "format", "skipped", "loaded", "file"]
    rows = [_row(item, shares) for item in found]
    render.print_table(columns, rows, right="entries packets bytes skipped")


def list_notes(done: Loaded) -> Iterator[str]:
    """What a person should be told about a list that was loaded."""
    its = done.its
    for fault in done.faults:
        yield f"{its.file or 'standard input'}:{fault.line}: {fault.text!r}: {fault.why}; skipped"
    if its.skipped > len(done.faults):
        yield f"... and {its.skipped - len(done.faults):,} more lines skipped"
    yield from done.notes


def _report(done: Loaded, as_json: bool) -> None:
    its = done.its
    for text in list_notes(done):
        render.note(text)
    if as_json:
        found = _plain(its)
        found["before"] = done.before.entries if done.before else None
        found["in_force"] = done.in_force
        render.print_json(found)
        return
    was = f" (had {done.before.entries:,})" if done.before else ""
    skipped = f", {its.skipped:,} lines skipped" if its.skipped else ""
    twice = f", {its.duplicates:,} of them twice" if its.duplicates else ""
    typer.echo(
        f"loaded {its.name}: {its.given:,} entries{twice}, as {its.entries:,} prefixes{was}{skipped} ({its.format})"
    )
    if not done.in_force:
        render.note("nothing is attached: stored, in force from the next attach on")


def _as_json(item: ListHits, shares: dict[str, Share]) -> dict[str, object]:
    share = shares.get(item.its.name)
    return _plain(item.its) | {
        "packets": item.packets,
        "bytes": item.bytes,
        "held": share.held if share else None,
    }


def _plain(its: object) -> dict[str, object]:
    from xdpguard.lists.shelf import NamedList

    assert isinstance(its, NamedList)
    return {
        "name": its.name,
        "entries": its.entries,
        "given": its.given,
        "duplicates": its.duplicates,
        "skipped": its.skipped,
        "format": its.format,
        "source": its.source,
        "file": its.file or None,
        "loaded": int(its.loaded),
    }


def _row(item: ListHits, shares: dict[str, Share]) -> list[str]:
    its, share = item.its, shares.get(item.its.name)
    held = "not attached" if share is None else "all" if share.held == share.stored else f"{share.held:,}"
    return [
        its.name,
        render.number(its.entries),
        held,
        render.number(item.packets),
        render.octets(item.bytes),
        its.format,
        render.number(its.skipped),
        render.moment(its.loaded),
        its.file or "-",
    ]


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Says what is being done, to somebody who looks on."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield status.update
