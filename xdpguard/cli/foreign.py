# SPDX-License-Identifier: GPL-2.0
"""``block --origin`` and ``unblock --origin``: what another program, such as fail2ban, decides, kept under its name.

It may be repeated, and what is not there may be removed. It is no change of a user, so `undo` leaves it alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from xdpguard import units
from xdpguard.cli import places, render
from xdpguard.cli.changing import named, reason_of
from xdpguard.cli.session import options, ruleset
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.policy.duration import end_of
from xdpguard.policy.rule import MODES
from xdpguard.policy.target import Prefix, Target

Origin = Annotated[
    str,
    typer.Option(
        "--origin",
        metavar="NAME",
        help="For programs: what one decides, kept under its name.",
        callback=places.given,
    ),
]

_SAID = 5  # refusals that are said one by one


def check_alone(origin: str, others: dict[str, object]) -> None:
    """Raise UsageError for a name that is no such origin, and for options that are for a user's own rules."""
    from xdpguard.policy.foreign import check_origin

    check_origin(origin)
    given = next((name for name, value in others.items() if value), None)
    if given:
        raise UsageError(
            f"--origin and {given} cannot be combined", "the entries of another program are for sources, and as it says"
        )


def block(
    context: typer.Context, origin: str, targets: Sequence[Prefix], life: str | None, reason: str, shadow: bool
) -> None:
    """Block sources for an origin, or give what it blocks another end. Raise XdpguardError if all are refused."""
    from xdpguard.control.foreign import Foreign
    from xdpguard.control.presence import presences_of
    from xdpguard.policy.foreign import ForeignLimits
    from xdpguard.policy.rule import NewRule

    now, words = time.time(), reason_of(reason)
    expires = end_of(life, now)
    with ruleset(options(context)) as found:
        found.purge()
        its = Foreign(found, origin, ForeignLimits(mode="shadow" if shadow else "enforce"))
        answer = its.put(NewRule("block", it, words, origin, now, expires) for it in targets)
        where = presences_of(found)
    if not answer.taken:
        more = f" (and {len(answer.refused) - 1:,} more)" if len(answer.refused) > 1 else ""
        so_far = f"what {origin} blocked of that so far was removed" if answer.changed else "nothing was changed"
        raise XdpguardError(f"{origin} may not block {answer.refused[0]}{more}", so_far)
    taken: list[Target] = [it.target for it in answer.taken if isinstance(it, NewRule)]
    end = "" if expires is None else f" until {units.moment(expires)}"
    render.say(f"{'counting what a block would drop of' if shadow else 'blocked'} {named(taken)}{end} for {origin}")
    for refused in answer.refused[:_SAID]:
        render.note(f"{origin} may not block {refused}")
    if len(answer.refused) > _SAID:
        render.note(f"... nor {len(answer.refused) - _SAID:,} more")
    for text in where.notes():
        render.note(text)


def unblock(context: typer.Context, origin: str, targets: Sequence[Prefix]) -> None:
    """Remove what an origin blocks, in either mode, and say what drops the same sources still."""
    from xdpguard.control.foreign import Foreign
    from xdpguard.control.presence import presences_of
    from xdpguard.control.standing import Standing

    with ruleset(options(context)) as found:
        count = Foreign(found, origin).remove("block", targets)
        standing, where = Standing(found), presences_of(found)
        left = {it: standing.dropped(it) for it in (targets if len(targets) <= _SAID else ())}
    render.say(f"{origin} no longer blocks {named(targets)}" if count else f"{origin} blocks none of {named(targets)}")
    for target, words in left.items():
        if words:
            render.note(f"{target} {where.being('still')} {words}")


def unblock_all(context: typer.Context, origin: str) -> None:
    """Remove all that an origin blocks, in either mode."""
    from xdpguard.control.foreign import Foreign
    from xdpguard.store import origins

    with ruleset(options(context)) as found:
        count = sum(origins.count_of(found.store, mode, origin) for mode in MODES)
        Foreign(found, origin, needed=()).replace([])
    render.say(f"{origin} blocks nothing any more; it had {render.counted(count, 'rule')}")
