# SPDX-License-Identifier: GPL-2.0
"""The rule tables in the kernel: turning rules into map entries, adding, removing, auditing, and their hit counters.

The order of writes keeps every moment safe: what makes the program look (settings, pre-filter bits) is set before an
entry is added, and cleared after it is removed.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from struct import Struct
from typing import TYPE_CHECKING

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.held import HeldMaps
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import nets6, prefilter, settings
from xdpguard.dataplane.tables.reach import Reach
from xdpguard.policy.hits import Hits
from xdpguard.policy.rule import SAFETY, Rule
from xdpguard.policy.target import PROTOCOL_NUMBERS, Port, Prefix

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MANY_NETS = 100  # bytes of the pre-filter from which reading all rules is faster than checking each network
# Each rule table's key, and the settings fields that make the program look there (none: the port bits do).
_TABLES: dict[str, tuple[Struct, tuple[int, ...]]] = {
    "allow4": (abi.PREFIX4, (settings.ALLOW4,)),
    "allow6": (abi.PREFIX6, (settings.ALLOW6,)),
    "deny4": (abi.ADDRESS4, (settings.DENY4,)),
    "deny4_prefix": (abi.PREFIX4, (settings.DENY4, settings.DENY4_PREFIX)),
    "deny6": (abi.ADDRESS6, (settings.DENY6,)),
    "deny6_prefix": (abi.PREFIX6, (settings.DENY6, settings.DENY6_PREFIX)),
    "ports": (abi.PORT, ()),
}

Entries = dict[str, dict[bytes, bytes]]


def entry(rule: Rule, boot_offset: float) -> tuple[str, bytes, bytes]:
    """Return a rule's map entry: table, key, value. ``boot_offset``: CLOCK_BOOTTIME minus Unix time, in seconds."""
    target = rule.target
    if isinstance(target, Port):
        key = abi.PORT.pack(target.number, PROTOCOL_NUMBERS[target.protocol])
        return "ports", key, _value(rule, boot_offset, 0)
    value = _value(rule, boot_offset, target.length)
    if rule.kind == "block" and target.is_address:
        address = abi.ADDRESS4 if target.version == 4 else abi.ADDRESS6
        return f"deny{target.version}", address.pack(target.network), value
    table = f"allow{target.version}" if rule.kind == "allow" else f"deny{target.version}_prefix"
    return table, _prefix_key(target), value


def shadow_entry(rule: Rule, boot_offset: float) -> tuple[str, bytes, bytes]:
    """Return a shadow rule's map entry: table, key, value; single addresses are prefixes. ``boot_offset``: seconds."""
    target = rule.target
    assert isinstance(target, Prefix)
    return f"shadow{target.version}", _prefix_key(target), _value(rule, boot_offset, target.length)


def _prefix_key(target: Prefix) -> bytes:
    layout = abi.PREFIX4 if target.version == 4 else abi.PREFIX6
    return layout.pack(target.length, target.network)


def _value(rule: Rule, boot_offset: float, length: int) -> bytes:
    expires = 0 if rule.expires is None else max(1, int((rule.expires + boot_offset) * 1e9))
    return abi.RULE.pack(expires, rule.slot, length | (abi.RULE_NEEDED if rule.source == SAFETY else 0))


class Tables(HeldMaps):
    """The instance's rule maps, opened from their pins. Use as a context manager."""

    def __init__(self, pins: Pins) -> None:
        super().__init__()
        try:
            self._maps["settings"] = pins.open("settings", 4, abi.SETTINGS.size)
            self._maps["hits"] = pins.open("hits", 4, abi.HITS.size)
            self._maps["deny4_nets"] = pins.open("deny4_nets", 4, 8)
            self._maps["deny6_nets"] = pins.open("deny6_nets", 4, abi.LINE.size)
            for name, (key, _) in _TABLES.items():
                self._maps[name] = pins.open(name, key.size, abi.RULE.size)
        except BaseException:
            self.close()
            raise
        self.capacity = kernel.map_info(self._maps["deny4"]).max_entries
        self._rows = kernel.map_info(self._maps["hits"]).max_entries // self.capacity

    def add(self, rules: Iterable[Rule]) -> None:
        """Put rules in force, or update their end."""
        wanted = _entries(rules)
        self._open_gates(wanted)
        for table, pairs in wanted.items():
            self._write_rules(table, pairs)
        self._close_port_bits(wanted["ports"], closed=True)
        settings.renew(self._maps["settings"])

    def remove(
        self, rules: Iterable[Rule], still_touched: Callable[[Prefix], bool], remaining: Callable[[], Iterable[Rule]]
    ) -> None:
        """Take rules out of force.

        ``still_touched``: whether a remaining block rule shares an address with a /24. ``remaining``: all remaining
        block rules, for when so many calls of the former would take longer.
        """
        gone = _entries(rules)
        self._close_port_bits(gone["ports"], closed=False)
        for table, pairs in gone.items():
            for key in pairs:
                kernel.delete(self._maps[table], key)
        touched = prefilter.touched(gone["deny4"], gone["deny4_prefix"])
        if sum(map(len, touched.values())) > _MANY_NETS or gone["deny6"] or gone["deny6_prefix"]:
            # IPv6 bits are shared: only all remaining rules together tell which may be cleared.
            self._write_nets(_entries(remaining()))
        elif touched:
            with self._mapped("deny4_nets") as bits:
                prefilter.clear_bits(bits, touched, still_touched)
        self._shut_gates()
        settings.renew(self._maps["settings"])

    def sync(self, rules: Iterable[Rule]) -> int:
        """Make the kernel hold exactly these rules; one that stays is in force at every moment.

        Return how many entries were missing, wrong or superfluous, not counting ends that differ by less than a second:
        the clock causes these. A counter that belonged to another entry until now restarts at zero.
        """
        wanted = _entries(rules)
        repaired = 0
        self.seed()  # the settings may have been overwritten
        self._open_gates(wanted)
        stale: dict[str, list[bytes]] = {}
        strays: set[int] = set()
        for table, pairs in wanted.items():
            held = self._held(table)
            strays |= stray_slots(held, pairs)
            changed = {key: value for key, value in pairs.items() if held.get(key) != value}
            repaired += sum(1 for key, value in changed.items() if not same_rule(held.get(key), value))
            self._write_rules(table, changed)
            stale[table] = [key for key in held if key not in pairs]
        for table, keys in stale.items():
            repaired += len(keys)
            for key in keys:
                kernel.delete(self._maps[table], key)
        self._write_nets(wanted)
        self._write_settings(lambda fields: _port_fields(fields, wanted["ports"], fresh=True))
        self._shut_gates()
        settings.renew(self._maps["settings"])
        if strays:
            self.clear_hits(strays & slots_of(wanted))
        return repaired

    def held(self, rules: Iterable[Rule]) -> int:
        """Count how many of these rules the kernel holds unchanged, where the program finds them."""
        found = 0
        gates = {table: fields for table, (_, fields) in _TABLES.items()}
        with self._mapped("deny4_nets") as bits4, self._mapped("deny6_nets") as bits6:
            reach = Reach(self._settings(), gates, bits4, bits6)
            for table, pairs in _entries(rules).items():
                if pairs:
                    there = self._held(table)
                    same = [key for key, value in pairs.items() if same_rule(there.get(key), value)]
                    found += len(reach.found(table, same))
        return found

    def seed(self) -> None:
        """Choose the secrets of the tuples' hash and the first generation, once in the lifetime of the maps."""

        def change(fields: list[int]) -> None:
            if not any(fields[-abi.SECRETS :]):
                # Random: rows of other maps, left by a killed process, must not match it.
                fields[settings.GENERATION] = int.from_bytes(os.urandom(8), "little")
                fields[-abi.SECRETS :] = [int.from_bytes(os.urandom(8), "little") for _ in range(abi.SECRETS)]

        self._write_settings(change)

    def all(self) -> dict[str, dict[bytes, bytes]]:
        """Return every entry by table."""
        return {table: self._held(table) for table in _TABLES}

    def lists_in_force(self) -> bool:
        """Return whether the program looks sources up in the index of the named lists."""
        fields = self._settings()
        return bool(fields[settings.LISTS4] or fields[settings.LISTS6])

    def clear_hits(self, slots: Iterable[int]) -> None:
        """Set hit counters to zero, before their slots are given to new rules."""
        chosen = list(slots)
        if not chosen:
            return
        with self._mapped("hits") as rows:
            if len(chosen) == self.capacity:
                rows[:] = bytes(len(rows))
                return
            size = abi.HITS.size
            for cpu in range(self._rows):
                base = cpu * self.capacity
                for slot in chosen:
                    start = (base + slot) * size
                    rows[start : start + size] = bytes(size)

    def hits(self) -> Callable[[int], Hits]:
        """Take a snapshot of all hit counters; call it with a slot."""
        with self._mapped("hits") as rows:
            numbers = memoryview(rows[:]).cast("Q")
        count, capacity = self._rows, self.capacity

        def of(slot: int) -> Hits:
            places = [2 * (cpu * capacity + slot) for cpu in range(count)] if slot < capacity else []
            return Hits(sum(numbers[place] for place in places), sum(numbers[place + 1] for place in places))

        return of

    def hits_at(self, slots: NDArray[np.intp]) -> NDArray[np.uint64]:
        """Return packets and bytes of many slots at once: a row each."""
        import numpy as np

        count = self._rows * self.capacity * 2
        rows = np.frombuffer(self._mapped("hits"), np.uint64, count).reshape(self._rows, self.capacity, 2)
        # A slot beyond the end was assigned with other maps: it has no counter here.
        found = np.zeros((len(slots), 2), np.uint64)
        inside = slots < self.capacity
        found[inside] = rows[:, slots[inside]].sum(axis=0, dtype=np.uint64)
        return found

    def _held(self, table: str) -> dict[bytes, bytes]:
        return self._rules(table, _TABLES[table][0].size)

    def _open_gates(self, wanted: Entries) -> None:
        touched = prefilter.touched(wanted["deny4"], wanted["deny4_prefix"])
        if touched:
            with self._mapped("deny4_nets") as bits:
                prefilter.set_bits(bits, touched)
        if wanted["deny6"] or wanted["deny6_prefix"]:
            with self._mapped("deny6_nets") as bits:
                nets6.set_bits(bits, _bits6(wanted))
        used = {field for table, pairs in wanted.items() if pairs for field in _TABLES[table][1]}

        def change(fields: list[int]) -> None:
            for field in used:
                fields[field] = 1
            if _wide6(wanted["deny6_prefix"]):
                fields[settings.DENY6_WIDE] = 1

        if used:
            self._write_settings(change)

    def _shut_gates(self) -> None:
        empty = {table for table in _TABLES if not self._any(table)}

        def change(fields: list[int]) -> None:
            used = {field for table, (_, its) in _TABLES.items() if table not in empty for field in its}
            for field in range(settings.ALLOW4, settings.DENY6_WIDE):
                fields[field] = int(field in used)
            # Kept while there are prefixes: at worst it costs a lookup, and the next sync corrects it.
            fields[settings.DENY6_WIDE] &= int("deny6_prefix" not in empty)

        self._write_settings(change)

    def _any(self, table: str) -> bool:
        return kernel.has_entries(self._maps[table], _TABLES[table][0].size)

    def _close_port_bits(self, ports: Mapping[bytes, bytes], closed: bool) -> None:
        if ports:
            self._write_settings(lambda fields: _port_fields(fields, ports, closed=closed))

    def _write_nets(self, wanted: Entries) -> None:
        with self._mapped("deny4_nets") as bits:
            prefilter.write(bits, prefilter.touched(wanted["deny4"], wanted["deny4_prefix"]))
        with self._mapped("deny6_nets") as bits:
            nets6.write(bits, _bits6(wanted))
        wide = int(_wide6(wanted["deny6_prefix"]))

        def change(fields: list[int]) -> None:
            fields[settings.DENY6_WIDE] = wide

        self._write_settings(change)

    def _write_settings(self, change: Callable[[list[int]], None]) -> None:
        settings.change(self._maps["settings"], change)

    def _mapped(self, name: str) -> mmap.mmap:
        info = kernel.map_info(self._maps[name])
        return mmap.mmap(self._maps[name], info.max_entries * info.value_size)


def boot_offset() -> float:
    """Return CLOCK_BOOTTIME minus Unix time, seconds: added to an end in the store, it gives one for the kernel."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.time()


def _entries(rules: Iterable[Rule]) -> Entries:
    offset = boot_offset()
    found: Entries = {table: {} for table in _TABLES}
    for rule in rules:
        table, key, value = entry(rule, offset)
        found[table][key] = value
    return found


def _bits6(wanted: Entries) -> Iterator[int]:
    for key in wanted["deny6"]:
        yield from nets6.bits(Prefix(key, 128), nets6.RULE_LINES)
    for key in wanted["deny6_prefix"]:
        length, network = abi.PREFIX6.unpack(key)
        yield from nets6.bits(Prefix(network, length), nets6.RULE_LINES)


def _wide6(prefixes: Iterable[bytes]) -> bool:
    return any(abi.PREFIX6.unpack(key)[0] < nets6.SHORTEST for key in prefixes)


def same_rule(held: bytes | None, wanted: bytes) -> bool:
    """Return whether an entry is as wanted, ignoring ends that differ by less than a second."""
    if held is None:
        return False
    (end, slot, length), (new_end, new_slot, new_length) = abi.RULE.unpack(held), abi.RULE.unpack(wanted)
    return (slot, length) == (new_slot, new_length) and bool(end) == bool(new_end) and abs(end - new_end) < 10**9


def stray_slots(held: Mapping[bytes, bytes], wanted: Mapping[bytes, bytes]) -> set[int]:
    """Return the slots of a table's entries that are to be removed, or to count in another slot."""
    slots = {key: abi.RULE.unpack(value)[1] for key, value in held.items() if wanted.get(key) != value}
    return {slot for key, slot in slots.items() if key not in wanted or abi.RULE.unpack(wanted[key])[1] != slot}


def slots_of(wanted: Entries) -> set[int]:
    """Return the slots in which entries count."""
    return {abi.RULE.unpack(value)[1] for pairs in wanted.values() for value in pairs.values()}


def _port_fields(fields: list[int], ports: Mapping[bytes, bytes], closed: bool = True, fresh: bool = False) -> None:
    """Set or clear the bits of ``ports``; ``fresh`` clears all others first."""
    if fresh:
        fields[abi.SETTINGS_PORTS : -abi.SECRETS] = [0] * (2 * abi.PORT_WORDS)
    for key in ports:
        port, protocol = abi.PORT.unpack(key)
        table = int(protocol == PROTOCOL_NUMBERS["udp"])
        place = abi.SETTINGS_PORTS + table * abi.PORT_WORDS + (port >> 6)
        bit = 1 << (port & 63)
        fields[place] = fields[place] | bit if closed else fields[place] & ~bit
