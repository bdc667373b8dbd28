# SPDX-License-Identifier: GPL-2.0
"""Entries of lists that have an end, on real traffic: each stops blocking at it, without any command."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from support.lists import EVERYBODY, answered, shown, without
from support.traffic import Echo, client_address, eventually
from support.wrong_clock import Wrong
from topology import INTERFACE, Lab

from xdpguard.store.database import Store

HOUR, YEAR = 3600, 365 * 86_400
SOON = 5  # seconds
FIRST, SECOND, THIRD = (client_address(4, number) for number in range(3))


@pytest.fixture(scope="module", autouse=True)
def _echo(lab: Lab) -> Iterator[None]:
    with Echo(lab):
        yield


def ipset(*entries: tuple[str, int]) -> str:
    """What `ipset save` prints: addresses and their seconds left, 0 for none."""
    lines = [f"add a {address}{f' timeout {left}' if left else ''}" for address, left in entries]
    return "\n".join(["create a hash:ip family inet timeout 0", *lines]) + "\n"


def loaded(command: Command, *entries: tuple[str, int], name: str = "x", **environment: str) -> str:
    """Loads a list; returns the notes."""
    done = command("lists", "load", name, "-", stdin=ipset(*entries), **environment)
    assert done.code == 0, done
    return done.err


def counts(its: Any) -> tuple[int, int, int, int | None]:
    """In force, those of them with an end, those that have ended, and how many the kernel holds."""
    return its["entries"], its["timed"], its["ended"], its["held"]


def test_an_entry_stops_at_its_end(lab: Lab, attached: Command) -> None:
    assert answered(lab, 4) == EVERYBODY, "positive control"
    begun = time.time()
    notes = loaded(attached, (FIRST, SOON), (SECOND, 0), (THIRD, HOUR))
    assert answered(lab, 4) == without(0, 1, 2)
    assert "2 entries have an end (" in notes
    assert notes.rstrip().endswith("; each stops blocking at its own")
    before = shown(attached, "x")
    assert counts(before) == (3, 2, 0, 3)
    assert begun + SOON <= before["next_end"] < before["last_end"] <= time.time() + HOUR + 1
    assert eventually(lambda: answered(lab, 4) == without(1, 2), seconds=3 * SOON), "no command has run meanwhile"
    assert time.time() >= before["next_end"]
    after = shown(attached, "x")
    assert counts(after) == (2, 1, 1, 2)
    assert after["next_end"] == after["last_end"] == before["last_end"]
    status = attached.json("status")
    assert (status["lists"], status["audit"]["lists"]["x"], status["degraded"]) == (
        {"x": 2},
        {"stored": 2, "held": 2},
        [],
    )
    text = attached.ok("lists", "show")
    assert "x: 1 entry has an end, at " in text
    assert "; 1 has ended" in text
    free = attached.json("explain", FIRST)
    assert (free["outcome"], free["lists"], [it["list"] for it in free["ended"]]) == (None, [], ["x"])
    assert f"the list x had {FIRST} until " in attached.ok("explain", FIRST)
    (timed,), (endless,) = (attached.json("explain", address)["lists"] for address in (THIRD, SECOND))
    assert (timed["expires"], endless["expires"]) == (before["last_end"], None)
    assert "59m" in attached.ok("explain", THIRD)


def test_the_end_is_told_and_undone_and_promoted(lab: Lab, attached: Command) -> None:
    loaded(attached, (SECOND, HOUR))
    attached.ok("block", SECOND)
    assert f"the list x holds {SECOND} until " in attached.ok("unblock", SECOND)
    before = shown(attached, "x")
    attached.ok("lists", "remove", "x")
    assert answered(lab, 4) == EVERYBODY
    assert "list x: as before, 1 entry" in attached.ok("undo")
    assert answered(lab, 4) == without(1)
    assert shown(attached, "x") | {"packets": 0, "bytes": 0} == before
    attached.ok("lists", "load", "y", "-", "--shadow", stdin=ipset((FIRST, HOUR)))
    (shadow,) = attached.json("lists", "show", "y")
    attached.ok("promote", "--list", "y")
    assert answered(lab, 4) == without(0, 1)
    promoted = shown(attached, "y")
    assert (promoted["timed"], promoted["next_end"]) == (1, shadow["next_end"])


def test_a_list_whose_entries_have_all_ended_stays(lab: Lab, attached: Command) -> None:
    loaded(attached, (FIRST, 1))
    assert eventually(lambda: answered(lab, 4) == EVERYBODY, seconds=3 * SOON)
    assert counts(shown(attached, "x")) == (0, 0, 1, 0)
    assert "x: its entry has ended: it blocks nothing until it is loaded again" in attached.ok("lists", "show")
    said = attached("lists", "load", "x", "-", "--dry-run", stdin=ipset((FIRST, HOUR)))
    assert "1 entry has an end (" in said.err
    assert "), at which it will stop blocking" in said.err
    loaded(attached, (FIRST, HOUR))
    assert answered(lab, 4) == without(0)


def test_ends_under_a_clock_that_is_set(lab: Lab, command: Command, tmp_path: Path) -> None:
    """As with rules: what was loaded in this boot keeps its length, what an earlier one has left its time of day."""
    wrong = Wrong(tmp_path / "ahead")
    loaded(command, (FIRST, 2 * HOUR), (SECOND, 3 * HOUR))
    for ahead in (YEAR, -HOUR):
        command.ok("attach", INTERFACE, "--netns", lab.server, **wrong.ahead(ahead))
        assert answered(lab, 4) == without(0, 1), "whatever the clock says"
        for again in (0, ahead):
            (its,) = json.loads(command.ok("lists", "show", "--json", **wrong.ahead(again)))
            assert counts(its) == (2, 2, 0, 2)
            assert 2 * HOUR - 60 < its["next_end"] - time.time() - again <= 2 * HOUR + 2
    command.ok("detach", "--all", **wrong.ahead(-HOUR))
    with Store(command.store) as store:
        store.put_fact("clock", "another-boot 0 0")
    command.ok("attach", INTERFACE, "--netns", lab.server, **wrong.ahead(YEAR))
    assert answered(lab, 4) == EVERYBODY, "by this clock both have ended long ago"
    assert counts(shown(command, "x")) == (0, 0, 2, 0), "as in the kernel, which nothing has adjusted yet"
    assert "entries of 1 list from before this boot end that much earlier than stored" in command("status").err
    command.ok("allow", "198.51.100.98")
    assert answered(lab, 4) == without(0, 1), "back, as the clock is right"
    its = shown(command, "x")
    assert counts(its) == (2, 2, 0, 2)
    assert HOUR - 60 < its["next_end"] - time.time() <= HOUR + 2
    assert "the clock" not in command("status").err
