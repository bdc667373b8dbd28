# SPDX-License-Identifier: GPL-2.0
"""Changes of state, counted in the kernel by namespace."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane import kernel
from xdpguard.tcp import program
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.names import STATES

TRACEPOINTS = ("sock:inet_sock_set_state",)
_NAMESPACES = 1024
_BATCH = 32  # of large values
_WIDTH = len(STATES)
_SIZE = 8 * _WIDTH * _WIDTH  # struct xg_changes

Matrix = NDArray[Any]  # from, to; how often since the program is there


class Changes:
    """The program, attached. Use as a context manager."""

    def __init__(self, chosen: Filter) -> None:
        self._program = program.load("states", TRACEPOINTS, chosen, {"NAMESPACES": _NAMESPACES})
        self._fd = self._program.map_fd("changes")

    def read(self) -> dict[int, Matrix]:
        """By inode number of the namespace; one that has seen no change is not there."""
        keys, values, number = kernel.entries(self._fd, 4, _SIZE, _BATCH)
        namespaces = np.frombuffer(keys, "<u4", number).tolist()
        tables = np.frombuffer(values, "<u8", number * _WIDTH * _WIDTH).astype(np.int64)
        return dict(zip(namespaces, tables.reshape(-1, _WIDTH, _WIDTH), strict=True))

    def forget(self, gone: Callable[[int], bool]) -> None:
        """Removes the counts of namespaces, by inode number, that ``gone`` says so of."""
        for netns in filter(gone, list(self.read())):
            kernel.delete(self._fd, netns.to_bytes(4, "little"))

    def programs(self) -> list[int]:
        """The descriptors of the programs in the kernel."""
        return self._program.program_fds()

    def close(self) -> None:
        """Detaches."""
        self._program.close()

    def __enter__(self) -> Changes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def nothing() -> Matrix:
    """No change at all."""
    return np.zeros((_WIDTH, _WIDTH), np.int64)
