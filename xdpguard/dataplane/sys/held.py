# SPDX-License-Identifier: GPL-2.0
"""Maps that are opened from their pins together, and given back together."""

from __future__ import annotations

import os
from collections.abc import Mapping

from xdpguard.closeable import Closeable
from xdpguard.dataplane.sys import abi, kernel


class HeldMaps(Closeable):
    """Descriptors of maps by name. Use as a context manager; the maps outlive it."""

    COUNTERS = "hits"  # the map that names all of them: with another one, counting began anew

    def __init__(self) -> None:
        self._maps: dict[str, int] = {}

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

    def _rules(self, table: str, key_size: int) -> dict[bytes, bytes]:
        """Return every entry of a table of rules."""
        keys, values, count = kernel.entries(self._maps[table], key_size, abi.RULE.size)
        width = abi.RULE.size
        return {keys[i * key_size : (i + 1) * key_size]: values[i * width : (i + 1) * width] for i in range(count)}

    def _write_rules(self, table: str, pairs: Mapping[bytes, bytes]) -> None:
        if pairs:
            kernel.update_batch(self._maps[table], b"".join(pairs), b"".join(pairs.values()), len(pairs))
