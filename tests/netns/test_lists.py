# SPDX-License-Identifier: GPL-2.0
"""Named lists on real traffic: what they hold is dropped and counted, through swaps, kills and detaching."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from support.command import Command
from support.lists import BIG, answered, clear, hits, killed, looked, maps, reasons, received, shown, without, write_big
from support.traffic import Echo, Family, client_address, works
from topology import INTERFACE, SERVER4, Lab

from xdpguard.bench.flood import Flood, Sender
from xdpguard.dataplane.tables import index

FAMILIES: list[Family] = [4, 6]
EVERYBODY = without()
MAPS = "xdpguard.dataplane.tables.lists:ListMaps"


@pytest.fixture(scope="module")
def _instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    made = Command(tmp_path_factory.mktemp("lists") / "state")
    yield made
    made.clean()


@pytest.fixture
def attached(_instance: Command, echo: Echo, lab: Lab) -> Iterator[Command]:
    """An instance that is attached, the same for all tests; it has no lists and rules before and after each."""
    del echo
    if not _instance.pins.exists():
        attach(_instance, lab)
    for family in FAMILIES:
        assert answered(lab, family) == EVERYBODY, "positive control: with no list everybody passes"
    yield _instance
    clear(_instance)


@pytest.fixture
def alone(_instance: Command, command: Command, echo: Echo) -> Command:
    """An instance of the test's own; nothing is attached."""
    del echo
    if _instance.pins.exists():
        _instance.ok("detach", "--all")
    return command


class Pair(NamedTuple):
    """Two files: client 0 stands in the old one, 1 in the new one, 2 in both."""

    old: Path
    new: Path


def pair(folder: Path, count: int) -> Pair:
    made = Pair(folder / "old.txt", folder / "new.txt")
    write_big(made.old, 1, client_address(4, 0), client_address(4, 2), count=count)
    write_big(made.new, 2, client_address(4, 1), client_address(4, 2), count=count)
    return made


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(tmp_path_factory.mktemp("big"), BIG)


def load(command: Command, name: str, *addresses: str) -> None:
    command.ok("lists", "load", name, "-", stdin="".join(f"{it}\n" for it in addresses))


def attach(command: Command, lab: Lab, *arguments: str) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server, *arguments)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_listed_is_dropped_and_counted(attached: Command, lab: Lab, family: Family) -> None:
    before = reasons(attached)["deny"]
    load(attached, "x", client_address(family, 1), "203.0.113.0/24", "2001:db8::/32")
    assert not works(lab, family, "tcp", client=1)
    assert not works(lab, family, "udp", client=1)
    assert answered(lab, family) == without(1), "its neighbours must not notice"
    assert answered(lab, 6 if family == 4 else 4) == EVERYBODY
    found, after = shown(attached, "x"), reasons(attached)["deny"]
    assert found["packets"] == after["packets"] - before["packets"] >= 3
    assert found["bytes"] == after["bytes"] - before["bytes"] >= 3 * 47
    assert (found["entries"], found["held"]) == (3, 3)
    attached.ok("lists", "remove", "x")
    assert answered(lab, family) == EVERYBODY


@pytest.mark.parametrize(
    ("entries", "clients4", "clients6"),
    [
        (["198.18.0.12/30", "2001:2:0:18::14/126"], range(2, 6), range(4, 8)),
        (["198.18.0.11-198.18.0.17", "2001:2:0:18::13-2001:2:0:18::18"], range(1, 8), range(3, 9)),
    ],
    ids=["prefixes", "ranges"],
)
def test_prefixes_and_ranges(attached: Command, lab: Lab, entries: list[str], clients4: range, clients6: range) -> None:
    load(attached, "x", *entries)
    assert answered(lab, 4) == without(*clients4)
    assert answered(lab, 6) == without(*clients6)
    assert hits(attached, "x") == len(clients4) + len(clients6)


def test_an_allowance_inside_a_list_wins(attached: Command, lab: Lab) -> None:
    load(attached, "x", "198.18.0.8/29", "2001:2:0:18::10/125")
    held: dict[Family, frozenset[int]] = {4: without(*range(6)), 6: without(*range(8))}
    for family in FAMILIES:
        assert answered(lab, family) == held[family]
    attached.ok("allow", client_address(4, 3), client_address(6, 3))
    for family in FAMILIES:
        assert answered(lab, family) == held[family] | {3}
    assert hits(attached, "x") == 6 + 8 + 5 + 7
    attached.ok("disallow", client_address(4, 3), client_address(6, 3))
    for family in FAMILIES:
        assert answered(lab, family) == held[family]


def test_an_operators_rule_is_named_before_a_list(attached: Command, lab: Lab) -> None:
    load(attached, "x", *(client_address(family, client) for family in FAMILIES for client in (1, 3)))
    rules = [client_address(4, 1), client_address(6, 1), "198.18.0.12/31", "2001:2:0:18::12/127"]
    attached.ok("block", *rules)
    for family in FAMILIES:
        assert answered(lab, family) == without(1, 2, 3)
    assert hits(attached, "x") == 0
    assert [(rule["target"], rule["packets"]) for rule in attached.json("rules")] == list(
        zip(rules, (1, 1, 2, 2), strict=True)
    )
    attached.ok("unblock", *rules)
    for family in FAMILIES:
        assert answered(lab, family) == without(1, 3)
    assert hits(attached, "x") == 4


def test_two_lists_that_hold_the_same_address(attached: Command, lab: Lab) -> None:
    load(attached, "first", client_address(4, 4), client_address(6, 4))
    load(attached, "second", client_address(4, 4), client_address(6, 4), client_address(4, 5), client_address(6, 5))
    for family in FAMILIES:
        assert answered(lab, family) == without(4, 5)
    assert (hits(attached, "first"), hits(attached, "second")) == (2, 2)
    attached.ok("lists", "remove", "first")
    for family in FAMILIES:
        assert answered(lab, family) == without(4, 5), "the other one is still in force"
    assert hits(attached, "second") == 6
    attached.ok("lists", "drop", "second")  # its name in earlier versions
    assert not re.search(r"^ *drop ", attached.ok("lists", "--help"), re.MULTILINE), "which help does not show"
    for family in FAMILIES:
        assert answered(lab, family) == EVERYBODY


def test_loading_again_swaps_the_entries_and_keeps_the_hits(attached: Command, lab: Lab) -> None:
    for family in FAMILIES:
        load(attached, "x", client_address(4, 0), client_address(6, 0))
        assert answered(lab, family) == without(0)
        load(attached, "x", client_address(4, 1), client_address(6, 1))
        assert answered(lab, family) == without(1)
    assert hits(attached, "x") == 4


def test_dropping_several_drops_all_or_none(attached: Command, lab: Lab) -> None:
    load(attached, "a", client_address(4, 0))
    load(attached, "b", client_address(4, 1))
    assert "there is no list nosuch" in attached.refused(1, "lists", "remove", "a", "nosuch", "b")
    assert answered(lab, 4) == without(0, 1)
    attached.ok("lists", "remove", "a", "b", "a")
    assert answered(lab, 4) == EVERYBODY
    assert attached.json("lists", "show") == []


def test_a_number_that_is_used_again_counts_from_zero(attached: Command, lab: Lab) -> None:
    load(attached, "stays", "203.0.113.1")
    load(attached, "old", client_address(4, 0))
    assert answered(lab, 4) == without(0)
    assert hits(attached, "old") == 1
    attached.ok("lists", "remove", "old")
    load(attached, "new", client_address(4, 1))
    assert hits(attached, "new") == 0
    assert answered(lab, 4) == without(1)
    assert hits(attached, "new") == 1
    # The same after the last list has gone, when there is no index at all.
    attached.ok("lists", "remove", "stays", "new")
    load(attached, "alone", client_address(4, 2))
    assert hits(attached, "alone") == 0
    assert answered(lab, 4) == without(2)
    assert hits(attached, "alone") == 1


def test_rules_beside_a_big_list(attached: Command, lab: Lab, big: Pair) -> None:
    """They share no table: neither adding nor removing a rule touches the list, also in the same /24."""
    attached.ok("lists", "load", "big", str(big.old))
    assert answered(lab, 4) == without(0, 2)
    attached.ok("block", client_address(4, 3), client_address(4, 0), "240.0.0.0/8")
    assert answered(lab, 4) == without(0, 2, 3)
    attached.ok("unblock", client_address(4, 3), client_address(4, 0), "240.0.0.0/8")
    assert answered(lab, 4) == without(0, 2)
    found = shown(attached, "big")
    assert found["given"] == BIG
    assert found["held"] == found["entries"] > BIG * 0.99
    assert found["packets"] == 5, "the rule for client 0 was named while it stood"


class Traffic:
    """A flood of datagrams from one address that goes on until told to stop, counted."""

    def __init__(self, lab: Lab, source: str) -> None:
        self.arrived = 0
        self.rounds = 0
        self._sender = Sender(Flood("udp", source, SERVER4, 9, rate=20_000, count=4_000), lab.outside)
        self._running = True

    def send(self) -> None:
        done = self._sender.send()
        self.arrived += done.packets - done.lost
        self.rounds += 1

    @contextmanager
    def going_on(self) -> Iterator[None]:
        def work() -> None:
            while self._running:
                self.send()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            self._running = False
            thread.join()

    def close(self) -> None:
        self._sender.__exit__()


@pytest.fixture
def traffic(lab: Lab) -> Iterator[Traffic]:
    made = Traffic(lab, client_address(4, 2))
    yield made
    made.close()


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:not a bytes object:DeprecationWarning")  # bcc's, of what the flood gives it
def test_swapping_big_lists_under_traffic_lets_nothing_through(
    attached: Command, lab: Lab, big: Pair, traffic: Traffic
) -> None:
    """Twenty swaps of half a million entries; the one address that is in both gets not a packet through."""
    attached.ok("lists", "load", "x", str(big.old))
    before, denied, passed = received(lab), reasons(attached)["deny"], reasons(attached)["pass"]
    with traffic.going_on():
        for number in range(20):
            attached.ok("lists", "load", "x", str(big.old if number % 2 else big.new))
    assert traffic.rounds > 1
    assert received(lab) == before
    after = reasons(attached)
    assert after["deny"]["packets"] - denied["packets"] == traffic.arrived > 0
    assert after["pass"]["packets"] == passed["packets"]
    assert hits(attached, "x") == traffic.arrived
    attached.ok("lists", "remove", "x")
    traffic.send()
    assert received(lab) > before, "positive control: the same traffic arrives when no list holds it"


@pytest.mark.timeout(300)
def test_killed_at_any_moment_of_a_load(attached: Command, lab: Lab, tmp_path: Path) -> None:
    """The old list or the new one, whole, in store and kernel after the next change; what is in both never passes."""
    big = pair(tmp_path, BIG // 5)
    either = {without(0, 2): big.old, without(1, 2): big.new}
    entries = {}
    for file in (big.new, big.old):
        begin = time.monotonic()
        attached.ok("lists", "load", "x", str(file))
        takes = time.monotonic() - begin
        entries[looked(attached)["x"][0].entries] = file
    assert len(entries) == 2, "the test's own setting: they can be told apart"
    now = big.old
    for number in range(10):
        wanted = big.new if now == big.old else big.old
        moment = takes * (number + random.random()) / 10
        line = attached.line("lists", "load", "x", str(wanted))
        process = subprocess.Popen(line, env=attached.environment, stdout=subprocess.DEVNULL)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        assert process.wait(60) in (0, -signal.SIGKILL)
        at = f"killed after {moment:.3f} s of {takes:.3f}"
        assert 2 not in answered(lab, 4), at
        load(attached, "other", f"203.0.113.{number}")
        its, held = looked(attached)["x"]
        assert held == its.entries, at
        now = entries[its.entries]
        assert either[answered(lab, 4)] == now, f"{at}: store and kernel differ"
        with maps(attached) as kernel:
            lines = kernel.lines()
        assert lines is not None
        assert index.held(lines) == {0: its.entries, 1: 1}, at
    assert (shown(attached, "x")["entries"], shown(attached, "x")["held"]) == (its.entries, held)


# A method, whether killed after it or before, what comes next. Until the last step nothing has happened.
STEPS = [
    ("xdpguard.store.lists:ListStore.put", True, "load"),
    ("xdpguard.control.lists:Lists._force", False, "drop"),
    (f"{MAPS}._add", False, "load"),
    (f"{MAPS}._flags", False, "load"),
    (f"{MAPS}._flags", True, "load"),
    (f"{MAPS}.swap", True, "drop"),
    (f"{MAPS}.swap", True, "attach"),
]


def heal(command: Command, lab: Lab, how: str) -> None:
    if how == "load":
        load(command, "other", "203.0.113.1")
    elif how == "drop":
        command.ok("lists", "remove", "beside")
    else:
        attach(command, lab)


@pytest.mark.parametrize(
    ("step", "after", "how"),
    STEPS,
    ids=[f"{'after' if s[1] else 'before'} {s[0].split(':')[1]}" for s in STEPS],
)
def test_killed_at_a_step_of_a_load(
    attached: Command, lab: Lab, tmp_path: Path, step: str, after: bool, how: str
) -> None:
    load(attached, "beside", "203.0.113.9")
    load(attached, "x", client_address(4, 0), client_address(4, 2), client_address(6, 0))
    (tmp_path / "new").write_text(f"{client_address(4, 1)}\n{client_address(4, 2)}\n")
    killed(attached, tmp_path, step, "lists", "load", "x", str(tmp_path / "new"), after=after)
    swapped = step.endswith("swap")
    assert answered(lab, 4) == (without(1, 2) if swapped else without(0, 2))
    assert answered(lab, 6) == (EVERYBODY if swapped else without(0))
    heal(attached, lab, how)
    found = shown(attached, "x")
    assert found["held"] == found["entries"] == 3
    assert answered(lab, 4) == without(0, 2)
    assert answered(lab, 6) == without(0)
    assert attached.json("status")["audit"]["ratio"] == 1


@pytest.mark.parametrize("how", ["load", "attach"])
@pytest.mark.parametrize("after", [False, True])
def test_killed_while_the_last_list_is_dropped(
    attached: Command, lab: Lab, tmp_path: Path, after: bool, how: str
) -> None:
    load(attached, "x", client_address(4, 0))
    killed(attached, tmp_path, f"{MAPS}.empty", "lists", "remove", "x", after=after)
    assert answered(lab, 4) == (EVERYBODY if after else without(0))
    heal(attached, lab, how)
    assert answered(lab, 4) == without(0)
    attached.ok("lists", "remove", "x")
    assert answered(lab, 4) == EVERYBODY


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_the_first_list_is_loaded(attached: Command, lab: Lab, tmp_path: Path, after: bool) -> None:
    (tmp_path / "new").write_text(f"{client_address(4, 0)}\n")
    killed(attached, tmp_path, f"{MAPS}.swap", "lists", "load", "x", str(tmp_path / "new"), after=after)
    assert answered(lab, 4) == (without(0) if after else EVERYBODY)
    assert attached.json("lists", "show") == []
    audit = attached.json("status")["audit"]
    assert audit == {
        "ratio": 0,
        "behind": True,
        "rules": {"stored": 0, "held": 0},
        "lists": {},
        "filters": {"stored": 0, "held": 0},
        "shadow": {"behind": True, "rules": {"stored": 0, "held": 0}, "lists": {}},
        "settings": True,
        "without_egress": [],
    }
    heal(attached, lab, "load")
    assert answered(lab, 4) == EVERYBODY
    attached.ok("lists", "load", "x", str(tmp_path / "new"))
    assert answered(lab, 4) == without(0)
    assert not attached.json("status")["audit"]["behind"]


@pytest.mark.parametrize("what", ["swapped", "dropped", "dropped, the last"])
def test_what_a_killed_command_left_is_told(attached: Command, tmp_path: Path, what: str) -> None:
    """The kernel holds what the store no longer does: it must not look as if all were well."""
    if what != "dropped, the last":
        load(attached, "beside", "203.0.113.9")
    load(attached, "x", client_address(4, 0))
    (tmp_path / "new").write_text(f"{client_address(4, 1)}\n")
    step = f"{MAPS}.empty" if what == "dropped, the last" else f"{MAPS}.swap"
    killed(
        attached,
        tmp_path,
        step,
        "lists",
        *(["load", "x", str(tmp_path / "new")] if what == "swapped" else ["drop", "x"]),
        after=True,
    )
    assert attached.json("status")["audit"]["ratio"] < 1
    if what == "swapped":
        found = shown(attached, "x")
        assert found["held"] < found["entries"]


@pytest.mark.parametrize("what", ["swapped", "dropped, the last"])
def test_what_a_killed_command_left_is_mended_by_the_next_change(
    attached: Command, lab: Lab, tmp_path: Path, what: str
) -> None:
    load(attached, "x", client_address(4, 0))
    (tmp_path / "new").write_text(f"{client_address(4, 1)}\n")
    if what == "swapped":
        killed(attached, tmp_path, f"{MAPS}.swap", "lists", "load", "x", str(tmp_path / "new"), after=True)
    else:
        killed(attached, tmp_path, f"{MAPS}.empty", "lists", "remove", "x", after=True)
    assert answered(lab, 4) == (without(1) if what == "swapped" else EVERYBODY)
    attached.ok("block", client_address(4, 9))
    assert answered(lab, 4) == without(0, 9)


@pytest.mark.timeout(300)
def test_lists_and_hits_survive_attaching_and_detaching(lab: Lab, alone: Command) -> None:
    """In generic mode, then only observing, then in native mode: the same lists, and no hit is lost."""
    result = alone("lists", "load", "x", "-", stdin=f"{client_address(4, 1)}\n{client_address(6, 1)}\n")
    assert result.code == 0
    assert "nothing is attached" in result.err
    load(alone, "y", client_address(4, 2))
    assert shown(alone, "x")["held"] is None
    assert answered(lab, 4) == EVERYBODY, "positive control: nothing is attached"
    attach(alone, lab, "--mode", "generic")
    assert answered(lab, 4) == without(1, 2), "loaded while nothing was attached"
    assert answered(lab, 6) == without(1)
    attach(alone, lab, "--observe")
    assert answered(lab, 4) == EVERYBODY
    assert answered(lab, 6) == EVERYBODY
    deny = reasons(alone)["deny"]
    assert (deny["packets"], deny["observed_packets"]) == (3, 3)
    before = alone.json("lists", "show")
    assert [(it["name"], it["packets"]) for it in before] == [("x", 4), ("y", 2)]
    alone.ok("detach", "--all")
    assert answered(lab, 4) == EVERYBODY
    assert alone.json("lists", "show") == [it | {"held": None} for it in before]
    alone.ok("lists", "remove", "y")
    attach(alone, lab)
    assert answered(lab, 4) == without(1)
    assert (shown(alone, "x")["held"], hits(alone, "x")) == (2, 5)
    alone.ok("detach", "--all")
    assert hits(alone, "x") == 5
