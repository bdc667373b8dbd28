# SPDX-License-Identifier: GPL-2.0
"""Shadow entries in the kernel: the tables of shadow rules, and what they would have hit (bpf/stages/shadow.h).

Nothing here drops a packet, so writes need no safe order.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable
from struct import Struct

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.held import HeldMaps
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import settings
from xdpguard.dataplane.tables.rules import boot_offset, same_rule, shadow_entry, slots_of, stray_slots
from xdpguard.policy.hits import Hits, Split
from xdpguard.policy.rule import Rule
from xdpguard.policy.target import Prefix

CLASSES = ("established", "allowed", "other")  # enum xg_shadow_class
_TABLES: dict[str, tuple[Struct, int]] = {
    "shadow4": (abi.PREFIX4, settings.SHADOW_RULES4),
    "shadow6": (abi.PREFIX6, settings.SHADOW_RULES6),
}
_PLACES = abi.SHADOW_RULES + abi.LISTS


class ShadowTables(HeldMaps):
    """The instance's maps of shadow rules, opened from their pins. Use as a context manager."""

    COUNTERS = "shadow_hits"
    capacity = abi.SHADOW_RULES

    def __init__(self, pins: Pins) -> None:
        super().__init__()
        try:
            self._maps["settings"] = pins.open("settings", 4, abi.SETTINGS.size)
            self._maps[self.COUNTERS] = pins.open(self.COUNTERS, 4, abi.SHADOW_HITS.size)
            for name, (key, _) in _TABLES.items():
                self._maps[name] = pins.open(name, key.size, abi.RULE.size)
        except BaseException:
            self.close()
            raise

    def add(self, rules: Iterable[Rule]) -> None:
        """Let rules count, or update their end."""
        for table, pairs in _entries(rules).items():
            self._write_rules(table, pairs)
        self._flags()

    def remove(
        self,
        rules: Iterable[Rule],
        still_touched: Callable[[Prefix], bool] | None = None,
        remaining: Callable[[], Iterable[Rule]] | None = None,
    ) -> None:
        """Take rules out. The other arguments, of Tables.remove(), are not needed: there is no pre-filter here."""
        del still_touched, remaining
        for table, pairs in _entries(rules).items():
            for key in pairs:
                kernel.delete(self._maps[table], key)
        self._flags()

    def sync(self, rules: Iterable[Rule]) -> int:
        """Make the kernel hold exactly these rules; return how many entries were missing, wrong or superfluous."""
        repaired = 0
        wanted = _entries(rules)
        strays: set[int] = set()
        for table, pairs in wanted.items():
            held = self._held(table)
            strays |= stray_slots(held, pairs)
            changed = {key: value for key, value in pairs.items() if held.get(key) != value}
            stale = [key for key in held if key not in pairs]
            self._write_rules(table, changed)
            for key in stale:
                kernel.delete(self._maps[table], key)
            repaired += len(stale) + sum(1 for key, value in changed.items() if not same_rule(held.get(key), value))
        self._flags()
        if strays:
            self.clear_hits(strays & slots_of(wanted))
        return repaired

    def held(self, rules: Iterable[Rule]) -> int:
        """Count how many of these rules the kernel holds unchanged."""
        fields = self._settings()
        found = 0
        for table, pairs in _entries(rules).items():
            if pairs and fields[_TABLES[table][1]] and fields[settings.SHADOW]:
                there = self._held(table)
                found += sum(1 for key, value in pairs.items() if same_rule(there.get(key), value))
        return found

    def all(self) -> dict[str, dict[bytes, bytes]]:
        """Return every entry by table."""
        return {table: self._held(table) for table in _TABLES}

    def lists_in_force(self) -> bool:
        """Return whether the program looks sources up in the index of the shadow lists."""
        fields = self._settings()
        return bool(fields[settings.SHADOW_LISTS4] or fields[settings.SHADOW_LISTS6])

    def clear_hits(self, slots: Iterable[int]) -> None:
        """Set hit counters to zero, before their slots are given to new rules."""
        rows, size = self._rows_of_hits(), abi.SHADOW_HITS.size
        chosen = list(slots)
        for row in range(len(rows) // size // _PLACES):
            for slot in chosen:
                start = (row * _PLACES + slot) * size
                rows[start : start + size] = bytes(size)

    def hits(self) -> Callable[[int], Split]:
        """Take a snapshot of all hit counters; call it with a slot."""
        numbers = memoryview(self._rows_of_hits()[:]).cast("Q")
        words = abi.SHADOW_HITS.size // 8
        count = len(numbers) // words // _PLACES

        def of(slot: int) -> Split:
            starts = [(row * _PLACES + slot) * words for row in range(count)] if slot < _PLACES else []
            sums = [sum(numbers[start + word] for start in starts) for word in range(words)]
            return Split(Hits(*sums[0:2]), Hits(*sums[2:4]), Hits(*sums[4:6]))

        return of

    def _rows_of_hits(self) -> mmap.mmap:
        info = kernel.map_info(self._maps[self.COUNTERS])
        size = info.max_entries * info.value_size
        return mmap.mmap(self._maps[self.COUNTERS], -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)

    def _held(self, table: str) -> dict[bytes, bytes]:
        return self._rules(table, _TABLES[table][0].size)

    def _flags(self) -> None:
        there = {field: kernel.has_entries(self._maps[table], key.size) for table, (key, field) in _TABLES.items()}

        def change(fields: list[int]) -> None:
            for field, value in there.items():
                fields[field] = int(value)

        settings.change(self._maps["settings"], change)
        settings.renew_shadow(self._maps["settings"])


def _entries(rules: Iterable[Rule]) -> dict[str, dict[bytes, bytes]]:
    offset = boot_offset()
    found: dict[str, dict[bytes, bytes]] = {table: {} for table in _TABLES}
    for rule in rules:
        table, key, value = shadow_entry(rule, offset)
        found[table][key] = value
    return found
