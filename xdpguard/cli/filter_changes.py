# SPDX-License-Identifier: GPL-2.0
"""What every command that changes filters does: check, change, and say what is so now."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import typer

from xdpguard.cli import render, undoing
from xdpguard.cli.session import options, ruleset

if TYPE_CHECKING:
    from xdpguard.control.ruleset import Ruleset
    from xdpguard.policy.filter import Filter


def change(
    context: typer.Context,
    plan: Callable[[list[Filter]], list[Filter]],
    forced: Collection[str] | None,
    told: Callable[[Ruleset], Sequence[str]],
    confirm: str,
    force: bool,
    notes: Callable[[Ruleset, Collection[str]], Sequence[str]] | None = None,
    stored: bool = True,
) -> None:
    """Change the filters as planned, unless that cuts off what the host needs, and say what is so now.

    ``forced``: the filters that --force is about; None: all. ``stored``: say where they are in force.
    """
    from xdpguard.control import needed, safety
    from xdpguard.control.presence import presences_of

    with ruleset(options(context), command=undoing.of_command(context, confirm)) as found:
        found.filters.purge()
        wanted = plan(found.filters.stored.all())
        alive = [it for it in wanted if it.alive(time.time())]
        cut, by_default = safety.lost_by_filters(found.store, alive) if force else ([], False)
        if not force:
            safety.check_filters(found.store, alive)
        found.filters.apply(wanted)
        if force:
            names = forced if forced is not None else [it.name for it in alive]
            needed.accept(found.store, filters=names, default=by_default)
        lines = told(found)
        more = notes(found, forced or ()) if notes else ()
        where = presences_of(found)
    for text in lines:
        render.say(text)
    for text in (*more, *cut, *(where.notes() if stored else ())):
        render.note(text)
