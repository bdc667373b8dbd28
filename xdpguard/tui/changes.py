# SPDX-License-Identifier: GPL-2.0
"""Changes made from the screen: described in words first, then made exactly as the command line makes them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

from xdpguard.control import confirm, safety
from xdpguard.control.ruleset import Ruleset
from xdpguard.policy.target import Kind, Prefix, Target
from xdpguard.units import span

LIVES: tuple[int | None, ...] = (60, 600, 3600, 86_400, None)  # seconds; None: for good
USUAL = 1  # index into LIVES

# Opens the rules with the lock held; its argument receives messages while it waits.
Opened = Callable[[Callable[[str], None]], AbstractContextManager[Ruleset]]
Verb = Literal["block", "allow", "remove"]

_REASON = "xdpguard top"
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

    def done(self, changed: bool) -> str:
        """Describe what was done. ``changed``: an existing rule got a new end."""
        verb = self.verb if self.lasting else _REMOVED[self.kind]
        again = " (rule was there, renewed)" if changed else ""
        return f"{_DONE.get(verb, 'reopened')} {self.target}{f' {self._life()}' if self.lasting else ''}{again}"

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
                elif (self.verb, self.kind) == ("remove", "allow"):
                    safety.check_disallow(found.store, [self.target])
            found.rules.purge()
            if not self.lasting:
                found.rules.remove(self.kind, [self.target])
                return self.done(False)
            change = found.rules.add(self.kind, [self.target], _REASON, "cli", seconds)
            if change.kept:
                return f"{self.target} is in the configuration file and stays as it is there"
            done = self.done(change.updated > 0)
            if self.verb == "block" and isinstance(self.target, Prefix):
                for rule in found.store.covering("allow", self.target)[:1]:
                    done += f"; but it is inside {rule.target}, which is allowed: the allow list wins"
            return done
