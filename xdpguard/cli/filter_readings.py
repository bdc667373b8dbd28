# SPDX-License-Identifier: GPL-2.0
"""The commands filter list and filter show."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from xdpguard.cli import filter_flowspec, filters_shown, output, render
from xdpguard.cli.session import options, ruleset
from xdpguard.errors import UsageError

SHOW_EXAMPLES = """
\b
Examples:
  xdpguard filter show long-dns
  xdpguard filter show long-dns --flowspec
  xdpguard filter show long-dns --flowspec --form exabgp
"""
LIST_EXAMPLES = """
\b
Examples:
  xdpguard filter list
  xdpguard filter list --flowspec > rules.txt

--flowspec prints the filters that are enforced, as far as BGP FlowSpec has words for them, and names the others.
"""

_FlowSpec = Annotated[bool, typer.Option("--flowspec", help="As BGP FlowSpec rules; see --form.")]
_Form = Annotated[
    str, typer.Option("--form", metavar="FORM", help="With --flowspec: gobgp (default) or exabgp.", show_default=False)
]


def show_all(
    context: typer.Context,
    flowspec: _FlowSpec = False,
    form: _Form = "",
    as_json: output.Json = False,
    _output: output.Output = "",
) -> None:
    """Show the filters in the order in which they are asked, and what they have matched."""
    _check(flowspec, form)
    output.expect_table(not flowspec, "leave out --flowspec or -o")
    if not flowspec:
        _show(context, "", as_json)
        return
    with ruleset(options(context), read_only=True) as kept:
        filters = kept.filters.alive()
    filter_flowspec.show_all(filters, form, as_json)


def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the filter is called.", show_default=False)],
    flowspec: _FlowSpec = False,
    form: _Form = "",
    as_json: output.Json = False,
) -> None:
    """Show one filter: what it matches, does and has matched, or as rules of BGP FlowSpec."""
    from xdpguard.control.filter_order import found as find

    _check(flowspec, form)
    if not flowspec:
        _show(context, name, as_json)
        return
    with ruleset(options(context), read_only=True) as kept:
        its = find(kept.filters.stored.all(), name)
    filter_flowspec.show(its, form, as_json)


def _check(flowspec: bool, form: str) -> None:
    if form and not flowspec:
        raise UsageError("--form without --flowspec", "write --flowspec --form gobgp, or exabgp")


def _show(context: typer.Context, name: str, as_json: bool) -> None:
    from xdpguard.control.filter_order import found as find
    from xdpguard.control.presence import presences_of

    with ruleset(options(context), read_only=True) as kept:
        if name:
            find(kept.filters.stored.all(), name)
        pairs = list(enumerate(kept.filters.in_force(), start=1))
        where = presences_of(kept)
        asked = filters_shown.asked_lists(kept, [name]) if name else []
    mine = [(place, it) for place, it in pairs if name in ("", it.its.name)]
    if as_json:
        from xdpguard.cli.answers.filters import Filter as Answer

        answers = [Answer.of(it, place, where) for place, it in mine]
        render.print_json(answers[0] if name else answers)
        return
    if name:
        for text in filters_shown.lines(*mine[0], len(pairs)):
            render.say(text)
    elif mine:
        now = time.time()
        rows = [filters_shown.row(place, it, now) for place, it in mine]
        render.print_table(filters_shown.COLUMNS, rows)
    else:
        render.say("no filters; add one with: xdpguard filter add NAME MATCH --drop")
        return
    for text in (*asked, *where.notes("nothing is attached: none of these is in force")):
        render.note(text)
