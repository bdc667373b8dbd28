# SPDX-License-Identifier: GPL-2.0
"""Changes made from the screen: first described in words, then made exactly as by the command line."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

from xdpguard.control import confirm, safety
from xdpguard.control.presence import presences_of
from xdpguard.control.ruleset import Ruleset
from xdpguard.control.standing import Standing
from xdpguard.policy.target import Kind, Prefix, Target
from xdpguard.units import span

LIVES: tuple[int | None, ...] = (60, 600, 3600, 86_400, None)  # seconds; None: for good
USUAL = 1  # index into LIVES

# Opens the rules with the lock held; its argument receives messages while it waits.
Opened = Callable[[Callable[[str], None]], AbstractContextManager[Ruleset]]
Verb = Literal["block", "allow", "remove"]

_REASON = "xdpguard top"
_SHORTEN = "use xdpguard block {} --replace"
_REMOVED = {"block": "unblock", "allow": "disallow", "port": "reopen"}
_DONE = {"block": "blocked", "allow": "allowed", "unblock": "unblocked", "disallow": "no longer allowed:"}


@dataclass(frozen=True)
class Change:
    """A change to a rule of a kind. ``life`` is an index into LIVES."""

    verb: Verb
    kind: Kind
    target: Target
    life: int = USUAL

    @property
    def lasting(self) -> bool:
        """Whether it creates a rule, which has an end."""
        return self.verb != "remove"

    def longer(self, steps: int) -> Change:
        """Return this change with a longer or shorter life."""
        return replace(self, life=max(0, min(self.life + steps, len(LIVES) - 1)))

    def words(self) -> str:
        """Describe what will be done."""
        verb = self.verb if self.lasting else _REMOVED[self.kind]
        return f"{verb} {self.target}{f' {self._life()}' if self.lasting else ''}"

    def done(self) -> str:
        """Describe what was done."""
        verb = self.verb if self.lasting else _REMOVED[self.kind]
        return f"{_DONE.get(verb, 'reopened')} {self.target}{f' {self._life()}' if self.lasting else ''}"

    def _life(self) -> str:
        seconds = LIVES[self.life]
        return "for good" if seconds is None else f"for {span(seconds)}"

    def make(self, opened: Opened, on_wait: Callable[[str], None], begun: Callable[[], None] = lambda: None) -> str:
        """Make the change and return what was done. Raise XdpguardError, with nothing changed, if it fails.

        ``begun`` is called once the lock is held.
        """
        with opened(on_wait) as found:
            begun()
            confirm.refuse_another(found.store)
            found.changes.record(f"top: {self.words()}")
            seconds = LIVES[self.life]
            if isinstance(self.target, Prefix):
                if self.verb == "block":
                    safety.check_block(found.store, [self.target], seconds)
                elif self.verb == "allow":
                    safety.check_allow(found.store, [self.target], seconds)
                elif (self.verb, self.kind) == ("remove", "allow"):
                    safety.check_disallow(found.store, [self.target])
            found.rules.purge()
            standing = Standing(found)
            if not self.lasting:
                removed = found.rules.remove(self.kind, [self.target])
                done = f"{self.target} had ended by itself" if removed.ended else self.done()
                words = standing.dropped(self.target) if isinstance(self.target, Prefix) else ""
                being = presences_of(found).being("still" if self.kind == "block" else "now")
                return f"{done}; but it {being} {words}" if words else done
            (put,) = found.rules.add(self.kind, [self.target], _REASON, "cli", seconds).puts
            done = put.words(_SHORTEN.format(self.target)) if put.before else self.done()
            if self.verb == "block" and isinstance(self.target, Prefix) and (words := standing.passing(self.target)):
                done += f"; but {words}"
            return "; ".join([done, *presences_of(found).notes()])
