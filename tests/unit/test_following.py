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
from xdpguard.policy.model import Policy
from xdpguard.service.following import Following


class Session:
    """A controller that can attach to nothing; ``carrying``: whether something is attached anyway."""

    def __init__(self, carrying: bool) -> None:
        self._carrying = carrying

    def interfaces(self) -> list[Interface]:
        return []

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
