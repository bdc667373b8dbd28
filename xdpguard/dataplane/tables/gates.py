# SPDX-License-Identifier: GPL-2.0
"""What makes the program look into the rule tables: the settings, the pre-filters of deny rules, the bits of ports.

It is set before an entry is added, and cleared after it is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.tables import nets6, prefilter, settings
from xdpguard.dataplane.tables.entries import ENFORCED, Entries
from xdpguard.dataplane.tables.reach import Reach
from xdpguard.policy.target import PROTOCOL_NUMBERS, Prefix

_MANY_NETS = 100  # bytes of the pre-filter from which reading all rules is faster than checking each network
# The settings fields that make the program look into a table (none: the port bits do).
_FIELDS: dict[str, tuple[int, ...]] = {
    "allow4": (settings.ALLOW4,),
    "allow6": (settings.ALLOW6,),
    "deny4": (settings.DENY4,),
    "deny4_prefix": (settings.DENY4, settings.DENY4_PREFIX),
    "deny6": (settings.DENY6,),
    "deny6_prefix": (settings.DENY6, settings.DENY6_PREFIX),
    "ports": (),
}


class Gates:
    """The gates of the rule tables, given the descriptors of these and of the maps that the gates are in."""

    def __init__(self, maps: Mapping[str, int]) -> None:
        self._maps = maps

    def open(self, wanted: Entries) -> None:
        """Let the program find these entries, which are to be added; ports are for `close_ports`."""
        touched = prefilter.touched(wanted["deny4"], wanted["deny4_prefix"])
        if touched:
            with kernel.mapped(self._maps["deny4_nets"]) as bits:
                prefilter.set_bits(bits, touched)
        if wanted["deny6"] or wanted["deny6_prefix"]:
            with kernel.mapped(self._maps["deny6_nets"]) as bits:
                nets6.set_bits(bits, _bits6(wanted))
        used = {field for table, pairs in wanted.items() if pairs for field in _FIELDS[table]}
        with self._changing() as fields:
            for field in used:
                fields[field] = 1
            if _wide6(wanted["deny6_prefix"]):
                fields[settings.DENY6_WIDE] = 1

    def shut(self) -> None:
        """Spare the program the tables that are empty."""
        empty = {table for table, key in ENFORCED.items() if not kernel.has_entries(self._maps[table], key.size)}
        used = {field for table, its in _FIELDS.items() if table not in empty for field in its}
        with self._changing() as fields:
            for field in range(settings.ALLOW4, settings.DENY6_WIDE):
                fields[field] = int(field in used)
            # Kept while there are prefixes: at worst it costs a lookup, and the next sync corrects it.
            fields[settings.DENY6_WIDE] &= int("deny6_prefix" not in empty)

    def close_ports(self, ports: Mapping[bytes, bytes], closed: bool = True) -> None:
        """Close ports, given by their keys, or open them again."""
        if ports:
            with self._changing() as fields:
                _set_ports(fields, ports, closed)

    def clear(self, gone: Entries, still_touched: Callable[[Prefix], bool], remaining: Callable[[], Entries]) -> None:
        """Clear the bits of the pre-filters that only removed entries needed; for the rest, see `Tables.remove`."""
        touched = prefilter.touched(gone["deny4"], gone["deny4_prefix"])
        if sum(map(len, touched.values())) > _MANY_NETS or gone["deny6"] or gone["deny6_prefix"]:
            # IPv6 bits are shared: only all remaining rules together tell which may be cleared.
            self._write_nets(remaining())
        elif touched:
            with kernel.mapped(self._maps["deny4_nets"]) as bits:
                prefilter.clear_bits(bits, touched, still_touched)

    def write(self, wanted: Entries) -> None:
        """Make the pre-filters and the bits of ports those of exactly these entries."""
        self._write_nets(wanted)
        with self._changing() as fields:
            fields[abi.SETTINGS_PORTS : -abi.SECRETS] = [0] * (2 * abi.PORT_WORDS)
            _set_ports(fields, wanted["ports"], closed=True)

    def found(self, fields: tuple[int, ...], same: Mapping[str, list[bytes]]) -> int:
        """Count the entries that the program finds, among keys by table; ``fields``: the settings."""
        with kernel.mapped(self._maps["deny4_nets"]) as bits4, kernel.mapped(self._maps["deny6_nets"]) as bits6:
            reach = Reach(fields, _FIELDS, bits4, bits6)
            return sum(len(reach.found(table, keys)) for table, keys in same.items())

    def _write_nets(self, wanted: Entries) -> None:
        with kernel.mapped(self._maps["deny4_nets"]) as bits:
            prefilter.write(bits, prefilter.touched(wanted["deny4"], wanted["deny4_prefix"]))
        with kernel.mapped(self._maps["deny6_nets"]) as bits:
            nets6.write(bits, _bits6(wanted))
        with self._changing() as fields:
            fields[settings.DENY6_WIDE] = int(_wide6(wanted["deny6_prefix"]))

    def _changing(self) -> AbstractContextManager[list[int]]:
        return settings.changing(self._maps["settings"])


def _bits6(wanted: Entries) -> Iterator[int]:
    for key in wanted["deny6"]:
        yield from nets6.bits(Prefix(key, 128), nets6.RULE_LINES)
    for key in wanted["deny6_prefix"]:
        length, network = abi.PREFIX6.unpack(key)
        yield from nets6.bits(Prefix(network, length), nets6.RULE_LINES)


def _wide6(prefixes: Iterable[bytes]) -> bool:
    return any(abi.PREFIX6.unpack(key)[0] < nets6.SHORTEST for key in prefixes)


def _set_ports(fields: list[int], ports: Iterable[bytes], closed: bool) -> None:
    for key in ports:
        port, protocol = abi.PORT.unpack(key)
        table = int(protocol == PROTOCOL_NUMBERS["udp"])
        place = abi.SETTINGS_PORTS + table * abi.PORT_WORDS + (port >> 6)
        bit = 1 << (port & 63)
        fields[place] = fields[place] | bit if closed else fields[place] & ~bit
