# SPDX-License-Identifier: GPL-2.0
"""Which drops events and capture want: of which interfaces, and for which reasons."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xdpguard.cli import places
from xdpguard.cli.session import Options, nothing_attached, pins
from xdpguard.errors import UsageError
from xdpguard.store.attachments import attachments

if TYPE_CHECKING:
    from xdpguard.store.watch import StoreWatch
    from xdpguard.telemetry.drops import Drop, Place


@dataclass
class Wanted:
    """Which drops are wanted: those of matching attached interfaces, and of some reasons."""

    places: list[Place]
    reasons: Collection[str]  # empty: all
    interface: str = ""  # empty: any
    netns: str | None = None  # None: any
    store: StoreWatch | None = None
    version: int = 0  # of the store when it was looked at

    def look(self, chosen: Options) -> list[Place]:
        """Add interfaces attached since the last look, and return them. Detached ones are kept."""
        from xdpguard.control.namespaces import expect_namespaces, matching
        from xdpguard.store.database import Store
        from xdpguard.store.watch import StoreWatch

        self.store = self.store or StoreWatch(chosen.instance.store)
        version = self.store.version()
        if version in (0, self.version):  # 0: nothing was ever stored
            return []
        self.version = version
        held = pins(chosen)
        with Store(chosen.instance.store, read_only=True) as store:
            there = [(it.name, it.netns) for it in attachments(store) if held.is_current(it.name, it.netns)]
            expect_namespaces(store)
        new = [it for it in matching(there, self.interface, self.netns) if it not in self.places]
        self.places += new
        return new

    def holds(self, drop: Drop) -> bool:
        """Return whether a drop is wanted."""
        return self.admits(drop.reason.name)

    def admits(self, reason: str) -> bool:
        """Return whether drops of a reason are wanted."""
        return not self.reasons or reason in self.reasons

    def shown(self, place: Place) -> str:
        """Return an interface's unambiguous name, padded to the widest of all."""
        names = [name for name, _ in self.places]
        found = {it: it[0] if names.count(it[0]) == 1 else places.key(*it) for it in self.places}
        return found[place].ljust(max(map(len, found.values())))


def wanted(chosen: Options, reasons: list[str] | None, interface: str, netns: str | None) -> Wanted:
    """Read the options. Raise UsageError if a reason never drops, XdpguardError if no interface is in reach."""
    from xdpguard.telemetry.counters import dropping

    for name in reasons or ():
        if name not in dropping():
            raise UsageError(f"{name!r} is not a reason for drops", f"give one of: {', '.join(dropping())}")
    where = None if netns is None else namespace(chosen, netns)
    found = Wanted([], frozenset(reasons or ()), interface, where)
    if found.look(chosen):
        return found
    if not Wanted([], ()).look(chosen):
        raise nothing_attached(chosen)
    what = f"{interface} is not attached" if interface else "nothing is attached"
    raise UsageError(f"{what}{f' in namespace {netns}' if netns else ''}", "xdpguard status shows what is")


def namespace(chosen: Options, words: str) -> str:
    """Return the recorded name of the namespace that --netns means."""
    from xdpguard.control.namespaces import expect_namespaces
    from xdpguard.net.recorded import recorded_name
    from xdpguard.store.database import Store

    with Store(chosen.instance.store, read_only=True) as store:
        expect_namespaces(store)
        return recorded_name(words, {it.netns for it in attachments(store)})
