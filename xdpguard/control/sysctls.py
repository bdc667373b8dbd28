# SPDX-License-Identifier: GPL-2.0
"""Temporary changes to the host's sysctls and offloads: the old value is stored before anything is changed.

So the next command can restore it, even after a kill. The caller of each method holds the instance's lock.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable

from xdpguard.errors import XdpguardError
from xdpguard.net import offload, sysctl
from xdpguard.net.netns import NoSuchNamespace, place_of
from xdpguard.store.database import Store

_FACT = "sysctls"
_OFFLOADS = "offloads"
# Once this is 1 again, answers sent with options are decoded wrongly: replies in flight get a moment to arrive.
TIMESTAMPS = "net.ipv4.tcp_timestamps"
_GRACE = 1.0  # seconds


class RaisedSysctls:
    """The raised sysctls of one instance, by network namespace."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def held(self) -> dict[str, dict[str, tuple[str, str]]]:
        """Return, by namespace and sysctl, the value found and the value set."""
        raw = json.loads(self._store.fact(_FACT) or "{}")
        return {netns: {name: (found, made) for name, (found, made) in its.items()} for netns, its in raw.items()}

    def raise_to(self, netns: str, wanted: dict[str, str]) -> list[str]:
        """Set sysctls; return what was changed, as ``name old -> new``, and the namespace."""
        raised = self.held()
        mine = raised.setdefault(netns, {})
        change = {}
        for name, value in wanted.items():
            found = sysctl.read(name, netns)
            if name not in mine and found != value:
                mine[name] = (found, value)
                change[name] = value
        if not change:
            return []
        self._keep(raised)
        for name, value in change.items():
            sysctl.write(name, value, netns)
        return [f"{name} {mine[name][0]} -> {value}{_in(netns)}" for name, value in change.items()]

    def restore(self, netns: str | None = None) -> list[str]:
        """Restore raised sysctls, in one namespace or everywhere, except those that someone else has set since."""
        raised = self.held()
        done = []
        if any(TIMESTAMPS in its for name, its in raised.items() if netns in (None, name)):
            time.sleep(_GRACE)
        for name in [netns] if netns is not None else list(raised):
            for key, (found, made) in raised.pop(name, {}).items():
                # The namespace may no longer exist, nor its sysctls.
                with contextlib.suppress(XdpguardError):
                    if sysctl.read(key, name) == made:
                        sysctl.write(key, found, name)
                        done.append(f"{key} {made} -> {found}{_in(name)}")
        self._keep(raised)
        return done

    def _keep(self, raised: dict[str, dict[str, tuple[str, str]]]) -> None:
        left = {netns: its for netns, its in raised.items() if its}
        with self._store.transaction():
            self._store.put_fact(_FACT, json.dumps(left) if left else "")


def _in(netns: str) -> str:
    return f" in {netns}" if netns else ""


class Offloads:
    """Stops drivers from stripping VLAN tags while their interface is attached."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def held(self) -> dict[str, dict[str, dict[str, bool]]]:
        """Return by namespace, attached interface and device whether the offload was switched off (True), or the driver
        could not be stopped from stripping tags (False).
        """
        found: dict[str, dict[str, dict[str, bool]]] = json.loads(self._store.fact(_OFFLOADS) or "{}")
        return found

    def settle(self, name: str, netns: str, devices: Iterable[str]) -> list[str]:
        """Stop only these devices below an attached interface from stripping tags; return what was changed."""
        held = self.held().get(netns, {}).get(name, {})
        wanted = list(devices)
        stray = [it for it in held if it not in wanted]
        # A device that was switched off but strips tags again was recreated or switched on by someone.
        taken = [it for it in wanted if held.get(it, True) and offload.strips_tags(it, netns)]
        if not stray and not taken:
            return []
        self._keep(name, netns, held | dict.fromkeys(taken, True))
        off = [it for it in taken if _set_stripping(it, netns, False)]
        back = [it for it in stray if held[it] and _set_stripping(it, netns, True)]
        fixed = {it: it in off for it in taken}
        self._keep(name, netns, {it: its for it, its in held.items() if it in wanted} | fixed)
        why = f"for the VLAN devices above {place_of(name, netns)}; restored at detach"
        done = [f"rx-vlan-offload of {it}: on -> off, {why}" for it in off]
        return done + [f"rx-vlan-offload of {it}: off -> on" for it in back]

    def restore(self, name: str, netns: str, now: str = "") -> list[str]:
        """Switch on what was switched off for an interface; return what was changed. ``now``: its present name."""
        held = self.held().get(netns, {}).get(name, {})
        if not held:
            return []
        devices = [now if now and it == name else it for it, taken in held.items() if taken]
        done = [f"rx-vlan-offload of {it}: off -> on" for it in devices if _set_stripping(it, netns, True)]
        self._keep(name, netns, {})
        return done

    def _keep(self, name: str, netns: str, devices: dict[str, bool]) -> None:
        raised = self.held()
        raised.setdefault(netns, {})[name] = devices
        left = {place: {it: its for it, its in held.items() if its} for place, held in raised.items()}
        left = {place: held for place, held in left.items() if held}
        with self._store.transaction():
            self._store.put_fact(_OFFLOADS, json.dumps(left) if left else "")


def _set_stripping(name: str, netns: str, on: bool) -> bool:
    """Switch a device's offload; return whether it changed. False if it already was so or no longer exists."""
    try:
        return offload.strips_tags(name, netns) != on and offload.set_stripping(name, netns, on)
    except (OSError, NoSuchNamespace):
        return False
