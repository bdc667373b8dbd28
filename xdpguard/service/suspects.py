# SPDX-License-Identifier: GPL-2.0
"""Find and ban the sources that scan ports or complete too many handshakes."""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import ExitStack

from xdpguard.control import needs
from xdpguard.control.controller import Controller
from xdpguard.dataplane.build.handshakes import Handshakes
from xdpguard.errors import XdpguardError
from xdpguard.net import netns
from xdpguard.net.links import Link
from xdpguard.policy.model import Guard
from xdpguard.service.bans import Bans, Rates, Scans, Suspect
from xdpguard.telemetry import events

_log = logging.getLogger(__name__)

_MOST = 50  # bans at a time: each is a change on disk, and other commands wait for the lock


class Suspects:
    """Finds suspects on the watched interfaces. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self.handshakes: Handshakes | None = None  # None if the kernel does not let them be counted
        self._scans = Scans()
        self._rates = Rates()
        self._watched: set[int] = set()

    def count(self, stack: ExitStack) -> None:
        """Count handshakes until the stack ends; without them nobody is banned for many connections."""
        try:
            self.handshakes = stack.enter_context(Handshakes())
        except XdpguardError as error:
            _log.warning(f"no bans for many connections: {error}; {error.remedy}")

    def note(self, event: events.Event, now: float) -> None:
        """Record an event of the data plane."""
        if event.kind == events.SCAN:
            self._scans.note(event.source, event.port, now)

    def found(self, policy: Guard, links: Collection[Link], now: float) -> list[Suspect]:
        """Return the sources that have exceeded a limit since the last call."""
        suspects = self._scans.over(policy.scan_ports, now)
        return suspects + (self._busy(self.handshakes, policy, links, now) if self.handshakes else [])

    def ban(self, session: Controller, policy: Guard, links: Collection[Link], suspects: list[Suspect]) -> None:
        """Ban the suspects, except addresses that this host needs."""
        if not suspects:
            return
        needed = [(it.address, it.words) for it in needs.now(session.store, {"", *(link.netns for link in links)})]
        if len(suspects) > _MOST:
            _log.warning(f"{len(suspects)} sources to ban at once; banning {_MOST} of them now")
        bans = Bans(session.store, session.rules)
        for suspect in suspects[:_MOST]:
            line = bans.ban(suspect, policy, needed)
            if line:
                _log.info(line)

    def _busy(self, handshakes: Handshakes, policy: Guard, links: Collection[Link], now: float) -> list[Suspect]:
        """Return the sources that complete too many handshakes."""
        inodes = {netns.place(name).inode for name in {link.netns for link in links}}
        if inodes != self._watched:
            # The totals of a namespace that was not watched before are not a rate.
            self._watched, self._rates = inodes, Rates()
        return self._rates.over(policy.ban_connections, handshakes.counts(inodes), now)
