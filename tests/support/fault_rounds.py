# SPDX-License-Identifier: GPL-2.0
"""Commands times places times faults: after each, no rule is lost, nothing is half in force, the error has a remedy."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from support.command import Result
from support.fault_place import INTERFACE, PROBES, SPARE, FaultPlace, Seen
from xdpguard.control.recover import complaint
from xdpguard.errors import XdpguardError

# Errors of one call, or of that one and all that follow, so that taking back what was done fails as well.
BPF = ("ENOMEM", "E2BIG", "EPERM", "ENOSPC")
SQL = ("ENOSPC", "EROFS", "EIO", "EBUSY")
AT_STEPS = ("disk full", "interface gone", "namespace gone", "program swapped", "pins deleted")
BEFORE = ("read-only", "store locked", "store corrupted")
ATTACHED_AGAIN = ("interface gone", "namespace gone", "program swapped", "pins deleted")


class Words(NamedTuple):
    """A command to suffer faults."""

    words: tuple[str, ...]
    stdin: str | None = None
    first: tuple[str, ...] = ()  # what it needs
    damage: str = ""  # to the store, which it is to mend


def commands(place: FaultPlace) -> dict[str, Words]:
    """Every way to change something, by name."""
    (config := place.folder / "given.toml").write_text('[rules]\nblock = ["198.51.100.65"]\n')
    return {
        "block": Words(("block", "198.51.100.64/26")),
        "block -": Words(("block", "-"), "".join(f"198.51.100.{it}\n" for it in range(65, 90))),
        "unblock": Words(("unblock", "198.51.100.7")),
        "allow": Words(("allow", "203.0.113.99")),
        "disallow": Words(("disallow", "2001:db8:66::7")),
        "close a port": Words(("block", "--port", "5002/udp")),
        "promote": Words(("promote", "203.0.113.0/28")),
        "load a list": Words(("lists", "load", "new", "-"), "203.0.113.0/28\n2001:db8:66::7\n"),
        "swap a list": Words(("lists", "load", "base", "-", "--force"), "203.0.113.0/28\n"),
        "remove a list": Words(("lists", "remove", "base")),
        "add a filter": Words(("filter", "add", "new", "udp dport 5002", "--drop")),
        "remove a filter": Words(("filter", "remove", "first")),
        "guard set": Words(("guard", "set", "mode=always")),
        "default": Words(("default", "drop")),
        "undo": Words(("undo",), first=("block", "198.51.100.64/26")),
        "attach again": Words(place.attach),
        "attach with a file": Words((*place.attach, "--config", str(config))),
        "detach": Words(("detach", INTERFACE, "--netns", place.netns)),
        "recover": Words(("recover",), damage="zeroed"),
        "recover what is gone": Words(("recover",), damage="gone"),
    }


class Case(NamedTuple):
    """A fault of a command. ``place``: as in injection.py, or "before"."""

    command: str
    place: str
    fault: str


class Rounds:
    """Runs cases, and tells what is wrong after them."""

    def __init__(self, place: FaultPlace, seed: int, only: tuple[str, ...] = ()) -> None:
        self._place, self._random = place, Random(seed)
        self.tally: Counter[str] = Counter()
        self._base = place.base()
        self._commands = {name: it for name, it in commands(place).items() if not only or name in only}
        self._before: dict[str, Seen] = {}
        self._after: dict[str, Seen] = {}
        self._sites: dict[str, Counter[str]] = {}

    def _rehearse(self, name: str) -> None:
        """Run a command without a fault: what it does, and where it could suffer one."""
        its, there = self._commands[name], self._place.folder / "places"
        self._before[name] = self._ready(name)
        self._place.damage(its.damage)
        done = self._place.command(*its.words, stdin=its.stdin, fault=f"count: {there}")
        assert done.code == 0, (name, done)
        self._sites[name] = Counter(it.split()[0] for it in json.loads(there.read_text()))
        there.unlink()
        self._after[name] = self._place.seen()
        self._back()

    def _ready(self, name: str) -> Seen:
        """Run what a command needs; return what there is before it."""
        if first := self._commands[name].first:
            self._place.command.ok(*first)
        return self._place.seen()

    def _back(self) -> None:
        """Go back to the state that all begin with, by undoing what was done since."""
        for _ in range(4):
            if self._place.seen() == self._base:
                return
            if self._place.command("undo", "--force").code:
                break
        if self._place.seen() != self._base:
            self.tally["made anew"] += 1
            self._base = self._place.base()

    def cases(self) -> Iterator[Case]:
        """Yield all cases once, in an order drawn at random."""
        left: dict[str, list[Case]] = {}
        names = list(self._commands)
        while names:
            name = self._random.choice(names)
            if name not in left:
                left[name] = self._of(name)
            if left[name]:
                yield left[name].pop()
            else:
                names.remove(name)

    def _of(self, name: str) -> list[Case]:
        """All cases of a command, in an order drawn at random."""
        if name not in self._sites:
            self._rehearse(name)
        before = ("read-only",) if self._commands[name].damage else BEFORE  # of the store: it is damaged already
        found = [Case(name, "before", it) for it in before for _ in range(5)]
        for kind, faults in {"step": (), "bpf": BPF, "sql": SQL}.items():
            for number in range(1, self._sites[name][kind] + 1):
                place = f"{kind}#{number}"
                found.append(Case(name, place, "kill"))
                found += [Case(name, f"{place}{more}", it) for it in faults for more in ("", "+")]
                found += [Case(name, place, it) for it in (AT_STEPS if kind == "step" else ())]
        self._random.shuffle(found)
        return found

    def run(self, case: Case) -> list[str]:
        """Run a case; return what is wrong."""
        its, place = self._commands[case.command], self._place
        if case.command not in self._sites:
            self._rehearse(case.command)
        self._ready(case.command)
        damaged = place.damage(its.damage)
        fault = ""
        if case.place == "before":
            place.begin(case.fault, self._random)
        else:
            fault = f"{case.place}: {f'sh {place.shell(case.fault)}' if case.fault in AT_STEPS else case.fault}"
        done = place.command(*its.words, stdin=its.stdin, fault=fault)
        wrong = [*self._said(done), *self._at_once(case)]
        place.lift()
        became = "done" if done.code == 0 else "killed" if done.code == -signal.SIGKILL else "refused"
        self.tally[f"{case.fault}: {became}"] += 1
        try:
            wrong += self._mended(damaged) if its.damage else []
            wrong += self._repaired(case, done)
        except AssertionError as error:
            wrong.append(str(error))
            self._base = place.base()
        return [f"{case}: {it}\n  {done}" for it in wrong]

    def _said(self, done: Result) -> list[str]:
        """It fails with one line that holds a remedy."""
        if done.code in (0, -signal.SIGKILL):
            return []
        lines = [it for it in done.err.strip().splitlines() if not it.startswith("xdpguard: note")]
        if done.code not in (1, 2, 3) or len(lines) != 1 or "; " not in lines[0]:
            return ["not one line with a remedy"]
        return ["an error that nobody has thought of"] if "unexpected: " in lines[0] else []

    def _at_once(self, case: Case) -> list[str]:
        """What the command does not touch is as before at any moment."""
        before, after = self._before[case.command].drops, self._after[case.command].drops
        now = self._place.drops()
        if now is None:
            return [] if case.fault in ATTACHED_AGAIN or after is None else ["no program"]
        assert before is not None
        after = after or before
        both = zip(PROBES, now, before, after, strict=True)
        # The kernel empties a map of programs with its last pin, and the filters' program is in there.
        blind = {5001, 5002} if case.fault == "pins deleted" else set()
        wrong = [f"{it.source}:{it.port}" for it, its, *may in both if its not in may and it.port not in blind]
        return [f"meanwhile wrong for {', '.join(wrong)}"] if wrong else []

    def _repaired(self, case: Case, done: Result) -> list[str]:
        """The next command works, and there is all of the change or nothing of it."""
        place, wrong = self._place, []
        again = case.fault in ATTACHED_AGAIN
        if case.fault == "store corrupted":
            return self._recovered(case, done)
        if again:
            said = place.command("status")
            if "Traceback" in said.err:
                wrong.append(f"status: {said}")
            place.command.ok(*place.attach, "--replace")
        killed = done.code == -signal.SIGKILL
        if killed and case.command == "detach":
            place.command(*self._commands[case.command].words)  # where it is off, but recorded, `status` says so
        place.command.ok("block", SPARE)
        place.command.ok("unblock", SPARE)
        now, before, after = place.seen(), self._before[case.command], self._after[case.command]
        wanted = [after] if done.code == 0 or (killed and case.command == "detach") else [before]
        # A detach is over once the program is off: what is put back after that may fail.
        wanted += [after] if killed or case.command == "detach" else []
        if not any(now.like(it, again) for it in wanted):
            wrong.append(f"then: {' / or: '.join(now.unlike(it) for it in wanted)}")
        if now.stored[-1]:
            status = place.command.json("status")
            if status["audit"]["ratio"] != 1 or status["audit"]["behind"] or status["degraded"]:
                wrong.append(f"degraded: {status['degraded']} {status['audit']}")
        self._back()
        return wrong

    def _mended(self, damaged: bytes) -> list[str]:
        """The damaged file is not lost, and `recover` mends it if the one with a fault has not."""
        folder = self._place.command.store.parent
        files = [it.read_bytes() for it in folder.glob("store.db*")]
        wrong = ["the damaged file is lost"] if damaged and damaged not in files else []
        again = self._place.command("recover")
        if again.code and "is intact" not in again.err:
            wrong.append(f"recover once more: {again}")
        if left := [it.name for it in folder.glob("recover-*")]:
            wrong.append(f"left behind: {left}")
        for it in folder.glob("*.damaged-*"):
            it.unlink()  # the file system is small
        return wrong

    def _recovered(self, case: Case, done: Result) -> list[str]:
        """A damaged store is told, and `recover` brings back what the kernel holds and the copy.

        What is not told is as it was written; only the record that `undo` goes by has no sums.
        """
        place, wrong = self._place, []
        try:
            told = complaint(place.command.store) is not None
            now = () if told else place.seen().stored
        except XdpguardError:  # such as: written by a newer version
            told, now = False, ()
        wanted = (self._before if done.code else self._after)[case.command].stored
        if now and now != wanted and case.command != "undo":
            wrong.append(f"the damage is not told, and stored is {now}, not {wanted}")
        said = place.command("block", SPARE)
        if told or (said.code == 1 and "xdpguard recover" in said.err):
            drops = place.drops()
            # Filters cannot be read back from the kernel: those that are newer than the copy are lost, and it says so.
            back = place.command("recover")
            assert back.code == 0, back
            lost = "other filters, which cannot be read back" in back.err
            place.command.ok("block", SPARE)
            if not lost and place.drops() != drops:
                wrong.append("recover has changed what is dropped")
            self.tally["recovered"] += 1
        elif said.code:
            wrong.append(f"then: {said}")
        self._base = place.base()
        return wrong
