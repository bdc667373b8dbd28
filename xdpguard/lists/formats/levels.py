# SPDX-License-Identifier: GPL-2.0
"""Ranges with an access level, as eMule's ipfilter.dat has them: from level 128 on, a range is let in."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xdpguard.lists.formats.collector import Collector
from xdpguard.lists.formats.entries import decoded

_ROW = re.compile(r"\s*([0-9.]+)\s*-\s*([0-9.]+)\s*,\s*([0-9]{1,3})\s*(?:,.*)?")
_PADDED = re.compile(r"[0-9]{3}(?:\.[0-9]{3}){3}")
_LET_IN = 128


def has_levels(sample: Sequence[str]) -> bool:
    """Return whether most of these lines are ranges with a level."""
    return sum(_ROW.fullmatch(line) is not None for line in sample) * 2 > len(sample)


class Levels:
    """Reads the ranges below level 128."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        collector.reading = "ranges with a level (ipfilter.dat)"

    def block(self, text: bytes, number: int) -> None:
        """Add whole lines."""
        values: list[str] = []
        numbers: list[int] = []
        for at, line in enumerate(decoded(text).split("\n"), start=number):
            bare = line.strip()
            if not bare or bare.startswith(("#", ";", "//")):
                continue
            if not (found := _ROW.fullmatch(bare)):
                self._collector.fault(at, bare, "not a range, a level and a name")
                continue
            value = f"{_unpadded(found[1])}-{_unpadded(found[2])}"
            if int(found[3]) >= _LET_IN:
                self._collector.let_in(value, at, f"level {_LET_IN} and above, which lets in")
            else:
                values.append(value)
                numbers.append(at)
        self._collector.values(values, numbers)


def _unpadded(address: str) -> str:
    """Return an address without the zeros that fill it up to twelve digits, which are decimal here."""
    return ".".join(str(int(part)) for part in address.split(".")) if _PADDED.fullmatch(address) else address
