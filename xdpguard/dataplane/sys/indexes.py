# SPDX-License-Identifier: GPL-2.0
"""The maps of the named lists' indexes: those that hold one, and what they hold."""

from __future__ import annotations

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel

HOLDERS = LIST_INDEX, SHADOW_INDEX = "list_index", "shadow_index"  # arrays of one map: the index in force
_FLAGS = kernel.MAP_MMAPABLE | kernel.MAP_INNER


def create(lines: int) -> int:
    """Make an index, as the holders take it and as their pattern is; return a file descriptor. OSError without room."""
    return kernel.create_map(kernel.MAP_ARRAY, 4, abi.LINE.size, lines, _FLAGS, LIST_INDEX)


def create_holder(name: str) -> int:
    """Make a map that holds an index; return a file descriptor."""
    with opened(create(1)) as pattern:
        return kernel.create_map(kernel.MAP_ARRAY_OF_MAPS, 4, 4, 1, 0, name, pattern)
