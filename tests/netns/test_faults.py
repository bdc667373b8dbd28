# SPDX-License-Identifier: GPL-2.0
"""Each fault once, at a place drawn at random; tests/long/faults.py goes through all commands and places."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fault_place import FaultPlace
from support.fault_rounds import AT_STEPS, BEFORE, BPF, SQL, Case, Rounds

from xdpguard.store.database import Store

COMMANDS = ("block", "undo", "swap a list", "add a filter", "promote", "attach again", "detach")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultPlace]:
    with FaultPlace(tmp_path_factory.mktemp("faults")) as made:
        yield made


@pytest.fixture(scope="module")
def rounds(place: FaultPlace) -> Rounds:
    return Rounds(place, 1, COMMANDS)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        *[(kind, "kill") for kind in ("step", "bpf", "sql")],
        *[("bpf", it) for it in BPF],
        *[("sql", it) for it in SQL],
        *[("step", it) for it in AT_STEPS],
        *[("before", it) for it in BEFORE],
    ],
)
def test_all_of_a_change_or_nothing(rounds: Rounds, kind: str, fault: str) -> None:
    found = (it for it in rounds.cases() if it.place.startswith(kind) and it.fault == fault)
    assert rounds.run(next(found)) == []


class Changing(FaultPlace):
    """A place where a bit flips in the reason of a rule, which SQLite does not see."""

    def begin(self, fault: str, random: object) -> None:
        del fault, random
        data = bytearray(self.command.store.read_bytes())
        data[data.index(b"198.51.100.7\x04\xc6\x33\x64\x07 why") + 18] ^= 1
        self.command.store.write_bytes(data)


def test_a_reason_that_has_changed_is_told(place: FaultPlace, rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "begin", Changing.begin.__get__(place))
    before = rounds.tally["recovered"]
    assert rounds.run(Case("block", "before", "store corrupted")) == []
    assert rounds.tally["recovered"] == before + 1


class Losing(FaultPlace):
    """A place where a fault loses a rule of the store."""

    def begin(self, fault: str, random: object) -> None:
        del fault, random
        with Store(self.command.store) as store:
            store.execute("DELETE FROM rules WHERE target = '198.51.100.7'")


def test_a_lost_rule_is_seen(place: FaultPlace, rounds: Rounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "begin", Losing.begin.__get__(place))
    assert any("198.51.100.7" in it for it in rounds.run(Case("block", "before", "a rule is lost")))


def test_a_fault_is_really_made(place: FaultPlace, rounds: Rounds) -> None:
    del rounds
    assert "database or disk is full" in place.command("block", "192.0.2.7", fault="sql#2: ENOSPC").err
    assert place.command("block", "192.0.2.7", fault="bpf#1+: E2BIG").code == 1
    place.command.ok("block", "192.0.2.7")


def test_places_are_counted(place: FaultPlace, rounds: Rounds, tmp_path: Path) -> None:
    del rounds
    place.command("block", "192.0.2.8", fault=f"count: {tmp_path / 'places'}")
    assert '"step mark", "sql BEGIN"' in (tmp_path / "places").read_text()
