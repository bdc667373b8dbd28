# SPDX-License-Identifier: GPL-2.0
"""confirm and undo: keep the change that waits for its confirmation, take changes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import output, render, undoing
from xdpguard.cli.columns import Column, ago
from xdpguard.cli.session import controller, how_to_undo, options, ruleset
from xdpguard.errors import UsageError

if TYPE_CHECKING:
    from xdpguard.store.journal import Change

_COLUMNS = [Column("when"), Column("state"), Column("command", clip="end")]

_CONFIRM_EXAMPLES = """
\b
Examples:
  xdpguard block 203.0.113.0/24 --confirm 60s
  xdpguard confirm                 keep it; without it, it is undone when the minute is over
  xdpguard confirm --show          what waits, and for how long still

The undo does not depend on this terminal: a timer of systemd, a waiting process, `run` or the next command makes it. A
restart of the machine ends the time. Until then no other change is made; confirm, undo and detach always are.
"""
_UNDO_EXAMPLES = """
\b
Examples:
  xdpguard undo                    take the last change back; again, the one before it
  xdpguard undo --list             the last ten changes

An undo is one change, refused where a command with its effect would be. After attach it detaches, or attaches with the
settings and configuration of before. Entries that come back count hits from zero. Bans, reloads and whatever else `run`
changes by itself are not listed.
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command(epilog=_CONFIRM_EXAMPLES)(confirm)
    app.command(epilog=_UNDO_EXAMPLES)(undo)


def confirm(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--show", help="Only show what waits for its confirmation.")] = False,
    as_json: output.Json = False,
) -> None:
    """Keep the change made with --confirm, which is undone otherwise."""
    from xdpguard.control import confirm as confirming
    from xdpguard.store import journal

    with ruleset(options(context), read_only=show) as found:
        waiting = journal.pending(found.store) if show else confirming.confirm(found.store)
        gone = confirming.unconfirmed(found.store)
    if as_json:
        from xdpguard.cli.answers.changes import Confirmation

        render.print_json(Confirmation.of(waiting, gone, confirmed=not show))
    elif not show and waiting:
        render.say(f"confirmed, and kept: {waiting.command}")
    elif waiting:
        render.say(undoing.waiting_text(waiting))
    else:
        render.say(f"no change waits for its confirmation{f'; {confirming.told(gone)}' if gone else ''}")


def undo(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--list", help="Only show the last ten changes, latest first.")] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Even if it cuts off an address this host needs, or what it undoes was changed since."
        ),
    ] = False,
    as_json: output.Json = False,
    _output: output.Output = "",
) -> None:
    """Undo the last change; again, the one before it."""
    from xdpguard.control import undo as undoes
    from xdpguard.store import journal

    chosen = options(context)
    output.expect_table(show, "add --list, or leave out -o")
    if show:
        if force:
            raise UsageError("--list and --force cannot be combined", "give one of them")
        with ruleset(chosen, read_only=True) as found:
            changes = journal.changes(found.store)
        _show(changes, as_json)
        return
    with controller(chosen) as session:
        change = undoes.last(journal.changes(session.store))
        done = undoes.take_back(session, change, how_to_undo(session, chosen, force))
    if as_json:
        from xdpguard.cli.answers.changes import Undone

        render.print_json(Undone.of(change, done))
        return
    render.say(f"undone: {change.command}")
    for text in done:
        render.say(f"  {text}")


def _show(changes: list[Change], as_json: bool) -> None:
    if as_json:
        from xdpguard.cli.answers.changes import Change as Answer

        render.print_json([Answer.of(it) for it in changes])
    elif not changes:
        render.say("no change of a command is recorded")
    else:
        now = time.time()
        render.print_table(_COLUMNS, [[ago(it.made, now), _state(it), it.command] for it in changes])


def _state(change: Change) -> str:
    if change.large:
        return "too large to undo"
    if change.state == "pending":
        return f"{units.span(change.left())} to confirm"
    if change.state == "unconfirmed":
        return "not confirmed, undone"
    return "undone" if change.state == "undone" else "can be undone"
