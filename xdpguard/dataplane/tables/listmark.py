# SPDX-License-Identifier: GPL-2.0
"""Which index of the named lists is in force, read without loading numpy."""

from __future__ import annotations

import os

from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.layouts.base import places
from xdpguard.dataplane.sys.layouts.rules import Index
from xdpguard.dataplane.sys.pins import Pins

_GENERATION = places(Index)["generation"]  # in what abi.INDEX unpacks
_KEY = bytes(4)


def generation(pins: Pins, index: str) -> int:
    """The number that the index of that name was built with; 0 when there is none."""
    outer = pins.open(index, 4, 4)
    try:
        for _ in range(5):
            raw = kernel.lookup(outer, _KEY, 4)
            if raw is None:
                return 0
            try:
                inner = kernel.map_by_id(int.from_bytes(raw, "little"))
            except FileNotFoundError:
                continue  # swapped for another one just then
            try:
                line = kernel.lookup(inner, _KEY, abi.LINE.size)
            finally:
                os.close(inner)
            return int(abi.INDEX.unpack(line)[_GENERATION]) if line else 0
        return 0
    finally:
        os.close(outer)
