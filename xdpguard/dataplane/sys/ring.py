# SPDX-License-Identifier: GPL-2.0
"""A BPF ring buffer, mapped into memory (kernel/bpf/ringbuf.c). One reader at a time."""

from __future__ import annotations

import functools
import mmap
import os
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from xdpguard.closeable import Closeable
from xdpguard.dataplane.sys import kernel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BUSY, _DISCARDED = 1 << 31, 1 << 30  # BPF_RINGBUF_*_BIT
_HEADER = 8  # bytes before each record


class Ring(Closeable):
    """A ring. Use as a context manager; ``fileno`` is ready when there is something to read."""

    def __init__(self, fd: int) -> None:
        """``fd`` is the map's descriptor, which belongs to this object from now on."""
        self._fd = fd
        try:
            info = kernel.map_info(fd)
            self._size, self.id = info.max_entries, info.id
            page = mmap.PAGESIZE
            self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            # The producer's page, and the data twice, so that a record is never in two pieces.
            self._rest = mmap.mmap(fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
            # Positions and lengths are read and written in one piece, as struct does not: the kernel would take a half
            # written position for that of a full ring.
            self._consumed = memoryview(self._consumer).cast("Q")
            self._produced = memoryview(self._rest)[:8].cast("Q")
            self._lengths = memoryview(self._rest).cast("I")
            self._order = threading.Lock()
        except BaseException:
            os.close(fd)
            raise

    def fileno(self) -> int:
        """Return the descriptor, for poll."""
        return self._fd

    def records(self) -> Iterator[bytes]:
        """Yield every record there is now; not those that come meanwhile, or a busy ring would never let go."""
        produced = self._end()
        while True:
            consumed = self._consumed[0]
            if consumed >= produced:
                return
            at = mmap.PAGESIZE + (consumed & (self._size - 1))
            length = self._lengths[at >> 2]
            if length & _BUSY:
                return
            size = (length & ~_DISCARDED) + _HEADER
            with self._order:
                record = self._rest[at + _HEADER : at + size]
            self._consumed[0] = consumed + (size + 7 & ~7)
            if not length & _DISCARDED:
                yield record

    def array(self, record: np.dtype[Any]) -> NDArray[Any]:
        """Return every record there is now, oldest first, as one array copied out of the ring.

        All must be of the layout ``record``, and written with ringbuf_output: none is discarded.
        """
        import numpy as np

        framed_record = _framed(record)
        produced, consumed = self._end(), self._consumed[0]
        count = (produced - consumed) // framed_record.itemsize
        # As much as is in one piece; the data is there twice.
        framed = np.frombuffer(self._rest, framed_record, count, mmap.PAGESIZE + (consumed & (self._size - 1)))
        busy = np.flatnonzero(framed["length"] & _BUSY)
        if busy.size:
            count = int(busy[0])
        with self._order:
            found: NDArray[Any] = framed["record"][:count].copy()
        self._consumed[0] = consumed + count * framed_record.itemsize
        return found

    def close(self) -> None:
        """Close it."""
        for view in (self._consumed, self._produced, self._lengths):
            view.release()
        self._consumer.close()
        self._rest.close()
        os.close(self._fd)

    def _end(self) -> int:
        """Return how far the kernel has written.

        Taking a lock orders loads on machines that reorder them: records are read after what says that they are there.
        """
        produced = self._produced[0]
        with self._order:
            return produced


@functools.cache
def _framed(record: np.dtype[Any]) -> np.dtype[Any]:
    """Return a record behind its header, as it is in the ring."""
    import numpy as np

    return np.dtype(
        {
            "names": ["length", "record"],
            "formats": ["<u4", record],
            "offsets": [0, _HEADER],
            "itemsize": _HEADER + (record.itemsize + 7 & ~7),
        }
    )
