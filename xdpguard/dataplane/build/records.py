# SPDX-License-Identifier: GPL-2.0
"""A BPF ring buffer of records of one size, read many at once as a numpy array (kernel/bpf/ringbuf.c)."""

from __future__ import annotations

import mmap
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane.build.tracepoints import Tracepoints
from xdpguard.dataplane.sys import kernel

_BUSY = 1 << 31  # BPF_RINGBUF_BUSY_BIT
_HEADER = 8  # octets before each record


class Records:
    """The reader of a ring. One at a time; every record must have been written with ringbuf_output."""

    def __init__(self, program: Tracepoints, record: np.dtype[Any]) -> None:
        """``program`` has the maps of bpf/tcp/ring.h; ``record`` is the layout of its records, packed."""
        fd = program.map_fd("records")
        self._lost = program.map_fd("records_lost")
        self._size = kernel.map_info(fd).max_entries
        self._stride = _HEADER + (record.itemsize + 7 & ~7)
        self._framed = np.dtype(
            {
                "names": ["length", "record"],
                "formats": ["<u4", record],
                "offsets": [0, _HEADER],
                "itemsize": self._stride,
            }
        )
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # The producer's page, and the data twice, so that no record is ever in two pieces.
        self._rest = mmap.mmap(fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        # Positions are read and written in one piece, as struct does not: the kernel would take a half written one for
        # that of a full ring.
        self._consumed = memoryview(self._consumer).cast("Q")
        self._produced = memoryview(self._rest)[:8].cast("Q")
        self._order = threading.Lock()

    def read(self) -> NDArray[Any]:
        """Every record there is now, oldest first, copied out of the ring."""
        produced = self._end()
        consumed = self._consumed[0]
        count = (produced - consumed) // self._stride
        # As much as is in one piece; the data is there twice.
        framed = np.frombuffer(self._rest, self._framed, count, mmap.PAGESIZE + (consumed & (self._size - 1)))
        busy = np.flatnonzero(framed["length"] & _BUSY)
        if busy.size:
            count = int(busy[0])
        with self._order:  # what is behind the headers is read after them
            found: NDArray[Any] = framed["record"][:count].copy()
        self._consumed[0] = consumed + count * self._stride
        return found

    def lost(self) -> int:
        """Records that found no room."""
        return sum_over_cpus(self._lost)

    def close(self) -> None:
        """Gives it back."""
        for view in (self._consumed, self._produced):
            view.release()
        self._consumer.close()
        self._rest.close()

    def _end(self) -> int:
        produced = self._produced[0]
        # Taking a lock orders loads on machines that reorder them: the records are read after their end.
        with self._order:
            return produced


def sum_over_cpus(fd: int) -> int:
    """The counter of a per-CPU array of one entry."""
    raw = kernel.lookup(fd, bytes(4), 8 * kernel.possible_cpus())
    return 0 if raw is None else int(np.frombuffer(raw, "<u8").sum())
