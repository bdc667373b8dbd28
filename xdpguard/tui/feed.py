# SPDX-License-Identifier: GPL-2.0
"""Threads of the screen: one reads periodically, the other makes requested changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from xdpguard.errors import XdpguardError
from xdpguard.tui.changes import Change, Opened
from xdpguard.tui.history import History, Snapshot
from xdpguard.tui.reading import Reading


class Feed:
    """Reads every ``interval`` seconds and reports a snapshot, or why there is none."""

    def __init__(
        self, read: Callable[[], Reading], interval: float, tell: Callable[[Snapshot | None, str], None]
    ) -> None:
        self._read = read
        self._interval = interval
        self._tell = tell
        self._history = History()
        self._ending = threading.Event()
        # A daemon: it only reads, so exiting need not wait for it.
        self._thread = threading.Thread(target=self._run, name="reading", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current reading."""
        self._ending.set()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ending.is_set():
            try:
                snapshot = self._history.add(self._read())
            except Exception as error:  # whatever it is, the screen shows it, and the next reading may succeed
                if not self._ending.is_set():
                    self._tell(None, explained(error))
            else:
                if not self._ending.is_set():
                    self._tell(snapshot, "")
            now = time.monotonic()
            # Keep to the schedule; skip readings that were missed.
            due += self._interval * (1 + max(0.0, (now - due) // self._interval))
            self._ending.wait(due - now)


class Changer:
    """Makes one change at a time; ``tell`` receives what it waits for, and the outcome (True: done)."""

    def __init__(self, opened: Opened, tell: Callable[[str, bool | None], None]) -> None:
        self._opened = opened
        self._tell = tell
        self._thread: threading.Thread | None = None
        self._waiting = False

    @property
    def busy(self) -> bool:
        """Whether a change is in progress."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, change: Change) -> None:
        """Start making a change."""
        self._thread = threading.Thread(target=self._run, args=(change,), name="change", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for a change in progress; abandon one that still waits for another command, with nothing changed."""
        while self.busy and not self._waiting:
            assert self._thread is not None
            self._thread.join(0.05)

    def _wait(self, text: str) -> None:
        self._waiting = True
        self._tell(text, None)

    def _run(self, change: Change) -> None:
        def begun() -> None:
            self._waiting = False

        try:
            self._tell(change.make(self._opened, self._wait, begun), True)
        except Exception as error:
            self._tell(f"not done: {explained(error)}", False)
        finally:
            self._waiting = False


def explained(error: Exception) -> str:
    """Format an error and its remedy in one line."""
    if isinstance(error, XdpguardError):
        return f"{error}; {error.remedy}" if error.remedy else str(error)
    return f"{type(error).__name__}: {error}"
