# SPDX-License-Identifier: GPL-2.0
"""The question before a change that the screen's keys make, and its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xdpguard.policy.target import Kind, Label, Prefix, Target
from xdpguard.tui import crowd
from xdpguard.tui.changes import LIVES, Change
from xdpguard.tui.draw import Span
from xdpguard.tui.feed import Changer
from xdpguard.tui.view import View

_UNPROVED = "has no connection here, so it may be forged: a block would then stop its true owner, and not the sender"


class Asking:
    """A change that awaits its answer, or none."""

    def __init__(
        self, view: View, changer: Changer, say: Callable[[str, str], None], connected: Callable[[Prefix], bool]
    ) -> None:
        """``connected``: whether an address has proved, by a TCP connection, that it is no forged one."""
        self.change: Change | None = None
        self._view = view
        self._changer = changer
        self._say = say
        self._connected = connected

    def ask(self, verb: Any) -> None:
        """Ask whether to block, allow or remove what is selected, and for how long."""
        found = self._view.chosen()
        chosen = found[0].target(found[1], found[2]) if found else None
        if self._changer.busy:
            self._say("wait: a change is in progress", "notice")
        elif found and found[2] == crowd.PLACE:
            words = "these are many sources, in a flood mostly forged: to block some stops nothing; / finds one of them"
            self._say(words, "notice")
        elif chosen is None:
            self._say("select a source first (table 2), or a rule (table 5)", "notice")
        else:
            kind, target = chosen
            if (verb, kind) == ("remove", "shadow"):
                self._say("to remove a shadow rule use the command line: xdpguard unblock --shadow", "notice")
                return
            if not isinstance(target, Prefix) and verb != "remove":
                self._say("to close a port use the command line: xdpguard block --port", "notice")
                return
            self._question(Change(verb, _kind(verb, kind, target), target))
            # A source that sent something; a rule was chosen by a person.
            if verb == "block" and kind is None and isinstance(target, Prefix) and not self._connected(target):
                self._say(f"{target} {_UNPROVED}", "notice")

    def _question(self, change: Change) -> None:
        self.change = change
        last = len(LIVES) - 1
        lives = f"   {'<' if change.life else ' '} left right {'>' if change.life < last else ' '} how long"
        self._view.prompt = [
            Span(f" {change.words()}?", "notice"),
            Span("  y", "key"),
            Span(" yes", "dim"),
            Span("  n", "key"),
            Span(" no", "dim"),
            Span(lives if change.lasting else "", "dim"),
        ]

    def answer(self, key: str, letter: str) -> None:
        """Do what was asked about, or leave it."""
        assert self.change is not None
        steps = {"left": -1, "right": 1, "minus": -1, "plus": 1}.get(key, 0)
        if steps and self.change.lasting:
            self._question(self.change.longer(steps))
        elif letter in ("y", "Y"):
            change, self.change, self._view.prompt = self.change, None, []
            self._say(f"{change.words()} ...", "dim")
            self._changer.start(change)
        elif key in ("n", "N", "escape", "q"):
            self.change, self._view.prompt = None, []
            self._say("nothing was changed", "")


def _kind(verb: str, kind: Label | None, target: Target) -> Kind:
    if verb == "allow":
        return "allow"
    if verb == "block":
        return "block"
    if kind is None or kind == "shadow":
        return "block" if isinstance(target, Prefix) else "port"
    return kind
