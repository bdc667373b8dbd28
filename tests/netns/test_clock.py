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
