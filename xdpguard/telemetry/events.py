# SPDX-License-Identifier: GPL-2.0
"""The data plane's ring of events, mapped into memory (kernel/bpf/ringbuf.c). One reader at a time."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

from xdpguard.dataplane import abi, kernel
from xdpguard.dataplane.pins import Pins

FLOOD_BEGINS, FLOOD_ENDS, SCAN = 1, 2, 3  # enum xg_event_kind
_BUSY, _DISCARDED = 1 << 31, 1 << 30  # BPF_RINGBUF_*_BIT
_HEADER = 8  # octets before each record


class Event(NamedTuple):
    """``struct xg_event``. ``at`` is coarse monotonic, ns; ``source`` 4 or 16 octets."""

    at: int
    kind: int
    ifindex: int
    source: bytes
    port: int
    cause: int


class Ring:
    """The ring, opened from its pin. Use as a context manager; ``fileno`` is ready when there is something to read."""

    def __init__(self, pins: Pins) -> None:
        self._fd = pins.open_ring()
        try:
            info = kernel.map_info(self._fd)
            self._size, self.id = info.max_entries, info.id
            page = mmap.PAGESIZE
            self._consumer = mmap.mmap(self._fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            # The producer's page, and the data twice, so that a record is never in two pieces.
            self._rest = mmap.mmap(self._fd, page + 2 * self._size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except BaseException:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        """For poll."""
        return self._fd

    def read(self) -> Iterator[Event]:
        """Every event there is now; not those that come meanwhile, or a busy ring would never let go."""
        produced = struct.unpack_from("=Q", self._rest)[0]
        while True:
            consumed = struct.unpack_from("=Q", self._consumer)[0]
            if consumed >= produced:
                return
            at = mmap.PAGESIZE + (consumed & (self._size - 1))
            length = struct.unpack_from("=I", self._rest, at)[0]
            if length & _BUSY:
                return
            event = None
            if not length & _DISCARDED:
                event = _event(self._rest[at + _HEADER : at + _HEADER + abi.EVENT.size])
            size = (length & ~_DISCARDED) + _HEADER
            struct.pack_into("=Q", self._consumer, 0, consumed + (size + 7 & ~7))
            if event is not None:
                yield event

    def close(self) -> None:
        """Gives it back."""
        self._consumer.close()
        self._rest.close()
        os.close(self._fd)

    def __enter__(self) -> Ring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _event(data: bytes) -> Event:
    at, kind, ifindex, source, port, version, cause, _ = abi.EVENT.unpack(data)
    return Event(at, kind, ifindex, source[:4] if version == 4 else source, port, cause)
