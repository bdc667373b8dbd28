# SPDX-License-Identifier: GPL-2.0
"""State transitions, counted in the kernel by namespace."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.layouts.tcp import Changes as Layout
from xdpguard.tcp import program
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.names import STATES
from xdpguard.tcp.program import Attached

TRACEPOINTS = ("sock:inet_sock_set_state",)
_NAMESPACES = 1024
_BATCH = 32  # values are large
_WIDTH = len(STATES)
_SIZE = ctypes.sizeof(Layout)  # bytes

Matrix = NDArray[Any]  # [from, to]: how often since the program was attached


class Changes(Attached):
    """The attached program. Use as a context manager."""

    def __init__(self, chosen: Filter) -> None:
        self._program = program.load("states", TRACEPOINTS, chosen, {"NAMESPACES": _NAMESPACES})
        self._fd = self._program.map_fd("changes")

    def read(self) -> dict[int, Matrix]:
        """Return the counts by the namespace's inode number; a namespace without a transition is missing."""
        keys, values, number = kernel.entries(self._fd, 4, _SIZE, _BATCH)
        namespaces = np.frombuffer(keys, "<u4", number).tolist()
        tables = np.frombuffer(values, "<u8", number * _WIDTH * _WIDTH).astype(np.int64)
        return dict(zip(namespaces, tables.reshape(-1, _WIDTH, _WIDTH), strict=True))

    def forget(self, gone: Callable[[int], bool]) -> None:
        """Remove the counts of those namespaces, by inode number, for which ``gone`` is true."""
        for netns in filter(gone, list(self.read())):
            kernel.delete(self._fd, netns.to_bytes(4, "little"))


def nothing() -> Matrix:
    """Return a matrix without transitions."""
    return np.zeros((_WIDTH, _WIDTH), np.int64)
