# SPDX-License-Identifier: GPL-2.0
"""Maps that hold one map: those of the named lists' indexes and of the set of filters, and what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from xdpguard.closeable import opened
from xdpguard.dataplane.sys import abi, kernel

HOLDERS = LIST_INDEX, SHADOW_INDEX = "list_index", "shadow_index"  # arrays of one map: the index in force
FILTER_SET = "filter_set"
_FLAGS = kernel.MAP_MMAPABLE | kernel.MAP_INNER
_KEY = bytes(4)


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


def in_force(holder: int) -> int | None:
    """Return a descriptor of the map that a holder holds, owned by the caller; None when there is none."""
    while True:
        raw = kernel.lookup(holder, _KEY, 4)
        if raw is None:
            return None
        try:
            return kernel.map_by_id(int.from_bytes(raw, "little"))
        except FileNotFoundError:
            continue  # replaced at this very moment


@contextmanager
def held(holder: int) -> Iterator[None]:
    """Keep the map in force alive while it is taken out of force.

    The system call returns only after every program that may still read the old map has ended (synchronize_rcu() in
    maybe_wait_bpf_programs(), since Linux 4.20). But it drops the holder's own reference before it waits, and until
    "bpf: Defer the free of inner map when necessary" (6.7 and later stable releases) dropping the last reference frees
    the memory at once, while programs still read it.
    """
    descriptor = in_force(holder)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)
