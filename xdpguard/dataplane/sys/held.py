# SPDX-License-Identifier: GPL-2.0
"""Maps that are opened from their pins together, and given back together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from xdpguard.closeable import Closeable
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.pins import Pins


class HeldMaps(Closeable):
    """Descriptors of maps by name. Use as a context manager; the maps outlive it."""

    COUNTERS = "hits"  # the map that names all of them: with another one, counting began anew

    def __init__(self, pins: Pins, layouts: Mapping[str, tuple[int, int]]) -> None:
        """``layouts``: sizes of each map's keys and values, in bytes."""
        self._maps: dict[str, int] = {}
        try:
            for name, (key_size, value_size) in layouts.items():
                self._maps[name] = pins.open(name, key_size, value_size)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the maps; they stay."""
        for descriptor in self._maps.values():
            os.close(descriptor)
        self._maps.clear()

    def generation(self) -> str:
        """Name these maps among all that ever were: another name means that counters began anew."""
        return f"{kernel.boot_id()}:{kernel.map_info(self._maps[self.COUNTERS]).id}"

    def seeded(self) -> bool:
        """Return whether the settings hold the secrets of the tuples' hash: if not, they were overwritten."""
        return any(self._settings()[-abi.SECRETS :])

    def _settings(self) -> tuple[int, ...]:
        """Return the fields of ``struct xg_settings``."""
        return abi.SETTINGS.unpack(kernel.lookup(self._maps["settings"], bytes(4), abi.SETTINGS.size) or b"")

    def _rules(self, table: str) -> dict[bytes, bytes]:
        """Return every entry of a table of rules."""
        return kernel.pairs(self._maps[table], kernel.map_info(self._maps[table]).key_size, abi.RULE.size)

    def _write_rules(self, entries: Mapping[str, Mapping[bytes, bytes]]) -> None:
        """Write entries, given by table and key."""
        for table, pairs in entries.items():
            if pairs:
                kernel.update_batch(self._maps[table], b"".join(pairs), b"".join(pairs.values()), len(pairs))

    def _delete_rules(self, entries: Mapping[str, Iterable[bytes]]) -> None:
        """Delete entries, given by table."""
        for table, keys in entries.items():
            for key in keys:
                kernel.delete(self._maps[table], key)
