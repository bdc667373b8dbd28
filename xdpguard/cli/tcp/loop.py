# SPDX-License-Identifier: GPL-2.0
"""Going on until it is enough: Ctrl-C, SIGTERM, the time is over, or nobody reads any more."""

from __future__ import annotations

import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from types import FrameType

from xdpguard import signals
from xdpguard.cli import render

_READER_GONE = select.POLLERR | select.POLLNVAL


def rounds(what: str, pause: float, length: float | None = None) -> Iterator[bool]:
    """Yields every ``pause`` seconds, and once more at the end, however it comes: then True.

    Says first on standard error that it has begun with ``what``: from then on nothing is missed, and a signal ends it
    in good order.
    """
    came: list[int] = []

    def heed(number: int, _frame: FrameType | None) -> None:
        if came:  # twice: it hangs
            raise KeyboardInterrupt
        came.append(number)

    watch = select.poll()
    with signals.waking(heed, signal.SIGINT, signal.SIGTERM) as told:
        render.note(what if length is not None else f"{what}; end with Ctrl-C")
        watch.register(told, select.POLLIN)
        watch.register(1, 0)
        begun = time.monotonic()
        following = begun + pause
        end = begun + length if length is not None else float("inf")
        while True:
            now = time.monotonic()
            left = max(0.0, min(following, end) - now)
            gone = any(number == 1 and event & _READER_GONE for number, event in watch.poll(left * 1000))
            if gone:
                return
            now = time.monotonic()
            if came or now >= end:
                yield True
                return
            if now >= following:
                yield False
                # Kept in step; rounds that took too long are left out.
                following = max(following + pause, time.monotonic())


def write(lines: Iterable[str]) -> None:
    """Prints lines at once, and no later."""
    text = "\n".join(lines)
    if text:
        sys.stdout.write(text + "\n")
    sys.stdout.flush()
