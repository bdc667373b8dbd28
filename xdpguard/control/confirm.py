# SPDX-License-Identifier: GPL-2.0
"""Commit-confirm: a change that is undone unless it is confirmed in time.

The store holds it, with a deadline on a clock that no one sets. Whoever opens the store after the deadline undoes it
first: a waiting process or timer (cli/arming.py), `run`, or the next command. A restart of the machine ends its time.
"""

from __future__ import annotations

from xdpguard import units
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.store import journal
from xdpguard.store.database import Store
from xdpguard.store.journal import Change

LONGEST = 86_400  # seconds


def seconds(text: str) -> int:
    """Parse the time of ``--confirm``; return seconds. Raise UsageError if it is not a time, or longer than a day."""
    from xdpguard.policy.duration import parse_duration

    found = parse_duration(text)
    if found > LONGEST:
        raise UsageError(f"--confirm {text} is longer than a day", "give the time in which you will know: 60s, 10m")
    return found


def refuse_another(store: Store) -> None:
    """Raise XdpguardError while a change waits for its confirmation: a second one would make unclear what is undone."""
    waiting = journal.pending(store)
    if waiting is not None:
        raise XdpguardError(
            f"{waiting.command!r} waits for its confirmation, {units.span(waiting.left())} left",
            "nothing was changed; keep it (xdpguard confirm) or take it back (xdpguard undo) first",
        )


def confirm(store: Store) -> Change:
    """Keep the change that waits for its confirmation, and return it. Raise XdpguardError if there is none."""
    waiting = journal.pending(store)
    if waiting is None:
        gone = unconfirmed(store)
        why = f"; {told(gone)}" if gone else ""
        raise XdpguardError(
            f"no change waits for its confirmation{why}",
            "give it again if you still want it" if gone else "a change does after --confirm TIME",
        )
    with store.transaction():
        journal.settle(store, waiting, "kept")
    return waiting


def unconfirmed(store: Store) -> Change | None:
    """Return the last change if it was undone because nobody confirmed it."""
    return next((it for it in journal.changes(store)[:1] if it.state == "unconfirmed"), None)


def told(change: Change) -> str:
    """Describe a change that was undone because nobody confirmed it."""
    return f"{change.command!r} was not confirmed in time and was undone at {units.moment(change.settled or 0.0)}"
