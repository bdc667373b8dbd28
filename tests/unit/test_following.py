# SPDX-License-Identifier: GPL-2.0
"""What the service says when it begins and some or all of its interfaces cannot be attached to."""

from __future__ import annotations

from typing import cast

import pytest

from xdpguard.control.controller import Controller
from xdpguard.control.interfaces import Interface
from xdpguard.control.planning import Request
from xdpguard.errors import XdpguardError
from xdpguard.policy.attach import AttachTo
from xdpguard.policy.model import Guard, Policy
from xdpguard.service.following import Following
from xdpguard.service.taken import Losses, Taken
from xdpguard.service.watching import watching


class Session:
    """A controller that can attach to nothing; ``carrying``: whether something is attached anyway."""

    def __init__(self, carrying: bool, *interfaces: Interface) -> None:
        self._carrying = carrying
        self._interfaces = list(interfaces)

    def interfaces(self) -> list[Interface]:
        return self._interfaces

    def links(self) -> list[object]:
        return [object()] if self._carrying else []

    def attach(self, request: Request, policy: Policy) -> None:
        del policy
        raise XdpguardError(f"{request.name} is busy", "wait")


def begin(carrying: bool) -> None:
    session = cast(Controller, Session(carrying))
    Following([AttachTo("one"), AttachTo("two")]).begin(session, Policy(), 0.0)


def test_what_keeps_it_from_starting_is_said_once_and_the_rest_is_logged(log: list[str]) -> None:
    with pytest.raises(XdpguardError, match="one is busy"):
        begin(carrying=False)
    assert log == ["two was not attached: two is busy; wait"]


def test_what_does_not_keep_it_from_starting_is_logged(log: list[str]) -> None:
    begin(carrying=True)
    assert log == ["one was not attached: one is busy; wait", "two was not attached: two is busy; wait"]


def test_what_is_said_of_a_renamed_interface(log: list[str]) -> None:
    """The program goes with it: the rules stay in force there, and it is said once."""
    session = cast(Controller, Session(True, Interface("one", "", "native", False, 7, "renamed", 3)))
    its = Following()
    its.look(session, 0.0)
    its.look(session, 1.0)
    assert log == ["one was renamed or moved; it is still attached: see xdpguard status"]
    assert watching(session, Guard(), []) == (
        "no interface is left to watch under its recorded name; the rules stay in force; waiting"
    )
    gone = cast(Controller, Session(False, Interface("one", "", "native", False, None, "gone")))
    assert watching(gone, Guard(), []) == "nothing is attached anymore; waiting"


def test_how_long_it_waits_when_a_program_is_taken_off_again_and_again() -> None:
    its, now, waits = Taken(), 1000.0, []
    for _ in range(12):
        waits.append(its.lost(now))
        now += waits[-1]
        its.attached(now)
        now += 5
        its.attached(now)  # each look says so
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]
    now += 590
    assert its.lost(now) == 300, "it was there for less than ten minutes"
    its.attached(now)
    assert its.lost(now + 600) == 1


def test_what_is_said_of_a_program_that_is_taken_off() -> None:
    losses, eth0 = Losses(), Interface("eth0", "", "native", False, None, "detached", 7)
    assert "lost its program" in (losses.taken_off(eth0, 10.0, failed=False) or "")
    assert losses.taken_off(eth0, 10.9, failed=False) == "", "not yet"
    assert not losses.due(10.9)
    assert losses.due(11.0)
    assert losses.taken_off(eth0, 11.0, failed=False) is None, "now"
    assert not losses.due(11.0), "it was tried"
    assert losses.taken_off(eth0, 12.0, failed=True) is None, "the caller knows when to try again what has failed"
    losses.keep(set())
    assert "lost its program: somebody detached it;" in (losses.taken_off(eth0, 20.0, failed=False) or "")


def test_whose_the_other_program_is_is_asked_once() -> None:
    losses, asked = Losses(), []

    def whose(it: Interface) -> str:
        asked.append(it.other)
        return f"program {it.other}"

    eth0 = Interface("eth0", "", "native", False, None, "replaced", 7, other=5)
    assert "program 5" in losses.replaced(eth0, whose)
    assert losses.replaced(eth0, whose) == ""
    eth0.other = 6
    assert "program 6" in losses.replaced(eth0, whose)
    assert asked == [5, 6]
