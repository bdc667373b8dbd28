# SPDX-License-Identifier: GPL-2.0
"""What bridges to other systems say of themselves: a fact ``bridge.NAME`` each, which `status` and the metrics show."""

from __future__ import annotations

from dataclasses import dataclass, field

from xdpguard import units
from xdpguard.policy.rule import Mode
from xdpguard.store.database import Store

_KEY = "bridge."
_SILENT = 150.0  # seconds after which a bridge that runs would have said something: it does each minute


@dataclass(kw_only=True)
class Bridge:
    """The state of one bridge. Times are Unix times; counts are since the bridge was started.

    ``entries``, ``filters``: of its origin, in force or counting; ``refused``: what the other system wants and this
    host does not take, now, with some of the reasons in ``refusals``; ``left_alone``: decisions that are
    not for a firewall, by kind; ``sent``: what was handed to the other system; ``heard``: when that last answered.
    """

    name: str
    peer: str  # where the other system is, without credentials
    mode: Mode = "enforce"
    running: bool = True
    connected: bool = False
    error: str = ""  # why it is not connected, or what else is wrong
    started: float = 0.0
    heard: float = 0.0
    at: float = 0.0  # when this was written
    entries: int = 0
    filters: int = 0
    refused: int = 0
    refusals: list[str] = field(default_factory=list)
    left_alone: dict[str, int] = field(default_factory=dict)
    updates: int = 0
    failures: int = 0
    sent: int = 0
    sent_until: float = 0.0  # what began up to then was sent
    in_force: bool = True  # the program is attached

    def silent(self, now: float) -> bool:
        """Return whether it runs by its own account, but has said nothing for too long: it was killed, or hangs."""
        return self.running and now - self.at > _SILENT

    def summary(self, now: float) -> str:
        """Describe it in a line: to whom it is connected, and what it holds here."""
        held = f"{self.entries:,} {'entry' if self.entries == 1 else 'entries'}"
        if self.filters:
            held += f" and {self.filters:,} {'filter' if self.filters == 1 else 'filters'}"
        state = f"connected to {self.peer}" if self.connected else f"not connected to {self.peer}"
        if not self.running or self.silent(now):
            state = f"not running since {units.span(now - self.at)}"
        return f"{self.name}: {state}; {held}{', only counting' if self.mode == 'shadow' else ''}"

    def wrong(self, now: float) -> str:
        """Return what is wrong, as a sentence without a full stop; empty if nothing is, or it was stopped."""
        if self.silent(now):
            return (
                f"the bridge {self.name} was killed or hangs; start it again (systemctl restart xdpguard-{self.name})"
            )
        if self.running and not self.connected:
            return f"the bridge {self.name} is not connected to {self.peer}: {self.error or 'it is just starting'}"
        return f"the bridge {self.name}: {self.error}" if self.running and self.error else ""


def bridges(store: Store) -> list[Bridge]:
    """Return the bridges that have said something, by name."""
    query = "SELECT value FROM facts WHERE substr(key, 1, ?) = ? ORDER BY key"
    rows = store.execute(query, (len(_KEY), _KEY))
    if not rows:
        return []
    import msgspec  # only hosts with a bridge need it for `status`

    return store.decoded(lambda: [msgspec.json.decode(value, type=Bridge) for (value,) in rows])


def put_bridge(store: Store, its: Bridge) -> None:
    """Store what a bridge says of itself."""
    import msgspec

    store.put_fact(_KEY + its.name, msgspec.json.encode(its).decode())


def forget_bridge(store: Store, name: str) -> bool:
    """Delete what a bridge has said of itself; return whether there was anything."""
    return bool(store.execute("DELETE FROM facts WHERE key = ? RETURNING key", (_KEY + name,)))
