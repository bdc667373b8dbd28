# SPDX-License-Identifier: GPL-2.0
"""Handle, block and wait for signals for a while; afterwards everything is as it was before."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what ends a command


@contextmanager
def handled(handler: Callable[[int, FrameType | None], object], *numbers: int) -> Iterator[None]:
    """Have ``handler`` called for these signals."""
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, handler)
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextmanager
def blocked(*numbers: int) -> Iterator[None]:
    """Hold these signals back; those that come meanwhile take effect at the end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def waking(handler: Callable[[int, FrameType | None], object], *numbers: int) -> Iterator[socket.socket]:
    """Yield a socket to select on, which names the signals that came, one byte each; ``handler`` is called as well."""
    reader, writer = socket.socketpair()
    with reader, writer:
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            with handled(handler, *numbers):
                yield reader
        finally:
            signal.set_wakeup_fd(before)
