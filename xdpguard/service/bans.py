# SPDX-License-Identifier: GPL-2.0
"""Bans of proved sources: which sources are banned, for how long, and which never are.

A source is proved by a completed handshake (the kernel's tracepoint) or by a SYN cookie that it returned. SYNs alone
prove nothing, because their source address may be forged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from xdpguard.control.entries import Entries
from xdpguard.errors import XdpguardError
from xdpguard.policy.duration import parse_duration
from xdpguard.policy.model import Guard
from xdpguard.policy.rule import GUARD
from xdpguard.policy.target import Prefix
from xdpguard.store.database import Store
from xdpguard.store.offences import offences, put_offences
from xdpguard.units import counted

_SITE6 = 64  # bits: the least that an IPv6 customer gets; the customer can change addresses within it at will
_SCAN_WINDOW = 60.0  # seconds
_SHORTEST = 0.9  # seconds over which a rate means something: a few connections within a moment do not
_LOOPBACK = {bytes(15) + b"\1"}


class Suspect(NamedTuple):
    """A source, the site it belongs to, and what it did, as text."""

    address: Prefix
    site: Prefix
    evidence: str


class Scans:
    """Tracks the closed ports that proved sources have tried within a minute."""

    def __init__(self) -> None:
        self._ports: dict[bytes, dict[int, float]] = {}

    def note(self, source: bytes, port: int, now: float) -> None:
        """Record that a source has proved itself on a closed port (``now``: monotonic, s)."""
        self._ports.setdefault(source, {})[port] = now

    def over(self, limit: int, now: float) -> list[Suspect]:
        """Return the sources with at least ``limit`` ports and forget them. A limit of 0 returns none."""
        found = []
        for source, ports in list(self._ports.items()):
            fresh = {port: at for port, at in ports.items() if now - at < _SCAN_WINDOW}
            if limit and len(fresh) >= limit:
                named = ", ".join(str(port) for port in sorted(fresh)[:5])
                evidence = f"port scan: {len(fresh)} closed ports in a minute ({named}, ...), answered SYN cookies"
                found.append(Suspect(Prefix(source, len(source) * 8), _site(source), evidence))
                del self._ports[source]
            elif fresh:
                self._ports[source] = fresh
            else:
                del self._ports[source]
        return found


class Rates:
    """Rates of completed handshakes by source.

    Create a new one when the set of watched namespaces changes: their existing totals would count as a burst.
    """

    def __init__(self) -> None:
        self._before: dict[bytes, int] | None = None
        self._at = 0.0

    def over(self, limit: int, counts: dict[bytes, int], now: float) -> list[Suspect]:
        """Return the sources that completed more than ``limit`` handshakes a second since the last call.

        A limit of 0 returns none.
        """
        seconds = now - self._at
        if self._before is not None and seconds < _SHORTEST:
            return []
        before, self._before, self._at = self._before, counts, now
        if before is None or not limit:
            return []
        sites: dict[Prefix, dict[bytes, int]] = {}
        for source, count in counts.items():
            if source not in _LOOPBACK and not (len(source) == 4 and source[0] == 127):
                sites.setdefault(_site(source), {})[source] = count - before.get(source, 0)
        found = []
        for site, its in sites.items():
            rate = sum(its.values()) / seconds
            if rate > limit:
                busiest = max(its, key=lambda source: its[source])
                evidence = f"{counted(round(rate), 'completed connection')} a second (limit {limit:,})"
                found.append(Suspect(Prefix(busiest, len(busiest) * 8), site, evidence))
        return found


class Bans:
    """Puts bans in force. The caller holds the instance's lock."""

    def __init__(self, store: Store, rules: Entries, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._rules = rules
        self._now = now

    def ban(self, suspect: Suspect, policy: Guard, needed: Iterable[tuple[Prefix, str]]) -> str:
        """Ban a source, longer each time, and return the line to log.

        Bans the source's whole site, or only the source if the site contains an address that must not be banned.
        ``needed``: addresses that must never be banned, each with its role.
        """
        now = self._now()
        needed = list(needed)
        if self._store.covering("block", suspect.address, now):
            return ""
        address = suspect.site if not self._kept(suspect.site, needed, now) else suspect.address
        keep = self._kept(address, needed, now)
        if keep:
            return f"{address} is not banned because it is {keep}: {suspect.evidence}"
        number, last = offences(self._store, str(address))
        if now - last > parse_duration(policy.forget):
            number = 0
        words = policy.bans[min(number, len(policy.bans) - 1)]
        try:
            self._rules.add("block", [address], suspect.evidence, GUARD, parse_duration(words))
        except XdpguardError as error:
            return f"{address} could not be banned: {error}; {error.remedy}"
        with self._store.transaction():
            put_offences(self._store, str(address), number + 1, now)
        return f"banned {address} for {words}: {suspect.evidence}"

    def _kept(self, prefix: Prefix, needed: Iterable[tuple[Prefix, str]], now: float) -> str:
        """Return why a prefix must not be banned; empty if it may be."""
        if self._store.covering("allow", prefix, now) or self._allowed_inside(prefix, now):
            return "allow-listed"
        return next((role for other, role in needed if prefix.covers(other) or other.covers(prefix)), "")

    def _allowed_inside(self, prefix: Prefix, now: float) -> bool:
        return any(
            isinstance(rule.target, Prefix) and prefix.covers(rule.target) and (rule.expires or now + 1) > now
            for rule in self._store.rules("allow")
        )


def _site(source: bytes) -> Prefix:
    if len(source) == 4:
        return Prefix(source, 32)
    return Prefix(source[: _SITE6 // 8] + bytes(16 - _SITE6 // 8), _SITE6)
