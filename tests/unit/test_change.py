# SPDX-License-Identifier: GPL-2.0
"""The one way anything changes: killed at any moment, refused, interrupted; nested, joined, and what it costs."""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from support.shared_kernel import TARGETS, SharedTables

from xdpguard.control.change import Changes
from xdpguard.control.entries import Entries
from xdpguard.errors import XdpguardError
from xdpguard.policy.rule import MODES, Mode, NewRule
from xdpguard.policy.target import Target
from xdpguard.store.database import Store

Key = tuple[Mode, Target]
State = dict[Key, str]  # the reason of each rule


class Ruleset:
    """The rules of both modes on one store, as a command opens them."""

    def __init__(self, store: Store, tables: dict[Mode, SharedTables], on_step: Callable[[str], None]) -> None:
        self.store = store
        self.changes = Changes(store, lambda: True, on_step)
        self.of = {mode: Entries(self.changes, tables[mode].opened, mode) for mode in MODES}

    def state(self) -> State:
        """What the store holds."""
        return {(mode, rule.target): rule.reason for mode in MODES for rule in self.store.rules(mode=mode)}


class Look(NamedTuple):
    """What a store and its kernel hold. ``agrees``: the same, each entry counting in its own slot."""

    state: State
    pending: bool
    agrees: bool
    counted: dict[Key, int]


class World:
    """A store and a kernel that outlive commands. ``truth``: packets that each rule should have counted."""

    def __init__(self, path: Path, capacity: int = 64) -> None:
        self.path = path
        self.tables: dict[Mode, SharedTables] = {mode: SharedTables(mode, capacity) for mode in MODES}
        self.truth: Counter[Key] = Counter()

    def command(self, do: Callable[[Ruleset], object], events: int = -1, step: str = "") -> bool:
        """A command in a process of its own, killed at a step, or after so many events: whether it was.

        An event is a step, a write to the kernel, and a statement of SQL.
        """
        child = os.fork()
        if not child:
            left = [events]

            def event(name: str = "") -> None:
                left[0] -= 1
                if left[0] == 0 or (name and name == step):
                    os.kill(os.getpid(), signal.SIGKILL)

            try:
                with Store(self.path) as store:
                    store._database.set_trace_callback(lambda _: event())
                    for its in self.tables.values():
                        its.on_write = event
                    do(Ruleset(store, self.tables, event))
            finally:
                os._exit(0)
        status = os.waitpid(child, 0)[1]
        return os.WIFSIGNALED(status)

    def succeeds(self, do: Callable[[Ruleset], object]) -> bool:
        """Whether a command, in a process of its own, comes to its end."""
        ended = mmap.mmap(-1, 1)

        def noted(its: Ruleset) -> None:
            do(its)
            ended[0] = 1

        self.command(noted)
        return bool(ended[0])

    def look(self) -> Look:
        """What there is now."""
        with Store(self.path, read_only=True) as store:
            its = Ruleset(store, self.tables, lambda step: None)
            rules = {mode: {rule.target: rule.slot for rule in store.rules(mode=mode)} for mode in MODES}
            agrees = all(self.tables[mode].entries() == rules[mode] for mode in MODES)
            counted = {(mode, it.rule.target): it.packets for mode in MODES for it in its.of[mode].in_force()}
            return Look(its.state(), its.changes.pending(), agrees, counted)

    def traffic(self) -> None:
        for mode in MODES:
            self.truth.update((mode, target) for target in self.tables[mode].receive())

    def forget_all_but(self, before: State, after: State) -> None:
        """Of a rule that has gone, or was made anew since, nothing is left."""
        self.truth = Counter({key: count for key, count in self.truth.items() if key in before and key in after})


class Command(NamedTuple):
    """A change: how it is made, and what it makes of a state."""

    do: Callable[[Ruleset], object]
    model: Callable[[State], State]


def adding(mode: Mode, targets: list[Target], reason: str) -> Command:
    return Command(
        lambda its: its.of[mode].add("block", targets, reason, "cli", None, replace=True),
        lambda state: state | {(mode, target): reason for target in targets},
    )


def removing(targets: list[Target]) -> Command:
    """From both modes, in one change."""

    def do(its: Ruleset) -> None:
        with its.changes.begin():
            for entries in its.of.values():
                entries.remove_rules(list(entries.found("block", targets).values()))

    return Command(do, lambda state: {key: reason for key, reason in state.items() if key[1] not in targets})


def promoting(targets: list[Target]) -> Command:
    def do(its: Ruleset) -> None:
        rules = list(its.of["shadow"].found("block", targets).values())
        with its.changes.begin():
            enforced = [NewRule("block", it.target, it.reason, "cli", 0.0, None) for it in rules]
            its.of["enforce"].add_rules(enforced, replace=True)
            its.of["shadow"].remove_rules(rules)

    def model(state: State) -> State:
        moved: State = {
            ("enforce", key[1]): why for key, why in state.items() if key[0] == "shadow" and key[1] in targets
        }
        left = {key: why for key, why in state.items() if key[0] == "enforce" or key[1] not in targets}
        return left | moved

    return Command(do, model)


def replacing(targets: list[Target], reason: str) -> Command:
    """All enforced rules of the command line by these."""
    rules = [NewRule("block", target, reason, "cli", 0.0, None) for target in targets]

    def model(state: State) -> State:
        others = {key: why for key, why in state.items() if key[0] == "shadow" or key[1] in targets}
        return {("enforce", target): reason for target in targets} | others

    return Command(lambda its: its.of["enforce"].replace_source("cli", rules), model)


def anyone(seed: random.Random) -> Command:
    targets: list[Target] = list(seed.sample(TARGETS, seed.randint(1, 5)))
    reason = str(seed.random())
    return seed.choice(
        [
            adding("enforce", targets, reason),
            adding("shadow", targets, reason),
            removing(targets),
            promoting(targets),
            replacing(targets, reason),
        ]
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: hundreds of durable writes take minutes on a busy disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as made:
        yield Path(made)


@pytest.fixture
def world(folder: Path) -> World:
    made = World(folder / "store.db")
    made.command(lambda its: its.changes.catch_up())
    return made


@pytest.mark.timeout(300)
def test_killed_three_hundred_times(world: World) -> None:
    """After each kill the store holds all of a change or nothing, and an entry too many has left its mark."""
    seed = random.Random(12)
    kills, before = 0, world.look()
    while kills < 300:
        chosen = anyone(seed)
        wanted = chosen.model(before.state)
        killed = world.command(chosen.do, events=seed.randint(1, 70))
        after = world.look()
        assert after.state in ((before.state, wanted) if killed else (wanted,))
        assert after.agrees or after.pending, "an entry that nobody would ever take back"
        assert killed or not after.pending
        world.forget_all_but(before.state, after.state)
        world.traffic()
        if killed:
            kills += 1
            if seed.random() < 0.7:
                world.command(lambda its: its.changes.catch_up(), events=seed.choice([-1, seed.randint(1, 30)]))
        world.forget_all_but(after.state, after.state)
        before = world.look()
        assert before.state == after.state
        if not before.pending:
            assert before.agrees
            counted = {key: hits % 256 for key, hits in before.counted.items()}  # a counter is one byte
            assert counted == {key: world.truth[key] % 256 for key in before.state}, "hits of another, or hits lost"
    world.command(lambda its: its.changes.catch_up())
    assert world.look().agrees
    assert not world.look().pending


A, B, C, D = TARGETS[:4]
CHANGES = {
    "add": adding("enforce", [A, B], "new"),
    "add shadow": adding("shadow", [A, D], "new"),
    "remove": removing([A, C]),
    "promote": promoting([C, D]),
    "replace": replacing([B, C], "new"),
}
BOTH = ["rules", "shadow-rules"]
STEPS = {
    "add": ["rules"],
    "add shadow": ["shadow-rules"],
    "remove": BOTH,
    "promote": BOTH,
    "replace": ["rules"],
}


@pytest.mark.parametrize(
    ("what", "step"),
    [(what, step) for what in CHANGES for step in ("mark", "begin", *STEPS[what], "commit", "done")],
)
def test_killed_at_each_step(world: World, what: str, step: str) -> None:
    for made in (adding("enforce", [A], "old"), adding("shadow", [C, D], "old")):
        assert not world.command(made.do)
    before = world.look()
    world.traffic()
    assert world.command(CHANGES[what].do, step=step), f"there is no step {step}"
    after = world.look()
    assert after.state == (CHANGES[what].model(before.state) if step == "done" else before.state)
    assert after.pending == (step not in ("mark", "done"))
    assert after.agrees or after.pending
    assert not world.command(adding("enforce", [TARGETS[9]], "next").do)
    healed = world.look()
    assert healed.agrees
    assert not healed.pending
    if step != "done":
        assert {key: healed.counted[key] for key in before.state} == dict.fromkeys(before.state, 1)


def test_everything_is_rolled_back_when_the_kernel_refuses(world: World) -> None:
    """Of all kinds, at whatever write: at once, without a command after it."""
    for made in (adding("enforce", [A], "old"), adding("shadow", [C, D], "old")):
        world.command(made.do)
    before = world.look()
    for writes in range(3):
        refuser = world.tables["shadow" if writes == 2 else "enforce"]

        def refused(its: Ruleset, refuser: SharedTables = refuser, writes: int = writes % 2) -> None:
            refuser.refuses_after = writes
            with pytest.raises(XdpguardError, match=r"did not accept the .*rules: Cannot allocate memory"):
                promoting([C, D]).do(its)
            assert its.changes.pending(), "nor does it take back what it held"
            refuser.refuses_after = -1
            with pytest.raises(XdpguardError, match="no such rule"), its.changes.begin():
                adding("enforce", [B], "").do(its)
                assert its.of["enforce"].found("block", [B])
                raise XdpguardError("no such rule")

        assert world.succeeds(refused)
        assert world.look() == before


def test_a_part_that_failed_takes_the_whole_with_it(world: World) -> None:
    def swallowed(its: Ruleset) -> None:
        with pytest.raises(XdpguardError, match="is not blocked"), its.changes.begin():
            its.of["enforce"].add("block", [A], "", "cli", None)
            with contextlib.suppress(XdpguardError), its.changes.begin():
                its.of["enforce"].remove("block", [B])

    assert world.succeeds(swallowed)
    assert world.look() == Look({}, False, True, {})


def test_what_a_change_costs(world: World) -> None:
    """One durable mark and one commit; nobody else's entries are written again."""
    world.command(adding("enforce", [A, B], "").do)

    def measured(its: Ruleset) -> None:
        statements: list[str] = []
        its.store._database.set_trace_callback(statements.append)
        writes: list[str] = []
        for mode in MODES:
            world.tables[mode].on_write = lambda: writes.append("")
        adding("enforce", [C], "").do(its)
        assert statements.count("COMMIT") == 2
        assert len(writes) == 2, "its counter set to zero, and its entry"

    assert world.succeeds(measured)


def test_counters_that_a_change_frees_are_given_last(folder: Path) -> None:
    """Should it fail, they are their rules' again. With no other left, whoever counted in them is told apart."""
    world = World(folder / "store.db", capacity=3)
    world.command(adding("enforce", [A, B], "old").do)
    world.traffic()
    assert world.command(replacing([C, D], "new").do, step="commit")
    assert world.tables["enforce"].entries() == {C: 2, D: 0}
    world.traffic()
    world.command(lambda its: its.changes.catch_up())
    assert world.look().counted == {("enforce", A): 0, ("enforce", B): 1}, "none of D's"


def test_no_change_within_a_transaction(world: World) -> None:
    """The mark would not be there before the kernel is changed."""

    def nested(its: Ruleset) -> None:
        with pytest.raises(AssertionError), its.store.transaction(), its.changes.begin():
            pass

    assert world.succeeds(nested)
