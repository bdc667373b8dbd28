# SPDX-License-Identifier: GPL-2.0
"""The loop of the live commands. Ctrl-C, SIGTERM, a time limit, or a standard output without reader end it."""

from __future__ import annotations

import select
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from types import FrameType

from xdpguard import signals, units
from xdpguard.cli import render

_READER_GONE = select.POLLERR | select.POLLNVAL


def rounds(what: str, pause: float, length: float | None = None) -> Iterator[bool]:
    """Yield False every ``pause`` seconds, and True once at the end; just return when standard output has no reader.

    Announce ``what`` on standard error first: from then on nothing is missed, and a signal ends the loop cleanly.
    """
    came: list[int] = []

    def heed(number: int, _frame: FrameType | None) -> None:
        if came:  # the second time: the loop must be stuck
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
                # Keeps the rhythm; a round that takes too long delays the next one.
                following = max(following + pause, time.monotonic())


def lost_words(count: int, what: str, done: str) -> str:
    """Say how many things were lost. ``done``: what they came too fast for, such as "read"."""
    if count == 1:
        return f"1 {what} was lost: it came faster than it could be {done}"
    return f"{count:,} {what}s were lost: they came faster than they could be {done}"


def write(lines: Iterable[str]) -> None:
    """Print lines and flush."""
    text = "\n".join(map(units.visible, lines))
    if text:
        sys.stdout.write(text + "\n")
    sys.stdout.flush()
