# SPDX-License-Identifier: GPL-2.0
"""Random walks over the command line: after each step, what the kernel decides about packets is what the model says."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

from topology import INTERFACE, Lab

from support.command import Command
from support.policy_model import Change, Entry, Key, Policy, Probe, drops, live, touched, unsure
from support.service import Run
from support.traffic import eventually
from support.verdicts import Asked
from support.walk_steps import SPARE, Step, drawn, undone
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
SECOND = "walk0"  # the interface that goes and comes back
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
        spare: Key = "block", SPARE
        self.command.ok("block", SPARE)
        # The journal is part of the change: what it holds besides the last command is the killed one.
        new = [it for it in self.recorded() if it > (kept[-1] if kept else 0)]
        done = len(new) > (spare not in before)
        if step.undoes is not None:
            done = kept[-1] not in self.recorded()
        self.policy = after if done else before
        if done:
            self._note(step, before, after)
        if spare not in self.policy:
            self._note(Step(("block", SPARE), step.effect), self.policy, {**self.policy, spare: Entry()})
            self.policy = {**self.policy, spare: Entry()}
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
        """Compare all that can be seen."""
        if left := unsure(self.policy, time.monotonic()):
            time.sleep(left)
        self.policy = live(self.policy)
        if self.command.store.exists() and (its := self.stored()) != self.policy.keys():
            raise Found(f"{self.interface}: the store has {its}, not {set(self.policy)}")
        if self.run and self.attached and self.there() and not eventually(self.asked.attached, 30):
            raise Found(f"{self.interface}: run has not attached again: {self.run.lines}")
        self.carried = self.asked.attached()
        if self.carried and not self.attached:
            raise Found(f"{self.interface}: still attached")
        for it in PROBES if self.carried else []:
            if self.asked.drops(it) != drops(self.policy, it):
                raise Found(f"{self.interface}: {it} dropped: {self.asked.drops(it)}; policy {dict(self.policy)}")


class Walk:
    """Two instances on two interfaces of a lab. Close it."""

    def __init__(self, folder: Path, lab: Lab, seed: int, say: Callable[[str], None]) -> None:
        self._random, self._lab = Random(seed), lab
        self.tally: Counter[str] = Counter()
        self.log: list[str] = []
        self._tell = say
        self._second_back()
        wrong = Wrong(folder / "ahead")
        self._two = [Walked(Command(folder / it), lab, it, wrong) for it in (INTERFACE, SECOND)]

    def close(self) -> None:
        """Leave nothing behind."""
        for its in self._two:
            if its.run:
                its.run.end(signal.SIGKILL)
            its.command.clean()
        subprocess.run(["ip", "-n", self._lab.server, "link", "del", SECOND], check=False, stderr=subprocess.DEVNULL)

    def step(self) -> None:
        """Take one step, and check both instances. Raise Found."""
        its = self._random.choice(self._two)
        name = self._random.choices(("command", "link", "run", "pin", "gone"), (80, 6, 4, 5, 5))[0]
        became = getattr(self, f"_{name}")(its)
        self.tally[became] += 1
        for one in self._two:
            one.check()

    def _say(self, its: Walked, what: str) -> None:
        self.log.append(f"{its.interface}: {what}")
        self._tell(self.log[-1])

    def _command(self, its: Walked) -> str:
        step = undone(its.changes) if self._random.random() < 0.12 else None
        step = step or drawn(self._random, live(its.policy))
        dies = self._random.random() < 0.25
        place = self._random.choice((f"step#{self._random.randint(1, 6)}", f"sql#{self._random.randint(1, 45)}"))
        place = self._random.choice((place, f"bpf#{self._random.randint(1, 6)}"))
        clock = 0 if dies or self._random.random() > 0.03 else self._random.choice((-3600, 3600, 366 * 86_400))
        self._say(its, f"{' '.join(step.words)}{f' [{place}: kill]' if dies else ''}{f' [{clock} s]' if clock else ''}")
        became = its.do(step, f"{place}: kill" if dies else "", clock)
        if dies and became == "done":
            became = "done before its fault"
        return f"undo {became}" if step.undoes is not None else became

    def _link(self, its: Walked) -> str:
        """Attach or detach; killed in the middle, the same command again makes it whole."""
        if not its.there():
            return "no link"
        attach = not its.carried or self._random.random() < 0.4
        words = ("attach" if attach else "detach", *its.place)
        dies = self._random.random() < 0.4
        place = f"{self._random.choice(('step', 'bpf'))}#{self._random.randint(1, 12)}"
        self._say(its, f"{words[0]}{f' [{place}: kill]' if dies else ''}")
        if dies and its.command(*words, fault=f"{place}: kill").code == -signal.SIGKILL:
            # Whatever there is, it is as the rules say or as without a program.
            for it in PROBES if its.asked.attached() else []:
                if its.asked.drops(it) != drops(its.policy, it) and not unsure(its.policy, time.monotonic()):
                    raise Found(f"{its.interface}: a half of {words}: {it}")
        done = its.command(*words)
        if done.code and (attach or its.asked.attached()):
            raise Found(f"{words}: {done}")
        its.attached, its.changes = attach, []
        return words[0]

    def _run(self, its: Walked) -> str:
        if its.run is None and not (its.attached and its.there()):
            return "nothing to run for"
        if its.run is None:
            self._say(its, "run")
            its.run = Run(its.command)
            if not its.run.says("watching"):
                raise Found(f"run: {its.run.lines}")
            return "run"
        how = self._random.choice((signal.SIGKILL, signal.SIGTERM))
        self._say(its, f"run ends by {how.name}")
        its.run.end(how)
        its.run = None
        return "run ended"

    def _pin(self, its: Walked) -> str:
        """A pin is removed: the next command restores it."""
        pins = [it for it in sorted(its.command.pins.rglob("*")) if it.is_file() and "programs" not in it.name]
        if not pins or not its.carried or its.run:
            return "no pin"
        lost = self._random.choice(pins)
        self._say(its, f"pin {lost.name} is gone")
        lost.unlink()
        done = its.command("rules")
        if done.code or not lost.exists():
            raise Found(f"pin {lost} was not restored: {done}")
        return "pin"

    def _gone(self, its: Walked) -> str:
        its = self._two[1]
        if its.there():
            self._say(its, "the interface is gone")
            subprocess.run(["ip", "-n", self._lab.server, "link", "del", SECOND], check=True)
            return "interface gone"
        self._say(its, "the interface is back")
        self._second_back()
        return "interface back"

    def _second_back(self) -> None:
        inside = ["ip", "-n", self._lab.server, "link"]
        subprocess.run([*inside, "add", SECOND, "type", "veth", "peer", "name", f"{SECOND}p"], check=True)
        for name in (SECOND, f"{SECOND}p"):
            subprocess.run([*inside, "set", name, "up"], check=True)


def walk(
    folder: Path, lab: Lab, seed: int, steps: int, seconds: float, say: Callable[[str], None] = lambda line: None
) -> Walk:
    """Walk so many steps, or so long; ``say`` is told each. Raise Found, with the way there."""
    made, began = Walk(folder, lab, seed, say), time.monotonic()
    try:
        for _ in range(steps):
            if time.monotonic() - began > seconds:
                break
            made.step()
    except AssertionError as error:
        way = "\n  ".join(made.log[-40:])
        raise Found(f"--seed {seed} (process {os.getpid()}): {error}\nthe last steps:\n  {way}") from error
    finally:
        made.close()
    return made
