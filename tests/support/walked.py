# SPDX-License-Identifier: GPL-2.0
"""One instance of a walk: what it should do by the model, and what the store and the kernel do."""

from __future__ import annotations

import signal
import time

from topology import Lab

from support.command import Command
from support.policy_model import Change, Entry, Key, Policy, Probe, drops, live, touched, unsure
from support.service import Run
from support.traffic import eventually
from support.verdicts import Asked
from support.walk_steps import SPARE, Step, spare
from support.wrong_clock import Wrong
from xdpguard.store.database import Store

PROBES = [
    Probe(source, port)
    for source in (
        *("198.51.100.7", "198.51.100.70", "198.51.100.200", "203.0.113.9", "203.0.113.99"),
        *("2001:db8:66::7", "2001:db8:66::8", "2001:db8:67::1"),
    )
    for port in (99, 5000, 5001, 5002)
]
_TABLES = {"rules": ("kind", "target"), "lists": ("'list'", "name"), "filters": ("'filter'", "name")}


class Found(AssertionError):
    """The kernel, the store and the model differ."""


class Walked:
    """One instance, what it should do, and what it does."""

    def __init__(self, command: Command, lab: Lab, interface: str, wrong: Wrong) -> None:
        self.command, self.lab, self.interface = command, lab, interface
        self.policy: Policy = {}
        self.changes: list[Change | None] = []  # those that are kept; None: undone
        self.attached = False  # as the store has it
        self.carried = False  # whether the interface carries its program
        self.run: Run | None = None
        self.wrong = wrong
        self.asked = Asked(lab.server, interface)

    @property
    def place(self) -> tuple[str, ...]:
        """Its interface, as words."""
        return self.interface, "--netns", self.lab.server

    def there(self) -> bool:
        """Whether its interface exists."""
        return self.asked.exists()

    def do(self, step: Step, fault: str, clock: int) -> str:
        """Run one command; return what became of it."""
        before, kept, began = live(self.policy), self.recorded(), time.monotonic()
        wrong = self.wrong.ahead(clock) if clock else {}
        done = self.command(*step.words, stdin=step.stdin, fault=fault, **wrong)
        after = step.effect(before, began, time.monotonic())
        if done.code == -signal.SIGKILL and fault:
            return self._killed(step, before, after, kept)
        if (step.undoes is not None or touched(before, after)) and done.code:
            raise Found(f"{step.words}: {done}")
        self.policy = after
        self._note(step, before, after)
        return "done"

    def _note(self, step: Step, before: Policy, after: Policy) -> None:
        if step.undoes is not None:
            self.changes[step.undoes] = None
        elif its := touched(before, after):
            self.changes = [*self.changes, Change(" ".join(step.words), its)][-10:]

    def _killed(self, step: Step, before: Policy, after: Policy, kept: list[int]) -> str:
        """The change is there as a whole or not at all, and the next command makes it so."""
        if self.carried and not unsure(before, time.monotonic()) and not unsure(after, time.monotonic()):
            wrong = [it for it in PROBES if self.asked.drops(it) not in {drops(before, it), drops(after, it)}]
            if wrong:
                raise Found(f"killed in {step.words}: neither before nor after for {wrong}")
        key: Key = "block", SPARE
        self.command.ok("block", SPARE)
        # The journal is part of the change: what it holds besides the last command is the killed one.
        new = [it for it in self.recorded() if it > (kept[-1] if kept else 0)]
        done = len(new) > (key not in before)
        if step.undoes is not None:
            done = kept[-1] not in self.recorded()
        self.policy = after if done else before
        if done:
            self._note(step, before, after)
        if key not in self.policy:
            self._note(spare(), self.policy, {**self.policy, key: Entry()})
            self.policy = {**self.policy, key: Entry()}
        return "killed, kept" if done else "killed, taken back"

    def recorded(self) -> list[int]:
        """The changes that can be undone, as the store numbers them."""
        if not self.command.store.exists():
            return []
        with Store(self.command.store, read_only=True) as store:
            return [number for (number,) in store.execute("SELECT id FROM changes WHERE state = 'kept' ORDER BY id")]

    def stored(self) -> set[Key]:
        """The entries in the store that have not ended."""
        found: set[Key] = set()
        with Store(self.command.store, read_only=True) as store:
            for table, (kind, name) in _TABLES.items():
                ended = "expires IS NOT NULL AND expires <= ?" if table != "lists" else "? < 0"
                rows = store.execute(f"SELECT mode, {kind}, {name} FROM {table} WHERE NOT ({ended})", (time.time(),))
                found |= {(kind if mode == "enforce" else f"shadow {kind}", str(name)) for mode, kind, name in rows}
        return found

    def check(self) -> None:
        """Compare all that can be seen, at a time when no end is near. Raise Found."""
        wrong, known = "", False
        while not known:
            if left := unsure(self.policy, time.monotonic()):
                time.sleep(left)
            self.policy = live(self.policy)
            wrong = self._wrong()
            now = time.monotonic()  # a busy machine may have taken long, so that something has ended meanwhile
            known = not wrong or (not unsure(self.policy, now) and live(self.policy, now) == self.policy)
        if wrong:
            raise Found(f"{self.interface}: {wrong}")

    def _wrong(self) -> str:
        """Say what differs from the model; nothing if nothing does."""
        if self.command.store.exists() and (its := self.stored()) != self.policy.keys():
            return f"the store has {its}, not {set(self.policy)}"
        if self.run and self.attached and self.there() and not eventually(self.asked.attached, 30):
            return f"run has not attached again: {self.run.lines}"
        self.carried = self.asked.attached()
        if self.carried and not self.attached:
            return "still attached"
        for it in PROBES if self.carried else []:
            if (drop := self.asked.drops(it)) != drops(self.policy, it):
                return f"{it} dropped: {drop}; policy {dict(self.policy)}"
        return ""
