# SPDX-License-Identifier: GPL-2.0
"""promote: shadow entries become enforced ones."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import entries, render, undoing
from xdpguard.cli.rules import tell_overridden
from xdpguard.cli.session import options, ruleset
from xdpguard.cli.targets import Targets, prefixes
from xdpguard.errors import UsageError
from xdpguard.policy.hits import NO_SPLIT

if TYPE_CHECKING:
    from xdpguard.control.promote import Promotion

_EXAMPLES = """
\b
Examples:
  xdpguard promote 198.51.100.0/24 --dry-run     what it would have dropped so far, and whether it is refused
  xdpguard promote 198.51.100.0/24
  xdpguard promote --list firehol
  xdpguard promote --all
  xdpguard promote --all --confirm 10m           undone in ten minutes, unless xdpguard confirm follows
\b
All that are named, or none, in one step: there is no moment at which an entry neither counts nor drops. Reason, origin
and end are kept; counting begins anew. It is refused as `block` and `lists load` would be, and when an entry would have
dropped packets of established peers. A list takes the place of the one of its name that is in force.
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
    everything: Annotated[bool, typer.Option("--all", help="Every shadow rule and shadow list.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Even if it cuts off an address this host needs, or established peers."),
    ] = False,
    confirm: undoing.Confirm = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Let shadow entries drop what they have only counted so far."""
    from xdpguard.control import promote as promotion

    if everything and (targets or names):
        raise UsageError("--all leaves nothing to name", "leave out the targets and lists, or --all")
    if dry_run and confirm:
        raise UsageError("--confirm does not go with --dry-run", "there is nothing to confirm")
    command = None if dry_run else undoing.of_command(context, confirm)
    wanted = prefixes(targets) if targets or not (names or everything) else []
    with ruleset(options(context), read_only=dry_run, command=command) as found:
        if not dry_run:
            found.changes.catch_up()
        chosen = promotion.choose(found, wanted, names or [], everything)
        if not as_json:
            _tell(chosen)
        if not force:
            promotion.check(found, chosen)
        if not dry_run:
            promotion.promote(found, chosen, force)
        if len(chosen.rules) <= 100:
            tell_overridden(found.store, [it.rule.target for it in chosen.rules])
    for text in chosen.notes:
        render.note(text)
    if as_json:
        from xdpguard.cli.answers.entries import Promotion as Answer

        render.print_json(Answer.of(chosen, promoted=not dry_run))
        return
    what = _counted(chosen)
    if dry_run:
        typer.echo(f"would promote {what}; nothing was changed")
        return
    typer.echo(f"promoted {what}")
    if not chosen.in_force:
        render.note("nothing is attached: stored, in force from the next attach on")


def _tell(chosen: Promotion) -> None:
    """Print what would be hit, also when the promotion is then refused."""
    now = time.time()
    for rule in chosen.rules[:20]:
        left = "for good" if rule.rule.expires is None else f"for {units.span(rule.rule.expires - now)}"
        typer.echo(f"{rule.rule.target}, {left}: {entries.words(rule.split or NO_SPLIT)}")
    if len(chosen.rules) > 20:
        typer.echo(f"... and {len(chosen.rules) - 20:,} rules more")
    for it in chosen.lists:
        its = it.its
        typer.echo(f"list {its.name}, {its.entries:,} entries: {entries.words(it.split or NO_SPLIT)}")


def _counted(chosen: Promotion) -> str:
    rules, lists = len(chosen.rules), len(chosen.lists)
    parts = [f"{rules:,} rule{'s' * (rules != 1)}"] * bool(rules) + [f"{lists:,} list{'s' * (lists != 1)}"] * bool(
        lists
    )
    return " and ".join(parts)
