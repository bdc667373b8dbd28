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
from support.policy_model import drops, live, unsure
from support.service import Run
from support.walk_steps import drawn, spare, undone
from support.walked import PROBES, Found, Walked
from support.wrong_clock import Wrong

SECOND = "walk0"  # the interface that goes and comes back


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
        if clock:
            its.do(spare(), "", 0)  # the ends in the store follow the clock of the last command
            became = "done under a wrong clock"
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
