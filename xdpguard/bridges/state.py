# SPDX-License-Identifier: GPL-2.0
"""Keep the state of a bridge in the store: at most each few seconds when it changes, and each minute if it does not."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from xdpguard.instance import Instance
from xdpguard.store.bridges import Bridge, put_bridge
from xdpguard.store.database import Store

_OFTEN, _SELDOM = 5.0, 60.0  # seconds; each writing makes `run` look at the store, and waits for the disk


class Account:
    """The state of one bridge, which the bridge alters as it goes, and when it is written."""

    def __init__(self, state: Bridge, now: Callable[[], float] = time.time) -> None:
        self.state = state
        self._now = now
        self._written: Bridge | None = None
        state.started = now()

    def due(self) -> bool:
        """Return whether the state is to be written: open a session, with the lock, and call `write`."""
        if self._written is None:
            return True
        age = abs(self._now() - self._written.at)  # the clock may be set
        if age >= _SELDOM:
            return True
        before = replace(self._written, heard=self.state.heard, updates=self.state.updates, at=0.0)
        return age >= _OFTEN and before != replace(self.state, at=0.0)

    def write(self, store: Store) -> None:
        """Write the state, whenever it was written last. The caller holds the instance's lock."""
        self.state.at = self._now()
        with store.transaction():
            put_bridge(store, self.state)
        self._written = copy.deepcopy(self.state)

    def connected(self) -> None:
        """Note that the other system has answered as it should."""
        self.state.connected, self.state.error, self.state.heard = True, "", self._now()

    def failed(self, why: str) -> None:
        """Note that the other system cannot be reached or refuses, and why."""
        self.state.connected, self.state.error = False, why
        self.state.failures += 1

    def stopped(self, store: Store) -> None:
        """Write that the bridge was stopped; what it has put in force stays until its end."""
        self.state.running, self.state.connected, self.state.error = False, False, ""
        self.write(store)


def alone(instance: Instance, name: str) -> AbstractContextManager[None]:
    """Hold the exclusive right to be the bridge of that name. Raise XdpguardError if another process holds it."""
    return instance.alone(
        f"bridge-{name}",
        f"already is the bridge {name} of instance '{instance.name}'",
        f"stop it first (systemctl stop xdpguard-{name}, if it is that service)",
    )
