# SPDX-License-Identifier: GPL-2.0
"""Maps that hold one map: those of the named lists' indexes and of the set of filters, and what they hold."""

from __future__ import annotations

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel

HOLDERS = LIST_INDEX, SHADOW_INDEX = "list_index", "shadow_index"  # arrays of one map: the index in force
_FLAGS = kernel.MAP_MMAPABLE | kernel.MAP_INNER


FILTER_SET = "filter_set"


def create(lines: int) -> int:
    """Make an index, as the holders take it and as their pattern is; return a file descriptor. OSError without room."""
    return kernel.create_map(kernel.MAP_ARRAY, 4, abi.LINE.size, lines, _FLAGS, LIST_INDEX)


def create_filters() -> int:
    """Make a set of filters, all zero, as `create` makes an index."""
    return kernel.create_map(kernel.MAP_ARRAY, 4, abi.FILTER_SET_SIZE, 1, kernel.MAP_MMAPABLE, FILTER_SET)


def create_holder(name: str) -> int:
    """Make a map that holds an index, or a set of filters; return a file descriptor."""
    with opened(create_filters() if name == FILTER_SET else create(1)) as pattern:
        return kernel.create_map(kernel.MAP_ARRAY_OF_MAPS, 4, 4, 1, 0, name, pattern)
