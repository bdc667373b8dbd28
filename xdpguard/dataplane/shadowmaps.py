# SPDX-License-Identifier: GPL-2.0
"""Shadow entries in the kernel: the tables of shadow rules, and what they would have hit (bpf/stages/shadow.h).

Nothing here drops a packet, so the order of writing need not keep anything safe.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from struct import Struct
from types import TracebackType
from typing import NamedTuple

from xdpguard.dataplane import abi, kernel, settings
from xdpguard.dataplane.pins import Pins
from xdpguard.dataplane.tables import Hits, boot_offset, same_rule, shadow_entry
from xdpguard.policy.rule import Rule

CLASSES = ("established", "allowed", "other")  # enum xg_shadow_class
_TABLES: dict[str, tuple[Struct, int]] = {
    "shadow4": (abi.PREFIX4, settings.SHADOW_RULES4),
    "shadow6": (abi.PREFIX6, settings.SHADOW_RULES6),
}
_PLACES = abi.SHADOW_RULES + abi.LISTS
_KEY = bytes(4)


class Split(NamedTuple):
    """What a shadow entry would have hit, by whose packets they were."""

    established: Hits
    allowed: Hits
    other: Hits

    @property
    def total(self) -> Hits:
        """All of it."""
        return Hits(sum(hits.packets for hits in self), sum(hits.bytes for hits in self))

    def plus(self, more: Split) -> Split:
        """Both together."""
        return Split(*(Hits(a.packets + b.packets, a.bytes + b.bytes) for a, b in zip(self, more, strict=True)))


NO_SPLIT = Split(Hits(0, 0), Hits(0, 0), Hits(0, 0))


class ShadowHits:
    """The hit counters of all shadow entries."""

    def __init__(self, pins: Pins) -> None:
        self._map = pins.open("shadow_hits", 4, abi.SHADOW_HITS.size)

    def close(self) -> None:
        """Closes the map; it stays."""
        os.close(self._map)

    def generation(self) -> str:
        """Names these counters among all that ever were."""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}:{kernel.map_info(self._map).id}"

    def clear(self, places: Iterable[int]) -> None:
        """Sets counters to zero, before their places are given to new entries."""
        rows, size = self._rows(), abi.SHADOW_HITS.size
        chosen = list(places)
        for row in range(len(rows) // size // _PLACES):
            for place in chosen:
                start = (row * _PLACES + place) * size
                rows[start : start + size] = bytes(size)

    def read(self) -> Callable[[int], Split]:
        """A snapshot; call it with a place."""
        numbers = memoryview(self._rows()[:]).cast("Q")
        words = abi.SHADOW_HITS.size // 8
        count = len(numbers) // words // _PLACES

        def of(place: int) -> Split:
            starts = [(row * _PLACES + place) * words for row in range(count)] if place < _PLACES else []
            sums = [sum(numbers[start + word] for start in starts) for word in range(words)]
            return Split(Hits(*sums[0:2]), Hits(*sums[2:4]), Hits(*sums[4:6]))

        return of

    def _rows(self) -> mmap.mmap:
        info = kernel.map_info(self._map)
        size = info.max_entries * info.value_size
        return mmap.mmap(self._map, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)


class ShadowTables:
    """The instance's maps of shadow rules, opened from their pins. Use as a context manager."""

    capacity = abi.SHADOW_RULES

    def __init__(self, pins: Pins) -> None:
        self._maps: dict[str, int] = {}
        self._hits = ShadowHits(pins)
        try:
            self._maps["settings"] = pins.open("settings", 4, abi.SETTINGS.size)
            for name, (key, _) in _TABLES.items():
                self._maps[name] = pins.open(name, key.size, abi.RULE.size)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the maps; they stay."""
        for descriptor in self._maps.values():
            os.close(descriptor)
        self._maps.clear()
        self._hits.close()

    def __enter__(self) -> ShadowTables:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def generation(self) -> str:
        """Names these maps among all that ever were: another name means that counters began anew."""
        return self._hits.generation()

    def add(self, rules: Iterable[Rule]) -> None:
        """Lets rules count, or gives them their new end."""
        for table, pairs in _entries(rules).items():
            self._write(table, pairs)
        self._flags()

    def remove(self, rules: Iterable[Rule]) -> None:
        """Takes rules out."""
        for table, pairs in _entries(rules).items():
            for key in pairs:
                kernel.delete(self._maps[table], key)
        self._flags()

    def sync(self, rules: Iterable[Rule]) -> int:
        """Makes the kernel hold exactly these rules; returns how many entries were missing, wrong or too many."""
        repaired = 0
        for table, pairs in _entries(rules).items():
            held = self._held(table)
            changed = {key: value for key, value in pairs.items() if held.get(key) != value}
            stale = [key for key in held if key not in pairs]
            self._write(table, changed)
            for key in stale:
                kernel.delete(self._maps[table], key)
            repaired += len(stale) + sum(1 for key, value in changed.items() if not same_rule(held.get(key), value))
        self._flags()
        return repaired

    def held(self, rules: Iterable[Rule]) -> int:
        """How many of these rules the kernel holds as they are: counted there."""
        raw = kernel.lookup(self._maps["settings"], _KEY, abi.SETTINGS.size) or b""
        fields = abi.SETTINGS.unpack(raw)
        found = 0
        for table, pairs in _entries(rules).items():
            if pairs and fields[_TABLES[table][1]] and fields[settings.SHADOW]:
                there = self._held(table)
                found += sum(1 for key, value in pairs.items() if same_rule(there.get(key), value))
        return found

    def lists_in_force(self) -> bool:
        """Whether the program asks the index of the shadow lists."""
        raw = kernel.lookup(self._maps["settings"], _KEY, abi.SETTINGS.size) or b""
        fields = abi.SETTINGS.unpack(raw)
        return bool(fields[settings.SHADOW_LISTS4] or fields[settings.SHADOW_LISTS6])

    def clear_hits(self, slots: Iterable[int]) -> None:
        """Sets counters to zero, before their slots are given to new rules."""
        self._hits.clear(slots)

    def hits(self) -> Callable[[int], Split]:
        """A snapshot of all hit counters; call it with a slot."""
        return self._hits.read()

    def _held(self, table: str) -> dict[bytes, bytes]:
        size, width = _TABLES[table][0].size, abi.RULE.size
        keys, values, count = kernel.entries(self._maps[table], size, width)
        return {keys[i * size : (i + 1) * size]: values[i * width : (i + 1) * width] for i in range(count)}

    def _write(self, table: str, pairs: dict[bytes, bytes]) -> None:
        if pairs:
            kernel.update_batch(self._maps[table], b"".join(pairs), b"".join(pairs.values()), len(pairs))

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
