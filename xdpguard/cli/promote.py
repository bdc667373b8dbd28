# SPDX-License-Identifier: GPL-2.0
"""The command promote, which enforces shadow entries."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import entries, render, undoing
from xdpguard.cli.changing import overridden
from xdpguard.cli.session import options, ruleset
from xdpguard.cli.targets import Targets, prefixes
from xdpguard.errors import UsageError
from xdpguard.policy.hits import NO_SPLIT

if TYPE_CHECKING:
    from xdpguard.control.promote import Promotion

_EXAMPLES = """
\b
Examples:
  xdpguard promote 198.51.100.0/24 --dry-run     what it would have dropped so far, and any refusal
  xdpguard promote 198.51.100.0/24
  xdpguard promote --list firehol
  xdpguard promote --filter long-dns
  xdpguard promote --all
  xdpguard promote --all --confirm 10m           undone in ten minutes, unless xdpguard confirm follows

All named entries are promoted or none, in one step: at every moment an entry either counts or drops. Reason, origin
and end are kept; hit counts start at zero. It is refused where `block` and `lists load` would be, and if an entry would
have dropped packets of established peers. A list replaces the enforced list of the same name.
"""


def register(app: typer.Typer) -> None:
    """Add this command to the application."""
    app.command(epilog=_EXAMPLES)(promote)


def promote(
    context: typer.Context,
    targets: Targets = None,
    names: Annotated[
        list[str] | None, typer.Option("--list", metavar="NAME", help="A shadow list; may be repeated.")
    ] = None,
    filters: Annotated[
        list[str] | None, typer.Option("--filter", metavar="NAME", help="A shadow filter; may be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every shadow rule, list and filter.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Promote even if it cuts off an address this host needs, or established peers."),
    ] = False,
    confirm: undoing.Confirm = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Enforce shadow entries: drop what they have only counted so far."""
    from xdpguard.control import promote as promotion
    from xdpguard.control.presence import presences_of

    if everything and (targets or names or filters):
        raise UsageError("--all cannot be combined with targets, --list or --filter", "leave out one or the other")
    if dry_run and confirm:
        raise UsageError("--confirm and --dry-run cannot be combined", "leave out --confirm: nothing is changed")
    command = None if dry_run else undoing.of_command(context, confirm)
    wanted = prefixes(targets, "promote") if targets or not (names or filters or everything) else []
    with ruleset(options(context), read_only=dry_run, command=command) as found:
        if not dry_run:
            found.changes.catch_up()
        chosen = promotion.choose(found, wanted, names or [], filters or [], everything)
        if not as_json:
            _tell(chosen)
        if not force:
            promotion.check(found, chosen)
        if not dry_run:
            promotion.promote(found, chosen, force)
        for text in overridden(found, [it.rule.target for it in chosen.rules]):
            render.note(text)
        where = presences_of(found)
        if not dry_run:
            chosen.in_force = bool(where.enforcing)
    for text in chosen.notes:
        render.note(text)
    if as_json:
        from xdpguard.cli.answers.entries import Promotion as Answer

        render.print_json(Answer.of(chosen, promoted=not dry_run))
        return
    what = _counted(chosen)
    if dry_run:
        render.say(f"would promote {what}; nothing was changed")
        return
    render.say(f"promoted {what}")
    for text in where.notes():
        render.note(text)


def _tell(chosen: Promotion) -> None:
    """Print what would be hit, even if the promotion is then refused."""
    now = time.time()
    for rule in chosen.rules[:20]:
        left = "for good" if rule.rule.expires is None else f"for {units.span(rule.rule.expires - now)}"
        render.say(f"{rule.rule.target}, {left}: {entries.words(rule.split or NO_SPLIT)}")
    if len(chosen.rules) > 20:
        render.say(f"... and {render.counted(len(chosen.rules) - 20, 'more rule')}")
    for it in chosen.lists:
        its = it.its
        render.say(
            f"list {its.name}, {render.counted(its.entries, 'entry', 'entries')}: {entries.words(it.split or NO_SPLIT)}"
        )
    for one in chosen.filters:
        hits, limit = one.hits, one.its.action == "limit"
        packets = hits.limited_packets if limit else hits.packets
        render.say(f"filter {one.its.name}, {one.its.does}: {render.counted(packets, 'packet')} so far")


def _counted(chosen: Promotion) -> str:
    counts = ((len(chosen.rules), "rule"), (len(chosen.lists), "list"), (len(chosen.filters), "filter"))
    parts = [render.counted(number, what) for number, what in counts if number]
    return " and ".join(parts) if len(parts) < 3 else f"{', '.join(parts[:-1])} and {parts[-1]}"
