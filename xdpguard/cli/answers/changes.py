# SPDX-License-Identifier: GPL-2.0
"""The answers of ``confirm`` and ``undo``, and what ``status`` says of a change that waits for its confirmation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from xdpguard.store.journal import Change as Made


class Change(Struct, frozen=True, kw_only=True):
    """A change made by a command. ``state``: kept, pending, undone, unconfirmed; ``settled``: when it was undone.

    Times are Unix seconds; ``seconds_left``: of a pending one, until it is undone.
    """

    command: str
    made: int
    state: str
    settled: int | None
    seconds_left: float | None
    undoable: bool

    @classmethod
    def of(cls, its: Made) -> Change:
        """Convert a recorded change."""
        pending = its.state == "pending"
        return cls(
            command=its.command,
            made=int(its.made),
            state=its.state,
            settled=None if its.settled is None else int(its.settled),
            seconds_left=round(its.left(), 1) if pending else None,
            undoable=not its.large and its.state in ("kept", "pending"),
        )


class Confirmation(Struct, frozen=True, kw_only=True):
    """``pending``: what waits for its confirmation; ``confirmed``: what was confirmed now; ``unconfirmed``: the last
    change, if it was undone because nobody confirmed it.
    """

    pending: Change | None
    confirmed: Change | None
    unconfirmed: Change | None

    @classmethod
    def of(cls, waiting: Made | None, gone: Made | None, confirmed: bool = False) -> Confirmation:
        """Convert what waits, or was just confirmed, and what was undone."""
        its = Change.of(waiting._replace(state="kept") if confirmed else waiting) if waiting else None
        return cls(
            pending=None if confirmed else its,
            confirmed=its if confirmed else None,
            unconfirmed=Change.of(gone) if gone else None,
        )


class Undone(Struct, frozen=True):
    """A change that was undone, and what that did, as text."""

    command: str
    made: int
    done: list[str]

    @classmethod
    def of(cls, its: Made, done: list[str]) -> Undone:
        """Convert a change and what undoing it did."""
        return cls(its.command, int(its.made), done)


class Mistake(Struct, frozen=True):
    """A mistake in a configuration file. ``line``: from 1; None if it is not known."""

    line: int | None
    key: str
    message: str
    remedy: str


class Checked(Struct, frozen=True):
    """What is wrong with a configuration file, by line."""

    file: str
    mistakes: list[Mistake]
