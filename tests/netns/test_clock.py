# SPDX-License-Identifier: GPL-2.0
"""Commands while the clock is wrong, and after it was set: they say what the kernel does, and nothing is lost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command
from support.service import Service
from support.traffic import Echo, eventually, works
from support.wrong_clock import Wrong
from topology import CLIENTS4, INTERFACE, Lab

from xdpguard.store.database import Store

HOUR, YEAR = 3600, 365 * 86_400
CLIENT = CLIENTS4[0]


@pytest.fixture
def wrong(tmp_path: Path) -> Wrong:
    return Wrong(tmp_path / "ahead")


@pytest.fixture(autouse=True)
def _echo(lab: Lab) -> Iterator[None]:
    with Echo(lab):
        yield


def answers(lab: Lab) -> bool:
    """Whether the server answers the client."""
    return works(lab, 4, "udp")


def reboot(command: Command) -> None:
    """Makes the store one that an earlier boot has left."""
    with Store(command.store) as store:
        store.put_fact("clock", "another-boot 0 0")


def test_a_rule_of_this_boot_is_in_force_until_its_length_is_over(lab: Lab, command: Command, wrong: Wrong) -> None:
    command.ok("block", CLIENT, "--for", "1h")
    for seconds in (YEAR, -HOUR):
        command.ok("attach", INTERFACE, "--netns", lab.server, **wrong.ahead(seconds))
        assert not answers(lab), "blocked, whatever the clock says"
        for again in (0, seconds, 0):
            (rule,) = json.loads(command.ok("rules", "--json", **wrong.ahead(again)))
            end = time.time() + again + HOUR
            assert end - 60 < rule["expires"] <= end + 1, "as long as the kernel has it"
            assert command.json("status")["audit"]["ratio"] == 1
        assert "59m" in command.ok("explain", CLIENT)
        assert "clock" not in command("rules").err, "nothing is wrong in the kernel"
    command.ok("unblock", CLIENT)
    assert eventually(lambda: answers(lab)), "positive control"


def test_rules_of_an_earlier_boot_under_a_clock_that_was_wrong(lab: Lab, command: Command, wrong: Wrong) -> None:
    other = "198.51.100.99"
    command.ok("block", CLIENT, "--for", "2h")
    reboot(command)
    command.ok("attach", INTERFACE, "--netns", lab.server, **wrong.ahead(YEAR))
    assert eventually(lambda: answers(lab)), "by this clock it has ended long ago"
    assert command.json("rules") == []
    command.ok("block", other, "--for", "1h")
    assert {it["target"] for it in command.json("rules")} == {CLIENT, other}, "back, as the clock is right"
    assert not answers(lab)
    # Behind: the kernel keeps it an hour too long, until something follows the clock.
    reboot(command)
    command.ok("attach", INTERFACE, "--netns", lab.server, **wrong.ahead(-HOUR))
    for words in (("rules",), ("status",), ("explain", CLIENT)):
        said = command(*words)
        assert "the clock was set 1h ahead: 2 rules from before this boot end that much later" in said.err, said
    assert 2 * HOUR < ends(command)[CLIENT] < 3 * HOUR + 1
    command.ok("allow", "198.51.100.98")
    assert "the clock" not in command("rules").err
    assert HOUR < ends(command)[CLIENT] < 2 * HOUR + 1


def ends(command: Command) -> dict[str, float]:
    """In how many seconds each rule ends."""
    return {it["target"]: it["expires"] - time.time() for it in command.json("rules") if it["expires"]}


def left(command: Command, wrong: Wrong, ahead: int) -> float:
    """In how many seconds the only rule ends, as a command says whose clock is so much ahead."""
    (rule,) = json.loads(command.ok("rules", "--json", **wrong.ahead(ahead)))
    return float(rule["expires"] - time.time() - ahead)


def test_an_undo_follows(lab: Lab, attached: Command, wrong: Wrong) -> None:
    """What it puts back keeps its length like what is in force, and nobody else has changed it."""
    name = ("filter", "add", "first", f"ip saddr {CLIENT} udp dport 9", "--drop")
    listed = f"create a hash:ip family inet timeout 0\nadd a 198.51.100.50 timeout {HOUR}\n"
    attached.ok("block", CLIENT, "--for", "1h")
    attached.ok("block", CLIENT, "--for", "3h")
    attached.ok(*name, "--for", "1h")
    attached.ok("filter", "remove", "first")
    attached.ok("lists", "load", "x", "-", stdin=listed)
    attached.ok("lists", "remove", "x")
    year = wrong.ahead(YEAR)
    assert "list x: as before, 1 entry" in attached.ok("undo", **year)
    assert (
        HOUR - 120
        < json.loads(attached.ok("lists", "show", "--json", **year))[0]["last_end"] - time.time() - YEAR
        <= HOUR + 2
    )
    attached.ok("undo", **year)
    attached.ok("undo", **wrong.ahead(-HOUR))
    (its,) = json.loads(attached.ok("filter", "list", "--json", **wrong.ahead(-HOUR)))
    assert HOUR - 120 < its["expires"] - time.time() + HOUR <= HOUR + 1
    attached.ok("undo", **wrong.ahead(YEAR))
    assert not json.loads(attached.ok("filter", "list", "--json", **year)), "added in the change undone last"
    assert 3 * HOUR - 120 < left(attached, wrong, YEAR) <= 3 * HOUR + 1
    assert f"blocked as before: {CLIENT}" in attached.ok("undo", **wrong.ahead(YEAR))
    for again in (YEAR, 0):
        assert not answers(lab)
        assert HOUR - 120 < left(attached, wrong, again) <= HOUR + 1
    assert attached.json("status")["audit"]["ratio"] == 1
    attached.ok("undo")
    assert eventually(lambda: answers(lab)), "positive control"


def test_a_list_is_loaded_again_after_the_clock_was_set(command: Command, wrong: Wrong) -> None:
    """Its ends begin anew then: those that an undo puts back are reckoned as they were."""
    listed = "create a hash:ip family inet timeout 0\nadd a 198.51.100.50 timeout {}\n"
    command.ok("lists", "load", "x", "-", stdin=listed.format(2 * HOUR))
    ahead = wrong.ahead(HOUR)
    command.ok("lists", "load", "x", "-", stdin=listed.format(9 * HOUR), **ahead)
    assert "list x: as before, 1 entry" in command.ok("undo", **ahead)
    (its,) = json.loads(command.ok("lists", "show", "--json", **ahead))
    assert 2 * HOUR - 120 < its["last_end"] - time.time() - HOUR <= 2 * HOUR + 2


def test_an_undo_of_what_was_made_in_an_earlier_boot(lab: Lab, command: Command, wrong: Wrong) -> None:
    command.ok("block", CLIENT, "--for", "2h")
    reboot(command)
    command.ok("block", CLIENT, "--for", "5h")
    command.ok("attach", INTERFACE, "--netns", lab.server, **wrong.ahead(YEAR))
    command.ok("undo", **wrong.ahead(YEAR))  # the attach
    assert f"ended by the clock: {CLIENT}" in command.ok("undo", **wrong.ahead(YEAR))
    command.ok("attach", INTERFACE, "--netns", lab.server, **wrong.ahead(YEAR))
    assert eventually(lambda: answers(lab)), "by this clock it has ended long ago"
    command.ok("allow", "198.51.100.98")
    assert not answers(lab)
    assert HOUR < ends(command)[CLIENT] < 2 * HOUR + 1, "its end is a time of day"


def test_the_service_follows(lab: Lab, command: Command, wrong: Wrong) -> None:
    command.ok("block", CLIENT, "--for", "1h")
    command.ok("attach", INTERFACE, "--netns", lab.server)
    its = wrong.ahead(0)
    with Service(command, PYTHONPATH=its["PYTHONPATH"], AHEAD=its["AHEAD"]) as run:
        assert run.says("watching")
        wrong.ahead(YEAR)
        assert run.says("the clock was set; the ends of rules and of entries of lists were adjusted")
        (rule,) = json.loads(command.ok("rules", "--json", **wrong.ahead(YEAR)))
        assert 0 < rule["expires"] - time.time() - YEAR <= HOUR + 1
        assert not answers(lab)
