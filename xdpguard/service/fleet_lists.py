# SPDX-License-Identifier: GPL-2.0
"""The fleet's lists on this host: fetched once for each digest, put in force as far as this host takes them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from xdpguard.control.controller import Controller
from xdpguard.control.foreign_lists import ForeignLists, Given
from xdpguard.errors import XdpguardError
from xdpguard.fleet.message import FleetList
from xdpguard.policy.fleet import Fleet as Settings
from xdpguard.policy.rule import FLEET
from xdpguard.units import counted

if TYPE_CHECKING:
    from xdpguard.fleet.objects import Fetched

_log = logging.getLogger(__name__)

_SOON, _LATE = 5.0, 600.0  # seconds until a list that failed is tried again: at first, and at last


class _Try:
    """An attempt to get a list. ``at``: when it is due, monotonic, s; ``found``: fetched, but not in force."""

    def __init__(self, its: FleetList) -> None:
        self.its = its
        self.at = 0.0
        self.found: Fetched | None = None
        self._pause = _SOON

    def later(self) -> None:
        """Try again after a pause, longer each time."""
        self.at = time.monotonic() + self._pause
        self._pause = min(_LATE, self._pause * 2)


class FleetLists:
    """Belongs to the daemon's thread."""

    def __init__(self, settings: Settings, fetch: Callable[[FleetList, int], None]) -> None:
        """``fetch`` has a list fetched, of so many entries at most; `took` is called with what comes."""
        self.refused: dict[str, str] = {}  # by name: why
        self.held: dict[str, str] = {}  # by name: the digest that is in force
        self._settings = settings
        self._fetch = fetch
        self._tries: dict[str, _Try] = {}
        self._came: list[Fetched] = []

    @property
    def due(self) -> bool:
        """Whether something came that is to be put in force."""
        return bool(self._came)

    def took(self, came: Iterable[Fetched]) -> None:
        """Take what was fetched."""
        self._came += came

    def follow(
        self, session: Controller, wanted: Mapping[str, FleetList], keeping: bool, places: Collection[str]
    ) -> None:
        """Put in force what came, have fetched what is missing, drop what is no longer wanted. The lock is held.

        ``keeping``: the server lost its data, and what is here stays.
        """
        here = ForeignLists(session, FLEET, self._settings.limits, places)
        came, self._came = self._came, []
        for found in came:
            its = found.its
            if wanted.get(its.name) != its or here.has(its.name, its.digest):
                continue
            if self._refusal(here, its, wanted):  # by now, as others came before it
                self._tries.pop(its.name, None)
            else:
                self._put(here, found)
        self._drop(here, wanted, keeping)
        self.refused = {name: why for name, why in self.refused.items() if name in wanted or name in here.held()}
        self._tries = {name: it for name, it in self._tries.items() if wanted.get(name) == it.its}
        for name, its in wanted.items():
            if here.has(name, its.digest):
                self.refused.pop(name, None)
            elif why := self._refusal(here, its, wanted):
                self._refuse(name, why)
            else:
                self._get(its)
        held = here.held()
        self.held = {name: it.stamp.partition(":")[0] for name, it in held.items()}

    def _refusal(self, here: ForeignLists, its: FleetList, wanted: Mapping[str, FleetList]) -> str:
        """Return why a list is not even fetched; empty if it is."""
        if whose := here.taken_by(its.name):
            return f"this host has a list of this name, of {whose}"
        others = sum(there.given for name, there in here.held().items() if name != its.name and name in wanted)
        most = self._settings.max_list_entries
        if others + its.entries > most:
            more = f" with {others:,} of other lists" if others else ""
            return f"it has {counted(its.entries, 'entry', 'entries')}{more}, and the fleet may have {most:,} in lists"
        return ""

    def _get(self, its: FleetList) -> None:
        known = self._tries.setdefault(its.name, _Try(its))
        if known.at > time.monotonic():
            return
        known.at = float("inf")  # on its way
        if known.found is not None:
            self._came.append(known.found)
        else:
            self._fetch(its, self._settings.max_list_entries)

    def _put(self, here: ForeignLists, found: Fetched) -> None:
        name, known = found.its.name, self._tries.setdefault(found.its.name, _Try(found.its))
        if found.entries is None:
            self._refuse(name, found.why)
            if not found.final:  # else it would be the same again, until another one is published
                known.later()
            return
        try:
            done = here.put(Given(name, found.its.digest, found.entries))
        except XdpguardError as error:
            known.found = found
            known.later()
            self._refuse(name, str(error))
            return
        del self._tries[name]
        shorter = counted(done.skipped, "shorter prefix", "shorter prefixes")
        left = f", {shorter} left out" if done.skipped else ""
        counts = ", in shadow mode" if done.mode == "shadow" else ""
        _log.info(f"fleet: list {name} loaded: {counted(done.entries, 'entry', 'entries')}{counts}{left}")

    def _drop(self, here: ForeignLists, wanted: Mapping[str, FleetList], keeping: bool) -> None:
        """Drop what is not wanted, and what is in the other mode once it is in this one."""
        old = [name for name in here.misplaced() if name not in wanted or here.has(name, wanted[name].digest)]
        over = self._too_many(here, wanted)
        gone = [] if keeping else [name for name in here.held() if name not in wanted or name in over]
        try:
            here.drop_misplaced(old)
            here.drop(gone)
        except XdpguardError as error:
            for name in gone or old:
                self._refuse(name, f"it could not be removed: {error}")
            return
        for name in gone:
            _log.info(f"fleet: list {name} removed")

    def _too_many(self, here: ForeignLists, wanted: Mapping[str, FleetList]) -> Collection[str]:
        """Return which lists have no place beside the others, since the limit was lowered."""
        room, over = self._settings.max_list_entries, set()
        for name, its in sorted(here.held().items()):
            if its.given > room:
                over.add(name)
            elif name in wanted:
                room -= its.given
        return over

    def _refuse(self, name: str, why: str) -> None:
        if self.refused.get(name) != why:
            _log.warning(f"fleet: refused here: list {name}: {why}")
        self.refused[name] = why
