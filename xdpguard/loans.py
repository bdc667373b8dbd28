# SPDX-License-Identifier: GPL-2.0
"""Sysctls that the guard has raised for a while, and what they were: in the store before anything is changed.

So whoever comes next, after a kill too, finds what to put back. Methods want the instance's lock held.
"""

from __future__ import annotations

import contextlib
import json
import time

from xdpguard.errors import XdpguardError
from xdpguard.lists.store import Store
from xdpguard.net import sysctl

_FACT = "sysctls"
# Answers sent with options are decoded wrongly once this is 1 again: those on their way get a moment to come back.
TIMESTAMPS = "net.ipv4.tcp_timestamps"
_GRACE = 1.0  # seconds


class Loans:
    """One instance's raised sysctls, by network namespace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def held(self) -> dict[str, dict[str, tuple[str, str]]]:
        """By namespace and sysctl: the value found, and the value set."""
        raw = json.loads(self._store.fact(_FACT) or "{}")
        return {netns: {name: (found, made) for name, (found, made) in its.items()} for netns, its in raw.items()}

    def raise_to(self, netns: str, wanted: dict[str, str]) -> list[str]:
        """Sets sysctls; returns what was changed, as ``name found -> made``."""
        loans = self.held()
        mine = loans.setdefault(netns, {})
        change = {}
        for name, value in wanted.items():
            found = sysctl.read(name, netns)
            if name not in mine and found != value:
                mine[name] = (found, value)
                change[name] = value
        if not change:
            return []
        self._keep(loans)
        for name, value in change.items():
            sysctl.write(name, value, netns)
        return [f"{name} {mine[name][0]} -> {value}" for name, value in change.items()]

    def restore(self, netns: str | None = None) -> list[str]:
        """Puts back what is on loan, in one namespace or everywhere; one that somebody else has set since stays."""
        loans = self.held()
        done = []
        if any(TIMESTAMPS in its for name, its in loans.items() if netns in (None, name)):
            time.sleep(_GRACE)
        for name in [netns] if netns is not None else list(loans):
            for key, (found, made) in loans.pop(name, {}).items():
                # The namespace may have gone, and its sysctls with it.
                with contextlib.suppress(XdpguardError):
                    if sysctl.read(key, name) == made:
                        sysctl.write(key, found, name)
                        done.append(f"{key} {made} -> {found}")
        self._keep(loans)
        return done

    def _keep(self, loans: dict[str, dict[str, tuple[str, str]]]) -> None:
        left = {netns: its for netns, its in loans.items() if its}
        with self._store.transaction():
            self._store.put_fact(_FACT, json.dumps(left) if left else "")
