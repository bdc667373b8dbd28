# SPDX-License-Identifier: GPL-2.0
"""Report what around the guard affects it: published ports, connections without a socket here, a firewall."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from xdpguard.control.controller import Controller
from xdpguard.control.surroundings import others
from xdpguard.errors import XdpguardError
from xdpguard.net import around, firewall
from xdpguard.net.links import Link
from xdpguard.net.netns import place_of
from xdpguard.policy.model import Guard
from xdpguard.policy.target import parse_ports
from xdpguard.service import published

_log = logging.getLogger(__name__)

_OVER = {
    "others": "segments without a socket no longer pass",
    "notes": "everything about the host is known again",
    "firewall": "no firewall rule seems to drop a listening port anymore",
    "survey": "the guard's surroundings can be read again",
}
_EVERY = 60.0  # seconds between two readings of the firewall's rules, of which there may be many


class Survey:
    """Logs each finding once, and again when it changes. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str], str] = {}
        self._firewall_at = float("-inf")

    def look(self, session: Controller, policy: Guard, links: Sequence[Link], now: float) -> None:
        """Log what is new around the guard and exempt published ports; log it too if something cannot be read.

        Call before a policy is put in force, with the instance's lock held.
        """
        if policy.mode == "off" or not links:
            return
        namespaces = sorted({link.netns for link in links})
        try:
            self._published(session, namespaces)
            for link in links:
                self._around(policy, link)
            if now - self._firewall_at >= _EVERY:
                self._firewall_at = now
                for netns in namespaces:
                    self._firewall(policy, netns, session.guard.published())
        except (OSError, XdpguardError) as error:
            self._tell("", "", "survey", f"the guard's surroundings cannot be read: {error}")
        else:
            self._tell("", "", "survey", "")

    def _published(self, session: Controller, namespaces: Iterable[str]) -> None:
        found = published.find(namespaces)
        before = session.guard.published()
        if sorted(found) == before:
            return
        session.guard.publish(found)
        for port in sorted(found.keys() - before):
            _log.warning(f"guard: port {port}/tcp is exempt: {found[port]} listens on it, NAT takes its connections")
        for port in sorted(set(before) - found.keys()):
            _log.info(f"guard: port {port}/tcp is no longer exempt")

    def _around(self, policy: Guard, link: Link) -> None:
        seen = around.read(link.ifindex, link.netns)
        reasons = ", ".join(others(policy, link, seen))
        self._tell(link.netns, link.name, "others", f"segments without a socket pass: {reasons}" if reasons else "")
        self._tell(link.netns, link.name, "notes", "; ".join(seen.notes))

    def _firewall(self, policy: Guard, netns: str, exempt: Iterable[int]) -> None:
        own = {port.number for it in policy.exempt_ports for port in parse_ports(it)}
        found = firewall.warnings(netns, own | set(exempt))
        self._tell(netns, "", "firewall", "; ".join([*found, firewall.REMEDY]) if found else "")

    def _tell(self, netns: str, name: str, what: str, text: str) -> None:
        """Log a finding that is new, or, if ``text`` is empty, that the finding no longer applies."""
        place = (netns, name, what)
        if self._told.get(place, "") == text:
            return
        self._told[place] = text
        where = place_of(name, netns) if name else f"namespace {netns}" if netns else "guard"
        _log.log(logging.WARNING if text else logging.INFO, f"{where}: {text or _OVER[what]}")
