# SPDX-License-Identifier: GPL-2.0
"""rules, import."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Literal, get_args

import typer

from xdpguard import units
from xdpguard.cli import listed, output, render, undoing
from xdpguard.cli.session import options, ruleset
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.target import Label

_RULES_EXAMPLES = """
\b
Examples:
  xdpguard rules --kind block
  xdpguard rules --sort hits --top 10
  xdpguard rules --match 203.0.113.0/24      the rules for sources inside it; or a part of a reason or an origin
  xdpguard rules --expiring 1h --watch 2     what ends within the hour, again every two seconds
  xdpguard rules --json | jq '.[] | select(.packets > 0)'
  xdpguard rules --export rules.toml     with reasons, origins and ends; read again by `import`
"""
_IMPORT_EXAMPLES = """
\b
Examples:
  xdpguard rules --export > rules.toml; xdpguard import rules.toml
  ssh gate xdpguard rules --export | xdpguard import -
  xdpguard import rules.toml --confirm 5m      undone in five minutes, unless xdpguard confirm follows

One change: all of the file, or nothing. Where a rule is there already, the longer end and the first reason stay. Rules
that ended meanwhile are left out. It is refused where `block` would be. Filters are in the file, in their order, unless
--kind was given; named lists are not.
"""
_MOST = 1 << 28  # bytes of a file to import


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_RULES_EXAMPLES)(rules)
    app.command("import", epilog=_IMPORT_EXAMPLES)(import_rules)


def rules(
    context: typer.Context,
    kind: Annotated[
        Literal["allow", "block", "port", "shadow"] | None, typer.Option("--kind", help="Only this kind.")
    ] = None,
    match: listed.Match = "",
    expiring: listed.Expiring = None,
    sort: listed.Sort = None,
    top: listed.Top = 0,
    watch: listed.Watch = 0.0,
    as_json: output.Json = False,
    _output: output.Output = "",
    export: Annotated[
        bool, typer.Option("--export", help="Write rules and filters to FILE, or to standard output, for `import`.")
    ] = False,
    file: Annotated[str, typer.Argument(metavar="[FILE|-]", help="Where to export to.", show_default=False)] = "",
) -> None:
    """Show the stored rules, whether they are in force, and what they hit."""
    output.expect_table(not export, "leave out -o, or --export")
    which = listed.Which(kind, match, expiring, sort, top)
    if export:
        if which.narrows or watch:
            raise UsageError("--export goes with --kind alone", "leave out --match, --expiring, --sort, --top, --watch")
        _export(context, kind, file, as_json)
        return
    if file:
        raise UsageError(f"rules takes a file with --export only: {file}", _instead(file))
    listed.repeat(watch, lambda: listed.show(context, which, as_json))


def _instead(word: str) -> str:
    """Return what to type for a word after `rules`."""
    if word in ("ls", "list", "show", "all"):
        return "xdpguard rules alone shows all of them"
    if word in ("add", "new", "create", "set"):
        return "xdpguard block, allow and filter add make rules"
    if word in ("rm", "remove", "delete", "del", "clear", "flush"):
        return "xdpguard unblock, disallow and filter remove remove rules"
    kind = word.removesuffix("s")
    if kind in get_args(Label):
        return f"xdpguard rules --kind {kind} shows those alone"
    return f"write xdpguard rules --match {shlex.quote(word)} for those with it, or rules --export {shlex.quote(word)}"


def import_rules(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file that `rules --export` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Even if it cuts off an address this host needs.")] = False,
    confirm: undoing.Confirm = "",
) -> None:
    """Add the rules of an exported file, with their reasons, origins and ends."""
    from xdpguard.control import importing
    from xdpguard.control.presence import presences_of
    from xdpguard.policy import exchange

    label, data = _read(file)
    entries = exchange.parse(label, data, time.time())
    with ruleset(options(context), command=undoing.of_command(context, confirm)) as found:
        found.purge()
        done = importing.load(found, entries, force)
        where = presences_of(found)
    counts = [(kind, sum(1 for it in done.puts if it.now.kind == kind)) for kind in ("allow", "block", "port")]
    named = ", ".join(f"{count:,} {kind}" for kind, count in counts if count)
    there = sum(1 for it in done.puts if it.before is not None)
    kept = render.counted(there, "of them was there, and keeps", "of them were there, and keep")
    words = f"; {kept} the longer end and the first reason" if there else ""
    if done.puts or not (done.filters or done.there):
        render.say(f"imported {render.counted(len(done.puts), 'rule')}{f': {named}' if named else ''}{words}")
    if done.filters or done.there:
        same = f"; {render.counted(len(done.there), 'more was', 'more were')} there already" if done.there else ""
        render.say(f"imported {render.counted(len(done.filters), 'filter')}{same}")
    if done.ended:
        render.note(f"{render.counted(done.ended, 'left out: its', 'left out: their')} end has come")
    for text in where.notes() if done.puts or done.filters else ():
        render.note(text)


def _export(context: typer.Context, kind: str | None, file: str, as_json: bool) -> None:
    from xdpguard.policy import exchange, exchange_filters
    from xdpguard.policy.rule import MODES

    if as_json:
        raise UsageError("--export does not go with --json", "leave one of them out")
    now = time.time()
    with ruleset(options(context), read_only=True) as found:
        held = [rule for mode in MODES for rule in found.store.rules(mode=mode)]
        filters = found.filters.alive() if kind is None else []
    alive = [rule for rule in held if rule.expires is None or rule.expires > now]
    alive.sort(key=lambda rule: rule.created)
    rules = exchange.written(rule for rule in alive if kind in (None, rule.label))
    text = "".join((*rules, *exchange_filters.written(filters))).encode()
    try:
        if file in ("", "-"):
            sys.stdout.buffer.write(text)
            return
        Path(file).write_bytes(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise XdpguardError(
            f"cannot write {file or 'standard output'}: {error.strerror}", "name a file that can be written"
        ) from error
    render.note(f"exported to {file}")


def _read(file: str) -> tuple[str, bytes]:
    try:
        if file == "-":
            label, data = "standard input", sys.stdin.buffer.read(_MOST + 1)
        else:
            label = file
            with Path(file).open("rb") as stream:
                data = stream.read(_MOST + 1)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", "give a file that `rules --export` wrote") from error
    if len(data) > _MOST:
        raise UsageError(f"{label} is larger than {units.byte_count(_MOST)}", "load so many as a list: lists load")
    return label, data
