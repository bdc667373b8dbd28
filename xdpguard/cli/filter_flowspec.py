# SPDX-License-Identifier: GPL-2.0
"""Filters as FlowSpec rules: the command filter import, and filter show --flowspec."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import files, units
from xdpguard.cli import render, undoing
from xdpguard.cli.changing import reason_of
from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from xdpguard.policy.filter import Filter

IMPORT_EXAMPLES = """
\b
Examples:
  xdpguard filter import --flowspec rules.txt --shadow
  gobgp -j global rib -a ipv4-flowspec | xdpguard filter import --flowspec -
\b
FILE has commands of GoBGP (gobgp global rib ... add match ... then ...), its tables in JSON, or routes of ExaBGP. The
filters stand behind those there are, in the order in which FlowSpec asks its rules (RFC 8955). All are added, or none.
"""
_MOST = 16 << 20  # bytes
_REMEDY = "name a file of FlowSpec rules, or - for standard input"


def bring(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where the rules are; - is standard input.")],
    flowspec: Annotated[bool, typer.Option("--flowspec", help="They are rules of BGP FlowSpec.")] = False,
    shadow: Annotated[bool, typer.Option("--shadow", help="Drop nothing; only count what would be dropped.")] = False,
    life: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="How long: 90s, 10m, 2h, 7d. Default: forever.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept with the filters.")] = "flowspec",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the filters of these names.")] = False,
    confirm: undoing.Confirm = "",
    force: Annotated[
        bool, typer.Option("--force", help="Override the check that no address this host needs is cut off.")
    ] = False,
) -> None:
    """Add FlowSpec rules of GoBGP or ExaBGP as filters."""
    from xdpguard.cli.filter_changes import change
    from xdpguard.control.filter_order import with_new
    from xdpguard.policy.filters import new_filter
    from xdpguard.policy.flowspec.entries import entries
    from xdpguard.policy.flowspec.text import read
    from xdpguard.policy.target import parse_duration

    if not flowspec:
        raise UsageError("which form the filters have is missing", "give --flowspec; rules --export is read by import")
    now = time.time()
    expires = None if life is None else now + parse_duration(life)
    label, text = _text(file)
    new = [new_filter(it, "cli", now, expires) for it in entries(read(text, label), shadow, reason_of(reason))]

    def plan(held: list[Filter]) -> list[Filter]:
        for it in new:
            held = with_new(held, it, "", replace)
        return held

    lines = [f"{render.counted(len(new), 'filter')} of {label}:", *(f"  {it.name}: {it.does} {it.text}" for it in new)]
    change(context, plan, [it.name for it in new], lambda found: lines, confirm, force)


def show(its: Filter, form: str) -> None:
    """Print a filter as the FlowSpec rules of a form."""
    from xdpguard.policy.flowspec.entries import does_of
    from xdpguard.policy.flowspec.text import FORMS, written

    known = next((it for it in FORMS if it == form), None)
    if known is None:
        raise UsageError(f"not a form of FlowSpec: {units.visible(form)!r}", f"write {' or '.join(FORMS)}")
    render.say(written(its.match, does_of(its), known, its.name))
    if its.limit:
        render.note("FlowSpec has no burst: that of the limit is left to the router")


def _text(file: str) -> tuple[str, str]:
    """Return what a file is called, and its text."""
    if file == "-":
        data = sys.stdin.buffer.read(_MOST + 1) if sys.stdin is not None else b""
        if len(data) > _MOST:
            raise UsageError(f"standard input: larger than {_MOST:,} bytes", _REMEDY)
        return "standard input", data.decode("utf-8", "replace")
    return files.shown(file), files.read_bounded(Path(file), _MOST, _REMEDY).decode("utf-8", "replace")
