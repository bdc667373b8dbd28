# SPDX-License-Identifier: GPL-2.0
"""Wait in a bridge's loop, and end it by a signal, also while it waits for the other system."""

from __future__ import annotations

import select
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from xdpguard import signals
from xdpguard.service.notify import notify

_ALIVE = 10.0  # seconds between two signs of life to systemd


class Ended(BaseException):
    """A signal has ended the bridge while it waited for the other system."""


@contextmanager
def ending() -> Iterator[None]:
    """Raise Ended when SIGTERM or SIGINT comes. For waits alone, never around a change."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise Ended

    with signals.handled(end, signal.SIGTERM, signal.SIGINT):
        yield


def wait(told: socket.socket, seconds: float) -> bytes:
    """Wait for signals, as `signals.waking` names them, or until that many seconds have passed; return the signals."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([told], [], [], min(left, _ALIVE))[0]:
            return told.recv(64)
        notify("WATCHDOG=1")
    return b""
