# SPDX-License-Identifier: GPL-2.0
"""Whether the program finds the entries of the rule tables: behind the settings, and the pre-filters of the deny rules.

An entry that is in its table is not in force while what makes the program look there is missing.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping, Sequence

from xdpguard.dataplane.sys import abi
from xdpguard.dataplane.tables import nets6, prefilter, settings
from xdpguard.policy.target import PROTOCOL_NUMBERS, Prefix


class Reach:
    """What makes the program look into the rule tables, as it is in the maps."""

    def __init__(self, fields: Sequence[int], gates: Mapping[str, Sequence[int]], bits4: mmap.mmap, bits6: mmap.mmap):
        """``fields``: the settings; ``gates``: positions of those that a table needs; the bits of both pre-filters."""
        self._fields, self._gates = fields, gates
        self._bits4, self._bits6 = bits4, bits6

    def found(self, table: str, keys: Sequence[bytes]) -> set[bytes]:
        """Return those of a table's entries that the program finds."""
        if not keys or not self._open(table):
            return set()
        if table == "ports":
            return {key for key in keys if self._closed(key)}
        if table in ("deny4", "deny4_prefix"):
            # At once for all of them, as there may be many; one by one only where something is missing.
            if self._touched4(table, keys):
                return set(keys)
            return {key for key in keys if self._touched4(table, [key])}
        if table in ("deny6", "deny6_prefix") and not self._fields[settings.DENY6_WIDE]:
            return {key for key in keys if self._touched6(table, key)}
        return set(keys)

    def _open(self, table: str) -> bool:
        needed = [*self._gates[table], *([settings.DENY] if table.startswith("deny") else [])]
        return all(self._fields[field] for field in needed)

    def _closed(self, key: bytes) -> bool:
        port, protocol = abi.PORT.unpack(key)
        udp = int(protocol == PROTOCOL_NUMBERS["udp"])
        word = self._fields[abi.SETTINGS_PORTS + udp * abi.PORT_WORDS + (port >> 6)]
        return bool(word >> (port & 63) & 1)

    def _touched4(self, table: str, keys: Iterable[bytes]) -> bool:
        places = prefilter.touched(keys, ()) if table == "deny4" else prefilter.touched((), keys)
        return prefilter.holds(self._bits4, places)

    def _touched6(self, table: str, key: bytes) -> bool:
        length, network = (128, key) if table == "deny6" else abi.PREFIX6.unpack(key)
        prefix = Prefix(network, length)
        return length >= nets6.SHORTEST and nets6.holds(self._bits6, nets6.bits(prefix, nets6.RULE_LINES))
