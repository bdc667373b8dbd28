# SPDX-License-Identifier: GPL-2.0
"""Where what is stored is in force at this moment: on which of the recorded interfaces. Reads no more than netlink."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple, Protocol

from xdpguard.errors import XdpguardError
from xdpguard.net import netns
from xdpguard.net.carried import program_on
from xdpguard.net.netns import arguments_of, place_of
from xdpguard.store.attachments import Attachment, attachments
from xdpguard.store.database import Store

if TYPE_CHECKING:
    from xdpguard.control.change import Changes

UNREACHED = "keeps what it has, which no change reaches: its maps are no longer pinned; attach it again"
NOTHING = "nothing is attached: stored, in force from the next attach on"


class Presence(NamedTuple):
    """A recorded interface.

    ``fault``: why it does not carry the program, as text that follows its name; empty if it does. ``moved``: it carries
    the program under another name or in another namespace, where the rules apply as before.
    """

    name: str
    netns: str
    observe: bool
    fault: str
    moved: str = ""

    @property
    def place(self) -> str:
        """The interface as people are shown it."""
        return place_of(self.name, self.netns)


class Presences(NamedTuple):
    """The recorded interfaces."""

    all: tuple[Presence, ...]

    @property
    def carrying(self) -> list[Presence]:
        """Those that carry the program, wherever they are now."""
        return [it for it in self.all if it.moved or not it.fault]

    @property
    def enforcing(self) -> list[Presence]:
        """Those that carry the program and do more than observe."""
        return [it for it in self.carrying if not it.observe]

    def being(self, adverb: str = "") -> str:
        """Return the verb for what the entries do to a source: "is", or "would be" where nothing enforces them."""
        between = f"{adverb} " * bool(adverb)
        return f"is {between}".rstrip() if self.enforcing else f"would {between}be"

    def notes(self, nothing: str = NOTHING) -> list[str]:
        """Return what a user must know about where entries are in force; empty if everywhere.

        ``nothing``: what to say while nothing is attached.
        """
        if not self.all:
            return [nothing]
        lost, observing = [it for it in self.all if it.fault], [it for it in self.carrying if it.observe]
        found = []
        if lost and self.enforcing:
            found.append(f"in force on {', '.join(it.moved or it.place for it in self.enforcing)}")
        elif not self.enforcing and not any(it.fault == UNREACHED for it in lost):
            found.append("stored; in force on no interface at this moment")
        found += [f"{it.place} {it.fault}; see xdpguard status" for it in lost]
        return found + [f"{it.place} only observes: it counts what would be dropped" for it in observing]


class _Session(Protocol):
    """A controller or a rule set."""

    @property
    def store(self) -> Store: ...

    @property
    def changes(self) -> Changes: ...


def presences_of(session: _Session) -> Presences:
    """Return the recorded interfaces, and whether each carries the program and is reached by what is changed."""
    return presences(session.store, session.changes.attached())


def presences(store: Store, held: bool = True) -> Presences:
    """Return the recorded interfaces, and whether each carries the program. ``held``: the maps of the instance are
    pinned, so that its commands reach them.
    """
    return Presences(tuple(_presence(it, held) for it in attachments(store)))


def unpinned(store: Store) -> XdpguardError | None:
    """Return the error of a command that finds no maps to read, if a program is attached all the same; else None."""
    lost = next((it for it in presences(store, held=False).all if it.fault == UNREACHED), None)
    if lost is None:
        return None
    again = f"attach it again: xdpguard attach {arguments_of(lost.name, lost.netns)}"
    return XdpguardError(f"the maps of {lost.place} are no longer pinned", again)


def nothing_attached(store: Store) -> XdpguardError:
    """Return the error of a command that finds no maps to read: nothing is attached, or what is has lost its pins."""
    return unpinned(store) or XdpguardError("nothing is attached", "attach an interface first: xdpguard attach IFACE")


def _presence(known: Attachment, held: bool) -> Presence:
    found = program_on(known.name, known.netns)
    fault = moved = ""
    if found != known.prog_id:
        moved = _found(known)
        if moved:
            fault = f"is now {moved}, and carries the program there"
        elif found is None:
            fault = "is not there under that name"
        else:
            fault = "carries another program" if found else "lost its program"
    elif not held:
        fault = UNREACHED
    return Presence(known.name, known.netns, known.observe, fault, moved)


def _found(known: Attachment) -> str:
    """Return the interface that carries the program recorded for another name, or the empty string."""
    for place in dict.fromkeys(["", known.netns, *netns.names()]):
        try:
            with netns.entered(place):
                names = [name for _, name in socket.if_nameindex()]
        except netns.NoSuchNamespace:
            continue
        for name in names:
            if (name, place) != (known.name, known.netns) and program_on(name, place) == known.prog_id:
                return place_of(name, place)
    return ""
