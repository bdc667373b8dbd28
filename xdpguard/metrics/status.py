# SPDX-License-Identifier: GPL-2.0
"""State that the service's loop publishes for other threads, and the service's health."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from xdpguard.control.audit import Audit
from xdpguard.control.interfaces import Interface
from xdpguard.metrics.fleet import FleetFigures, put
from xdpguard.metrics.samples import Gathering
from xdpguard.net.netns import arguments_of, place_of
from xdpguard.units import counted

LATE = 30.0  # seconds without a pass after which the loop counts as stuck; systemd's watchdog waits for 60


class LastAudit(NamedTuple):
    """An audit and its Unix time."""

    audit: Audit
    at: float


class Status:
    """Written by the loop, read by all threads. Each attribute is replaced as a whole, so no lock is needed."""

    def __init__(self) -> None:
        self.started = time.time()
        self.ticked = time.monotonic()
        self.mode = "off"
        self.audit: LastAudit | None = None
        self.awaited: tuple[str, ...] = ()  # interfaces that should be attached but are not
        self.fleet: FleetFigures | None = None
        self.reload_ok = True
        self.reloaded = time.time()

    def put_fleet(self, out: Gathering) -> None:
        """Add the figures of the fleet; without one there are none."""
        if self.fleet is not None:
            put(out, self.fleet)

    def age(self) -> float:
        """Return the seconds since the loop last ran."""
        return time.monotonic() - self.ticked

    def unhealthy(self) -> str:
        """Return why the service is unhealthy; empty if it is healthy."""
        age = self.age()
        return f"the loop last ran {age:.0f} s ago" if age > LATE else ""

    def unready(self, interfaces: Iterable[Interface]) -> str:
        """Return why packets may not be handled as configured; empty if they are."""
        attached = list(interfaces)
        if self.unhealthy():
            return self.unhealthy()
        if self.awaited or not attached:
            missing = f"{', '.join(self.awaited)} is not attached yet; see the log of xdpguard run"
            return missing if self.awaited else "nothing is attached; attach with: xdpguard attach IFACE"
        for it in attached:
            if it.state != "attached":
                where = arguments_of(it.name, it.netns)
                remedy = f"attach it again: xdpguard attach {where}"
                if it.state == "gone":
                    remedy = f"it is attached again when it comes back; to stop waiting for it: xdpguard detach {where}"
                return f"{place_of(it.name, it.netns)} is {it.state}; {remedy}"
        if self.audit is None:
            return "no audit yet"
        if self.audit.audit.ratio < 1:
            found = self.audit.audit
            shares = [found.rules, found.filters, *found.lists.values()]
            held, stored = sum(it.held for it in shares), sum(it.stored for it in shares)
            done = "could not restore the rest" if found.failed else "restored the rest"
            all_of = counted(stored, "stored entry", "stored entries")
            return f"the kernel held {held:,} of {all_of} at the last audit, which {done}"
        return ""
