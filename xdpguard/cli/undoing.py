# SPDX-License-Identifier: GPL-2.0
"""What a command does so that its change can be undone: record it, arm the undo of --confirm, undo what is overdue."""

from __future__ import annotations

import syslog
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from xdpguard import units
from xdpguard.cli import render
from xdpguard.errors import XdpguardError

if TYPE_CHECKING:
    from xdpguard.control.change import Changes
    from xdpguard.control.controller import Controller
    from xdpguard.control.undo import Undo
    from xdpguard.store.database import Store
    from xdpguard.store.journal import Change

Confirm = Annotated[
    str,
    typer.Option(
        "--confirm", metavar="TIME", help="Undo it unless `xdpguard confirm` follows within this time: 60s, 10m."
    ),
]


@dataclass(frozen=True)
class Recorded:
    """A command whose change is recorded. ``confirm``: seconds in which it must be confirmed, None if it need not be.

    ``always``: it is not refused while another change waits for its confirmation.
    """

    words: str
    confirm: int | None = None
    always: bool = False

    def begin(self, store: Store, instance: str, step: Callable[[str], None]) -> None:
        """Refuse a change while another waits for its confirmation; arm the undo before anything is changed."""
        from xdpguard.control import confirm

        if not self.always:
            confirm.refuse_another(store)
        if self.confirm is not None:
            from xdpguard.cli import arming

            step("arm")
            arming.arm(instance, self.confirm)
            step("armed")

    @contextmanager
    def recorded(self, changes: Changes) -> Iterator[None]:
        """Record what is changed in the block as the change of this command, and tell how to keep it."""
        changes.record(self.words, self.confirm)
        yield
        change = changes.recorded
        if change is not None and change.large:
            render.note("what this replaced is too large to be kept, so it cannot be undone")
        elif self.confirm is not None and change is None:
            render.note("nothing changed, so that there is nothing to confirm")
        elif self.confirm is not None:
            render.note(f"undone in {units.span(self.confirm)} unless confirmed: xdpguard confirm")


def of_command(context: typer.Context, confirm: str = "", always: bool = False) -> Recorded:
    """Return the running command as it is recorded. ``confirm``: the time of --confirm, empty if it was not given."""
    words: str = context.find_root().obj.words  # Options of session.py, which imports this module
    if not confirm:
        return Recorded(words, None, always)
    from xdpguard.control.confirm import seconds

    return Recorded(words, seconds(confirm), always)


def waiting_text(change: Change) -> str:
    """Describe a change that waits for its confirmation."""
    left = change.left()
    when = f"undone in {units.span(left)}" if left else "about to be undone"
    return f"{change.command!r} waits for its confirmation, and is {when}; keep it: xdpguard confirm"


def settle(
    store: Store,
    controller: Callable[[], Controller],
    how: Callable[[Controller], Undo],
    on_undone: Callable[[str], None],
    on_failed: Callable[[str], None],
) -> None:
    """Undo the change whose time to be confirmed has passed; the lock is held. Failing, it is tried again next time."""
    from xdpguard.store import journal

    change = journal.overdue(store)
    if change is None:
        return
    from xdpguard.control.undo import undo_overdue

    session = controller()
    try:
        session.ruleset.follow_clock()
        text = undo_overdue(session, change, how(session))
    except XdpguardError as error:
        on_failed(f"{change.command!r} was not confirmed in time, and cannot be undone: {error}; {error.remedy}")
        return
    log(text)
    on_undone(text)


def log(text: str) -> None:
    """Write a message to the system's log, which the journal reads as well."""
    syslog.openlog("xdpguard")
    syslog.syslog(syslog.LOG_WARNING, text)
