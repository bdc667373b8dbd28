# SPDX-License-Identifier: GPL-2.0
"""Let through the addresses that the host needs although an entry blocks them, and log each change."""

from __future__ import annotations

import logging
from typing import Any

from xdpguard.control import needed, needs
from xdpguard.control.controller import Controller
from xdpguard.errors import XdpguardError
from xdpguard.net.sockets import Protected
from xdpguard.policy.target import Prefix

_log = logging.getLogger(__name__)

_EVERY = 60.0  # seconds after which to check again without a known change: allow rules may expire


class Needs:
    """Tracks the addresses that one instance lets through. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self.found: list[Protected] = []  # what the host needed at the last look
        self._told: dict[Prefix, str] = {}
        self._mark: Any = None
        self._at = float("-inf")

    def not_logged_in(self, session: Controller, places: set[str]) -> None:
        """Log each blocked source that holds a connection to an SSH port but is not logged in: it stays blocked."""
        for address, blocked_by in needed.not_logged_in(session.store, {"", *places}):
            _log.warning(
                f"{address} has a connection to an SSH port but is not logged in: {blocked_by} stays in force for it"
            )

    def look(self, session: Controller, places: set[str], version: int, now: float) -> None:
        """Let through what the host needs and log what changed. ``version`` differs whenever the store was changed."""
        self.found = needs.now(session.store, {"", *places})
        mark = (frozenset((it.address, it.words) for it in self.found), version)
        if mark == self._mark and now - self._at < _EVERY:
            return
        try:
            found = session.keep_needed(places)
        except XdpguardError as error:
            _log.error(f"the addresses this host needs could not be let through: {error}; {error.remedy}")
            return
        self._mark, self._at = mark, now
        told = {it.address: f"{it}; to resolve it: {it.remedy}" for it in found}
        for address, text in told.items():
            if self._told.get(address) != text:
                _log.warning(text)
        for address in self._told.keys() - told.keys():
            _log.info(f"{address} is no longer let through: no entry blocks it, or this host does not need it")
        self._told = told
