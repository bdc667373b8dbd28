# SPDX-License-Identifier: GPL-2.0
"""Deliver signals through a socket, to be selected on."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator

_KINDS = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def signals() -> Iterator[socket.socket]:
    """Yield a socket from which each received signal is read as one byte, its number."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    handlers = [signal.signal(kind, lambda number, frame: None) for kind in _KINDS]
    try:
        yield reader
    finally:
        for kind, handler in zip(_KINDS, handlers, strict=True):
            signal.signal(kind, handler)
        signal.set_wakeup_fd(before)
        reader.close()
        writer.close()
