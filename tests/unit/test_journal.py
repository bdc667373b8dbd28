# SPDX-License-Identifier: GPL-2.0
"""What a command's change replaced is recorded with it, bounded; and put back into a store that has moved on."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.shared_kernel import TARGETS, SharedTables
from support.timed import timed

from xdpguard.control import confirm, restoring
from xdpguard.control.ruleset import Ruleset
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.errors import UsageError, XdpguardError
from xdpguard.lists.addresses import AddressSet, aggregate
from xdpguard.policy.rule import MODES, Mode
from xdpguard.policy.target import Target
from xdpguard.service.unconfirmed import Unconfirmed
from xdpguard.store import clock, journal
from xdpguard.store.attachments import Attachment, put_attachment, remove_attachment
from xdpguard.store.database import Store
from xdpguard.store.lists import NamedList

A, B, C = TARGETS[:3]
A_BLOCKED = ("block", str(A))


class Maps:
    """Tables of rules in memory, and no lists."""

    def __init__(self) -> None:
        self.of: dict[Mode, SharedTables] = {mode: SharedTables(mode, 64) for mode in MODES}
        self.pins = Pins(Path("/nonexistent"), "none")

    def exists(self) -> bool:
        return True

    def tables(self) -> Any:
        return self.of["enforce"].opened()

    def shadow_tables(self) -> Any:
        return self.of["shadow"].opened()


class Its:
    """A store with its kernel, and commands on it."""

    def __init__(self, path: Path) -> None:
        self.maps = Maps()
        self.path = path

    def opened(self, store: Store) -> Ruleset:
        made = Ruleset(store, self.maps)
        for image in (made.lists, made.shadow_lists, made.filters, made.guard):  # of which the kernel holds nothing
            made.changes._images.remove(image)
        return made

    @contextmanager
    def command(self, words: str, seconds: float | None = None) -> Any:
        with Store(self.path) as store:
            made = self.opened(store)
            made.changes.record(words, seconds)
            yield made

    def changes(self) -> list[journal.Change]:
        with Store(self.path, read_only=True) as store:
            return journal.changes(store)

    def rules(self) -> dict[tuple[str, str], tuple[str, float | None]]:
        with Store(self.path, read_only=True) as store:
            rules = [(mode, it) for mode in MODES for it in store.rules(mode=mode)]
            held = {mode: self.maps.of[mode].entries() for mode in MODES}
            assert all(held[mode] == {it.target: it.slot for of, it in rules if of == mode} for mode in MODES)
            return {(it.label, str(it.target)): (it.reason, it.expires) for _, it in rules}

    def undo(self, strict: bool = True) -> list[restoring.Step]:
        with Store(self.path) as store:
            made = self.opened(store)
            change = next(it for it in journal.changes(store) if it.state != "undone")
            steps = restoring.steps(store, journal.touched(store, change), strict)
            with made.changes.begin():
                restoring.restore(made, steps)
                journal.settle(store, change, "undone")
            return steps


@pytest.fixture
def its(tmp_path: Path) -> Its:
    return Its(tmp_path / "store.db")


def test_each_change_is_taken_back_in_turn(its: Its) -> None:
    states = [its.rules()]
    steps: list[Callable[[Ruleset], object]] = [
        lambda it: it.rules.add("block", [A, B], "first", "cli", None),
        lambda it: it.rules.add("block", [A], "renewed", "cli", 3600.0, replace=True),
        lambda it: it.shadow_rules.add("block", [C], "trial", "cli", None),
        lambda it: it.rules.add("allow", [C], "", "cli", 600.0),
        lambda it: it.unblock([B], list(it.shadow_rules.found("block", [C]).values())),
    ]
    for number, do in enumerate(steps):
        with its.command(f"step {number}") as made:
            do(made)
        states.append(its.rules())
    assert [it.command for it in its.changes()] == ["step 4", "step 3", "step 2", "step 1", "step 0"]
    for before in states[-2::-1]:
        its.undo()
        assert its.rules() == before
    assert {it.state for it in its.changes()} == {"undone"}


def test_a_command_is_one_change_of_several_transactions(its: Its) -> None:
    with its.command("attach eth0") as made:
        with made.store.transaction():
            put_attachment(made.store, Attachment("eth0", "", "native", False), 1.0)
        made.rules.add("block", [A], "", "config", None)
        with made.store.transaction():
            put_attachment(made.store, Attachment("eth0", "", "native", True), 1.0)
            made.store.put_fact("config", "/etc/x.toml")
            made.store.put_fact("maps", "of no interest")
    (change,) = its.changes()
    with Store(its.path) as store:
        rows = journal.touched(store, change)
    assert sorted((it.place, it.key, it.before) for it in rows) == [
        ("facts", ("config",), None),
        ("interfaces", ("eth0", ""), None),
        ("rules", ("enforce", "block", "10.0.0.0"), None),
    ]


def test_a_change_that_was_taken_back_by_the_command_itself_is_none(its: Its) -> None:
    with its.command("attach eth0") as made:
        with made.store.transaction():
            put_attachment(made.store, Attachment("eth0", "", "native", False), 1.0)
        with made.store.transaction():
            remove_attachment(made.store, "eth0", "")
        with pytest.raises(XdpguardError), made.changes.begin():
            made.rules.add("block", [A], "", "cli", None)
            raise XdpguardError("refused")
    assert its.changes() == []
    assert its.rules() == {}


def test_what_has_ended_is_cleared_away_by_no_command(its: Its) -> None:
    """An undo takes back what its user did, not that a command after it found old rules."""
    with its.command("block a while") as made:
        made.rules.add("block", [A], "", "cli", 1e-6)
        made.rules.add("block", [B], "first", "guard", None)
        made.rules.add("block", [B], "second", "cli", 1e-6)
        made.shadow_rules.add("block", [C], "", "cli", 1e-6)
    with its.command("block a again") as made:
        made.purge()
        assert len(made.store.rules()) == 1
        assert [rule.source for rule in made.store.rules()] == ["guard"]
    assert [it.command for it in its.changes()] == ["block a while"], "nothing else has changed"
    with its.command("allow c") as made:
        made.purge()
        made.rules.add("allow", [C], "", "cli", None)
    with Store(its.path) as store:
        assert [it.key for it in journal.touched(store, its.changes()[0])] == [("enforce", "allow", "10.0.0.2")]


def test_ten_are_kept(its: Its) -> None:
    for number in range(12):
        with its.command(f"block {number}") as made:
            made.rules.add("block", [A], str(number), "cli", None, replace=True)
    assert [it.command for it in its.changes()] == [f"block {number}" for number in range(11, 1, -1)]
    with Store(its.path, read_only=True) as store:
        assert {row[0] for row in store.execute("SELECT change FROM change_rows")} == {it.id for it in its.changes()}


def listed(count: int) -> tuple[NamedList, AddressSet]:
    first, none = np.arange(0, 2 * count, 2, dtype=np.uint32), np.array([], np.uint64)
    entries = aggregate(first, first, none, none, np.array([], np.uint8))[0]
    return NamedList("big", 0, "cli", "", "", "plain", time.time(), count, count, 0, 0, False), entries


def test_a_list_is_kept_with_its_entries_unless_it_is_too_large(its: Its, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "LARGEST", 50_000)
    for count in (100, 1000):
        with its.command(f"load {count}") as made:
            made.lists.apply([listed(count)], [])
    its.undo()
    with Store(its.path) as store:
        lists = Ruleset(store, its.maps).lists.stored
        assert (lists.all()[0].given, len(lists.entries("big"))) == (100, 100)
    with its.command("load 10000") as made:
        made.lists.apply([listed(10_000)], [])
    assert not its.changes()[0].large, "what it replaced was small"
    with its.command("drop", 60) as made:
        with pytest.raises(XdpguardError, match="too much to be kept"):
            made.lists.drop("big")
        assert made.lists.stored.find("big"), "a change that could not be undone was made under --confirm"
    with its.command("drop") as made:
        made.lists.drop("big")
    assert its.changes()[0].large
    with Store(its.path, read_only=True) as store:
        assert journal.touched(store, its.changes()[0]) == []


def test_the_ends_of_a_list_come_back(its: Its) -> None:
    """Also what an older version has recorded, whose rows had none: it takes back those that came since."""
    far = 4_000_000_000
    for given, ends in ((3, 0), (3, far), (4, 0)):
        entries = timed({"192.0.2.1": ends, "192.0.2.9": ends and 1_000_000_000, "2001:db8::/32": 0})
        named = listed(3)[0]._replace(given=given, entries=len(entries))
        with its.command(f"load {ends}") as made:
            made.lists.apply([(named, entries)], [])
    assert {step.words() for step in its.undo()} == {"", "list big: as before, 2 entries"}, "one has ended"
    with Store(its.path) as store:
        assert sorted(Ruleset(store, its.maps).lists.stored.entries("big").ends4.tolist()) == [1_000_000_000, far]
        for place, column in (("lists", "shift"), ("list_entries", "ends")):
            store.execute(f"UPDATE change_rows SET before = json_remove(before, '$.{column}') WHERE place = '{place}'")
    assert [step.words() for step in its.undo()] == ["list big: its entries as before"]
    with Store(its.path) as store:
        found = Ruleset(store, its.maps).lists.stored
        assert (found.entries("big").ends, found.all()[0].entries) == (None, 3)


def test_a_row_that_an_older_version_left_is_known_again() -> None:
    """It summed up its columns, which were fewer."""
    old = {"mode": "enforce", "name": "x", "four": b"4", "six": b""}
    for place, added, other in (("list_entries", {"ends": b""}, {"ends": b"1234"}), ("lists", {"shift": 0.0}, {})):
        assert journal.checksum(place, old) == journal.checksum(place, old | added)
        assert not other or journal.checksum(place, old) != journal.checksum(place, old | other)


def test_what_a_change_recorded_follows_the_clock(its: Its) -> None:
    """However often it was set: all is as after each change, and nobody is said to have changed it since."""
    states = []
    for number, life in enumerate((600.0, 60.0, 6000.0)):
        states.append(its.rules())
        with its.command(f"step {number}") as made:
            made.rules.add("block", [A, B][: 1 + number % 2], "", "cli", life, replace=True)
            made.rules.add("block", [A], "a ban", "guard", life / 2)
    followed(its, 7200.7, -3600.1)
    for before in states[::-1]:
        its.undo()
        assert its.rules() == {name: (why, end and end + 7200.7 - 3600.1) for name, (why, end) in before.items()}


def followed(its: Its, *steps: float) -> None:
    """The clock is set, and a command follows it."""
    with Store(its.path) as store:
        for ahead in steps:
            with store.transaction():
                clock.follow(store, ahead)


def test_what_is_of_an_earlier_boot_keeps_its_end_in_a_record(its: Its) -> None:
    """Also if a change of this boot has replaced it; once it is back, it is of that boot again."""
    with its.command("first") as made:
        made.rules.add("block", [A], "", "cli", 600.0)
        made.rules.add("allow", [B], "", "cli", 600.0)
    states = [its.rules()]
    rebooted(its)
    for life in (6000.0, 60_000.0):
        with its.command("again") as made:
            made.rules.add("block", [A], "", "cli", life)
        states.append(its.rules())
    with its.command("third") as made:
        made.rules.remove("allow", [B])
    followed(its, 3600.0)
    its.undo()
    assert of_earlier_boot(its) == {B}
    its.undo()
    assert its.rules() == states[0] | {A_BLOCKED: ("", (states[1][A_BLOCKED][1] or 0) + 3600)}
    its.undo()
    followed(its, 3600.0)
    assert its.rules() == states[0]
    assert of_earlier_boot(its) == {A, B}


def test_what_an_earlier_boot_has_recorded_keeps_its_end(its: Its, monkeypatch: pytest.MonkeyPatch) -> None:
    for life in (600.0, 6000.0):
        before = its.rules()
        with its.command("block") as made:
            made.rules.add("block", [A], "", "cli", life)
    monkeypatch.setattr("xdpguard.dataplane.sys.kernel.boot_id", lambda: "another boot")
    rebooted(its)
    followed(its, 3600.0)
    its.undo()
    followed(its, 3600.0)
    assert its.rules() == before
    assert of_earlier_boot(its) == {A}


def rebooted(its: Its) -> None:
    """The machine is restarted."""
    with Store(its.path) as store, store.transaction():
        clock.begin(store)


def of_earlier_boot(its: Its) -> set[Target]:
    """Whose rules are as they were before this boot."""
    with Store(its.path) as store:
        return {it.target for it in clock.of_earlier(store, store.rules())}


def test_what_others_changed_since_is_not_overwritten_unasked(its: Its) -> None:
    with its.command("block") as made:
        made.rules.add("block", [A], "mine", "cli", None)
    with Store(its.path) as store:
        made = its.opened(store)
        made.rules.add("block", [A], "another's", "cli", 60.0, replace=True)
    with pytest.raises(XdpguardError, match=r"10\.0\.0\.0 was changed since"):
        its.undo()
    its.undo(strict=False)
    assert its.rules() == {}


@pytest.mark.parametrize("life", [60.0, None])
@pytest.mark.parametrize("before", [False, True])
def test_what_others_want_since_stays(its: Its, life: float | None, before: bool) -> None:
    """A ban of a source that is blocked meanwhile, shorter or longer; with a block of before, and without."""
    if before:
        with Store(its.path) as store:
            its.opened(store).rules.add("block", [A], "first", "cli", 30.0)
            its.opened(store).rules.add("block", [A], "of the file", "config", 20.0)
    seen = its.rules()
    with its.command("block") as made:
        made.rules.add("block", [A], "mine", "cli", 600.0, replace=True)
    with Store(its.path) as store:
        its.opened(store).rules.add("block", [A], "a ban", "guard", life)
    with pytest.raises(XdpguardError, match=r"10\.0\.0\.0 was changed since"):
        its.undo()
    (step, *_) = its.undo(strict=False)
    if not before:
        assert step.words() == "blocked still, by guard: 10.0.0.0"
    ((reason, _),) = its.rules().values()
    assert reason == "a ban"
    with Store(its.path) as store:
        (rule,) = store.rules()
        assert [part.source for part in rule.parts] == (["guard", "cli", "config"] if before else ["guard"])
        made = its.opened(store)
        made.rules.leave([rule], lambda part: part.source != "guard")
    assert its.rules() == seen


def test_a_rule_whose_time_is_over_does_not_come_back(its: Its, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(its.path) as store:
        made = its.opened(store)
        made.rules.add("block", [A], "short", "cli", 60.0)
        made.rules.add("block", [B], "long", "cli", 600.0)
    with its.command("unblock") as made:
        made.rules.remove("block", [A, B])
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    its.undo()
    assert [target for _, target in its.rules()] == ["10.0.0.1"]


@pytest.mark.parametrize("taken", [False, True])
def test_a_rule_that_comes_back_counts_anew_and_in_its_own_slot(its: Its, taken: bool) -> None:
    with its.command("block") as made:
        made.rules.add("block", [A], "", "cli", None)
    its.maps.of["enforce"].receive()
    with its.command("unblock") as made:
        made.rules.remove("block", [A])
    if taken:
        with Store(its.path) as store:
            its.opened(store).rules.add("block", [B], "", "guard", None)
        its.maps.of["enforce"].receive()
    its.undo()
    with Store(its.path) as store:
        found = {it.rule.target: it.packets for it in Ruleset(store, its.maps).rules.in_force()}
    assert found == {A: 0} | ({B: 1} if taken else {})


def test_a_column_more_breaks_nothing(its: Its) -> None:
    with its.command("block") as made:
        made.rules.add("block", [A], "old", "cli", None)
    with its.command("unblock") as made:
        made.rules.remove("block", [A])
    with Store(its.path) as store:
        store.execute("ALTER TABLE rules ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'")
    its.undo()
    assert its.rules() == {("block", "10.0.0.0"): ("old", None)}


def test_the_deadline(its: Its, monkeypatch: pytest.MonkeyPatch) -> None:
    with its.command("block", 60) as made:
        made.rules.add("block", [A], "", "cli", None)
    with Store(its.path) as store:
        waiting = journal.pending(store)
        assert waiting is not None
        assert 50 < waiting.left() <= 60
        assert journal.overdue(store) is None
        with pytest.raises(XdpguardError, match="waits for its confirmation"):
            confirm.refuse_another(store)
        monkeypatch.setattr(journal, "since_boot", lambda: time.clock_gettime(time.CLOCK_BOOTTIME) + 61)
        assert journal.overdue(store) == waiting
        monkeypatch.undo()
        monkeypatch.setattr("xdpguard.dataplane.sys.kernel.boot_id", lambda: "another boot")
        assert journal.overdue(store) == waiting, "a restart of the machine ends its time"
        monkeypatch.undo()
        assert confirm.confirm(store).command == "block"
        confirm.refuse_another(store)
        with pytest.raises(XdpguardError, match="no change waits"):
            confirm.confirm(store)


@pytest.mark.parametrize("text", ["0s", "25h", "soon", "-5s", "60"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        confirm.seconds(text)


def test_the_service_notices_what_is_due_and_logs_what_was_undone(its: Its, log: list[str]) -> None:
    watching = Unconfirmed()
    with its.command("block", 60) as made:
        made.rules.add("block", [A], "", "cli", None)
        watching.look(made.store)
        assert not watching.due()
        with made.store.transaction():
            made.store.execute("UPDATE changes SET deadline = 0.0")
        watching.look(made.store)
        assert watching.due()
        assert not watching.due(), "after a failure, not again at once"
        with made.store.transaction():
            journal.settle(made.store, journal.changes(made.store)[0], "unconfirmed")
        for _ in range(2):
            watching.look(made.store)
    assert log[0] == "'block' waits for its confirmation: xdpguard confirm"
    assert [text.split(" at ")[0] for text in log[1:]] == ["'block' was not confirmed in time and was undone"]
