# SPDX-License-Identifier: GPL-2.0
"""A BPF ring buffer, mapped into memory (kernel/bpf/ringbuf.c). One reader at a time."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.pins import Pins

_BUSY, _DISCARDED = 1 << 31, 1 << 30  # BPF_RINGBUF_*_BIT
_HEADER = 8  # octets before each record


class Ring:
    """A ring, opened from its pin. Use as a context manager; ``fileno`` is ready when there is something to read."""

    def __init__(self, pins: Pins, name: str) -> None:
        self._fd = pins.open_ring(name)
        try:
            info = kernel.map_info(self._fd)
            self._size, self.id = info.max_entries, info.id
            page = mmap.PAGESIZE
            self._consumer = mmap.mmap(self._fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            # The producer's page, and the data twice, so that a record is never in two pieces.
            self._rest = mmap.mmap(self._fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
            # Positions and lengths are read and written in one piece, as struct does not: the kernel does so, too.
            self._consumed = memoryview(self._consumer).cast("Q")
            self._produced = memoryview(self._rest)[:8].cast("Q")
            self._lengths = memoryview(self._rest).cast("I")
        except BaseException:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        """For poll."""
        return self._fd

    def records(self) -> Iterator[bytes]:
        """Every record there is now; not those that come meanwhile, or a busy ring would never let go."""
        produced = self._produced[0]
        while True:
            consumed = self._consumed[0]
            if consumed >= produced:
                return
            at = mmap.PAGESIZE + (consumed & (self._size - 1))
            length = self._lengths[at >> 2]
            if length & _BUSY:
                return
            size = (length & ~_DISCARDED) + _HEADER
            record = self._rest[at + _HEADER : at + size]
            self._consumed[0] = consumed + (size + 7 & ~7)
            if not length & _DISCARDED:
                yield record

    def close(self) -> None:
        """Gives it back."""
        for view in (self._consumed, self._produced, self._lengths):
            view.release()
        self._consumer.close()
        self._rest.close()
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
