# SPDX-License-Identifier: GPL-2.0
"""A BPF ring buffer of records of one size, read many at once as a numpy array (kernel/bpf/ringbuf.c)."""

from __future__ import annotations

import mmap
import struct
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.dataplane import kernel

_BUSY = 1 << 31  # BPF_RINGBUF_BUSY_BIT
_HEADER = 8  # octets before each record
_POSITION = struct.Struct("=Q")


class Records:
    """The reader of a ring. One at a time; every record must have been written with ringbuf_output."""

    def __init__(self, fd: int, record: np.dtype[Any]) -> None:
        """``fd`` is the ring's, which stays the caller's; ``record`` the layout of its records, packed."""
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
        self._order = threading.Lock()

    def read(self) -> NDArray[Any]:
        """Every record there is now, oldest first, copied out of the ring."""
        produced = self._produced()
        consumed = _POSITION.unpack_from(self._consumer)[0]
        count = (produced - consumed) // self._stride
        # As much as is in one piece; the data is there twice.
        framed = np.frombuffer(self._rest, self._framed, count, mmap.PAGESIZE + (consumed & (self._size - 1)))
        busy = np.flatnonzero(framed["length"] & _BUSY)
        if busy.size:
            count = int(busy[0])
        with self._order:  # what is behind the headers is read after them
            found: NDArray[Any] = framed["record"][:count].copy()
        _POSITION.pack_into(self._consumer, 0, consumed + count * self._stride)
        return found

    def close(self) -> None:
        """Gives it back."""
        self._consumer.close()
        self._rest.close()

    def _produced(self) -> int:
        produced = int(_POSITION.unpack_from(self._rest)[0])
        # Taking a lock orders loads on machines that reorder them: the records are read after their end.
        with self._order:
            return produced
