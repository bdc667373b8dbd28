# SPDX-License-Identifier: GPL-2.0
"""The rule tables in the kernel: adding rules, removing, auditing them, and their hit counters.

The order of writes keeps every moment safe: what makes the program look (gates.py) is set before an entry is added,
and cleared after it is removed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.held import HeldMaps
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import counters, settings
from xdpguard.dataplane.tables.entries import ENFORCED, Difference, Entries, entries, same_rule
from xdpguard.dataplane.tables.gates import Gates
from xdpguard.policy.hits import Hits
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Tables(HeldMaps):
    """The instance's rule maps, opened from their pins. Use as a context manager."""

    def __init__(self, pins: Pins) -> None:
        arrays = {"settings": abi.SETTINGS.size, "hits": abi.HITS.size, "deny4_nets": 8, "deny6_nets": abi.LINE.size}
        tables = {name: (key.size, abi.RULE.size) for name, key in ENFORCED.items()}
        super().__init__(pins, {name: (4, size) for name, size in arrays.items()} | tables)
        self.capacity = kernel.map_info(self._maps["deny4"]).max_entries
        self._gates = Gates(self._maps)

    def add(self, rules: Iterable[Rule]) -> None:
        """Put rules in force, or update their end."""
        wanted = entries(rules)
        self._gates.open(wanted)
        self._write_rules(wanted)
        self._gates.close_ports(wanted["ports"])
        settings.renew(self._maps["settings"])

    def remove(
        self, rules: Iterable[Rule], still_touched: Callable[[Prefix], bool], remaining: Callable[[], Iterable[Rule]]
    ) -> None:
        """Take rules out of force.

        ``still_touched``: whether a remaining block rule shares an address with a /24. ``remaining``: all remaining
        block rules, for when so many calls of the former would take longer.
        """
        gone = entries(rules)
        self._gates.close_ports(gone["ports"], closed=False)
        self._delete_rules(gone)
        self._gates.clear(gone, still_touched, lambda: entries(remaining()))
        self._gates.shut()
        settings.renew(self._maps["settings"])

    def sync(self, rules: Iterable[Rule]) -> int:
        """Make the kernel hold exactly these rules; one that stays is in force at every moment.

        Return how many entries were missing, wrong or superfluous, not counting ends that differ by less than a second:
        the clock causes these. A counter that belonged to another entry until now restarts at zero.
        """
        wanted = entries(rules)
        self.seed()  # the settings may have been overwritten
        self._gates.open(wanted)
        found = Difference(wanted, self._rules)
        self._write_rules(found.changed)
        self._delete_rules(found.stale)
        self._gates.write(wanted)
        self._gates.shut()
        settings.renew(self._maps["settings"])
        self.clear_hits(found.moved)
        return found.repaired

    def held(self, rules: Iterable[Rule]) -> int:
        """Count how many of these rules the kernel holds unchanged, where the program finds them."""
        fields, same = self._settings(), {}
        for table, pairs in entries(rules).items():
            there = self._rules(table) if pairs else {}
            same[table] = [key for key, value in pairs.items() if same_rule(there.get(key), value)]
        return self._gates.found(fields, same)

    def seed(self) -> None:
        """Choose the secrets of the tuples' hash and the first generation, once in the lifetime of the maps."""
        with settings.changing(self._maps["settings"]) as fields:
            if not any(fields[-abi.SECRETS :]):
                # Random: rows of other maps, left by a killed process, must not match it.
                fields[settings.GENERATION] = int.from_bytes(os.urandom(8), "little")
                fields[-abi.SECRETS :] = [int.from_bytes(os.urandom(8), "little") for _ in range(abi.SECRETS)]

    def all(self) -> Entries:
        """Return every entry by table."""
        return {table: self._rules(table) for table in ENFORCED}

    def clear_hits(self, slots: Iterable[int]) -> None:
        """Set hit counters to zero, before their slots are given to new rules."""
        with kernel.mapped(self._maps["hits"]) as mapped:
            counters.clear(mapped, self.capacity, abi.HITS.size, slots)

    def hits(self) -> Callable[[int], Hits]:
        """Take a snapshot of all hit counters; call it with a slot."""
        with kernel.mapped(self._maps["hits"]) as mapped:
            words = counters.snapshot(mapped, self.capacity, abi.HITS.size)
        return lambda slot: Hits(*words(slot))

    def hits_at(self, slots: NDArray[np.intp]) -> NDArray[np.uint64]:
        """Return packets and bytes of many slots at once: a row each."""
        import numpy as np

        rows = np.frombuffer(kernel.mapped(self._maps["hits"]), np.uint64).reshape(-1, self.capacity, 2)
        # A slot beyond the end was assigned with other maps: it has no counter here.
        found = np.zeros((len(slots), 2), np.uint64)
        inside = slots < self.capacity
        found[inside] = rows[:, slots[inside]].sum(axis=0, dtype=np.uint64)
        return found
