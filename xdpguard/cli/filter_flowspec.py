# SPDX-License-Identifier: GPL-2.0
"""Filters as FlowSpec rules: the command filter import, and --flowspec of filter show and filter list."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import files, units
from xdpguard.cli import render, undoing
from xdpguard.cli.changing import reason_of
from xdpguard.errors import UsageError, XdpguardError

if TYPE_CHECKING:
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.policy.filter import Filter
    from xdpguard.policy.flowspec.text import Form

IMPORT_EXAMPLES = """
\b
Examples:
  xdpguard filter import --flowspec rules.txt --shadow
  gobgp -j global rib -a ipv4-flowspec | xdpguard filter import --flowspec - --label bgp --replace

FILE has commands of GoBGP (gobgp global rib ... add match ... then ...), its tables in JSON, routes of ExaBGP, or the
events in JSON that it tells its processes. The filters stand behind those there are, in the order in which FlowSpec
asks its rules (RFC 8955, 5.1). All are added, or none. Each is called by the name of its route, or flowspec-LINE; with
--label LABEL.NAME or LABEL.LINE.
"""
_MOST = 16 << 20  # bytes
_NO_BURST = "FlowSpec has no burst: that of a limit is left to the router"
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
    label: Annotated[
        str, typer.Option("--label", metavar="LABEL", help="What their names begin with.", show_default=False)
    ] = "",
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace the filters of these names; with --label, all of that label."),
    ] = False,
    confirm: undoing.Confirm = "",
    force: Annotated[
        bool, typer.Option("--force", help="Override the check that no address this host needs is cut off.")
    ] = False,
) -> None:
    """Add FlowSpec rules of GoBGP or ExaBGP as filters."""
    from xdpguard.cli.filter_changes import change
    from xdpguard.control.filter_order import with_last
    from xdpguard.policy.duration import end_of
    from xdpguard.policy.filters import new_filter
    from xdpguard.policy.flowspec.entries import entries, label_start
    from xdpguard.policy.flowspec.text import read

    if not flowspec:
        raise UsageError("which form the filters have is missing", "give --flowspec; rules --export is read by import")
    now = time.time()
    expires = end_of(life, now)
    start = label_start(label)
    called, text = _text(file)
    imported = read(text, called)
    new = [new_filter(it, "cli", now, expires) for it in entries(imported, shadow, reason_of(reason), start)]
    gone: list[str] = []

    def plan(held: list[Filter]) -> list[Filter]:
        names = {it.name for it in new}
        if start and replace:
            mine = (it.name for it in held if it.name.startswith(start) and it.source == "cli")
            gone.extend(name for name in mine if name not in names)
        return with_last([it for it in held if it.name not in gone], new, replace)

    def told(found: Ruleset) -> list[str]:
        del found
        lines = [f"{render.counted(len(new), 'filter')} of {called}:"]
        lines += (f"  {it.name}: {it.does} {it.text}" for it in new)
        return [*lines, *(f"  removed {it}" for it in gone)]

    change(context, plan, [it.name for it in new], told, confirm, force)


def show(its: Filter, form: str, as_json: bool) -> None:
    """Print a filter as the FlowSpec rules of a form. Raise XdpguardError for what FlowSpec cannot say."""
    from xdpguard.policy.flowspec.entries import does_of
    from xdpguard.policy.flowspec.text import written

    known = _form(form)
    try:
        rules = written(its.match, does_of(its), known, its.name)
    except UsageError as error:
        raise XdpguardError(f"{its.name}: {error}", error.remedy) from error
    if as_json:
        from xdpguard.cli.answers.flowspec import Rules

        render.print_json(Rules(its.name, rules.splitlines()))
        return
    for text in [*_end_of(its), rules]:
        render.say(text, whole=True)
    if its.mode == "shadow":
        render.note(f"{its.name} is in shadow here; a router would {its.action} at once")
    if its.limit:
        render.note(_NO_BURST)


def show_all(filters: list[Filter], form: str, as_json: bool) -> None:
    """Print all filters that FlowSpec has words for as rules of a form, and note the others."""
    from xdpguard.policy.flowspec.listing import listing

    found = listing(filters, _form(form))
    if as_json:
        from xdpguard.cli.answers.flowspec import Listing

        render.print_json(Listing.of(found))
        return
    by_name = {it.name: it for it in filters}
    for said in found.said:
        for text in (f"# {said.name}", *_end_of(by_name[said.name]), *said.rules):
            render.say(text, whole=True)
    for name, why in found.left_out:
        render.note(f"{name} is left out: {why}")
    if any(by_name[it.name].limit for it in found.said):
        render.note(_NO_BURST)
    for one, other in found.swapped:
        render.note(f"routers ask {other} before {one}, whatever the order here (RFC 8955, 5.1)")
    if not found.said:
        render.note("no rule: there is no filter that is enforced and that FlowSpec can say")


def _end_of(its: Filter) -> Iterator[str]:
    """Yield a comment, which routers and `filter import` skip, on the end of a filter that has one."""
    if its.expires is not None:
        yield f"# {its.name} ends at {units.moment(its.expires)}; FlowSpec has no time: withdraw its rules then"


def _form(text: str) -> Form:
    from xdpguard.policy.flowspec.text import FORMS

    known = next((it for it in FORMS if it == (text or "gobgp")), None)
    if known is None:
        raise UsageError(f"not a form of FlowSpec: {units.visible(text)!r}", f"write {' or '.join(FORMS)}")
    return known


def _text(file: str) -> tuple[str, str]:
    """Return what a file is called, and its text."""
    if file == "-":
        data = sys.stdin.buffer.read(_MOST + 1) if sys.stdin is not None else b""
        if len(data) > _MOST:
            raise UsageError(f"standard input: larger than {_MOST:,} bytes", _REMEDY)
        return "standard input", data.decode("utf-8", "replace")
    return files.shown(file), files.read_bounded(Path(file), _MOST, _REMEDY).decode("utf-8", "replace")
