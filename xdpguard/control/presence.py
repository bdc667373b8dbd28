# SPDX-License-Identifier: GPL-2.0
"""Where what is stored is in force at this moment: on which of the recorded interfaces. Reads no more than netlink."""

from __future__ import annotations

import socket
from typing import NamedTuple

from xdpguard.net import netns
from xdpguard.net.carried import program_on
from xdpguard.net.netns import place_of
from xdpguard.store.database import Attachment, Store

NOTHING = "nothing is attached: stored, in force from the next attach on"


class Presence(NamedTuple):
    """A recorded interface. ``fault``: why it does not carry the program, after its name; empty if it does."""

    name: str
    netns: str
    observe: bool
    fault: str

    @property
    def place(self) -> str:
        """The interface as people are shown it."""
        return place_of(self.name, self.netns)


class Presences(NamedTuple):
    """The recorded interfaces."""

    all: tuple[Presence, ...]

    @property
    def carrying(self) -> list[Presence]:
        """Those that carry the program."""
        return [it for it in self.all if not it.fault]

    @property
    def enforcing(self) -> list[Presence]:
        """Those that carry the program and do more than observe."""
        return [it for it in self.carrying if not it.observe]

    def notes(self, nothing: str = NOTHING) -> list[str]:
        """Return what a user must know about where entries are in force; empty if everywhere.

        ``nothing``: what to say while nothing is attached.
        """
        if not self.all:
            return [nothing]
        lost, observing = [it for it in self.all if it.fault], [it for it in self.carrying if it.observe]
        found = []
        if lost and self.enforcing:
            found.append(f"in force on {', '.join(it.place for it in self.enforcing)}")
        elif not self.enforcing:
            found.append("stored; in force on no interface at this moment")
        found += [f"{it.place} {it.fault}; see xdpguard status" for it in lost]
        return found + [f"{it.place} only observes: it counts what would be dropped" for it in observing]


def presences(store: Store) -> Presences:
    """Return the recorded interfaces, and whether each carries the program."""
    return Presences(tuple(Presence(it.name, it.netns, it.observe, _fault(it)) for it in store.attachments()))


def _fault(known: Attachment) -> str:
    found = program_on(known.name, known.netns)
    if found == known.prog_id:
        return ""
    moved = _found(known)
    if moved:
        return f"is now {moved}, and carries the program there"
    if found is None:
        return "is not there under that name"
    return "carries another program" if found else "lost its program"


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
