# SPDX-License-Identifier: GPL-2.0
"""Which index of the named lists is in force, and whether it is used: read without loading numpy."""

from __future__ import annotations

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, indexes, kernel
from xdpguard.dataplane.sys.layouts.base import places
from xdpguard.dataplane.sys.layouts.rules import Index
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import settings
from xdpguard.policy.rule import Mode

_GENERATION = places(Index)["generation"]  # among the fields that abi.INDEX unpacks
_KEY = bytes(4)


def asked(pins: Pins, mode: Mode) -> bool:
    """Return whether the settings tell the program to look up lists of a mode."""
    fields = (
        (settings.LISTS4, settings.LISTS6) if mode == "enforce" else (settings.SHADOW_LISTS4, settings.SHADOW_LISTS6)
    )
    with opened(pins.open("settings", 4, abi.SETTINGS.size)) as descriptor:
        raw = kernel.lookup(descriptor, _KEY, abi.SETTINGS.size)
    assert raw is not None  # an array always has its entry
    held = abi.SETTINGS.unpack(raw)
    return any(held[field] for field in fields)


def generation(pins: Pins, index: str) -> int:
    """Return the generation that the index of that name was built with; 0 when there is none."""
    with opened(pins.open(index, 4, 4)) as outer:
        inner = indexes.in_force(outer)
        if inner is None:
            return 0
        with opened(inner):
            line = kernel.lookup(inner, _KEY, abi.LINE.size)
        return int(abi.INDEX.unpack(line)[_GENERATION]) if line else 0
