# SPDX-License-Identifier: GPL-2.0
"""Textual's terminal driver, for a process that may receive SIGCONT at any time."""

from __future__ import annotations

import contextlib
import select
from typing import Any

from textual.drivers.linux_driver import LinuxDriver

_LOOKS = 1.0  # seconds between two looks at whether the terminal is still there
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Driver(LinuxDriver):
    """Takes the terminal again only if it gave it back before, and ends with the terminal."""

    def start_application_mode(self) -> None:
        """Take the terminal."""
        super().start_application_mode()  # type: ignore[no-untyped-call]
        self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        """End once the terminal is gone; no signal tells if it was not the controlling one."""
        if self.exit_event.is_set():
            return
        waiting = select.poll()
        waiting.register(self.fileno, 0)
        if any(events & _GONE for _, events in waiting.poll(0)):
            self._app.exit()
        else:
            self._loop.call_later(_LOOKS, self._look)

    def _sigcont_application(self, *_: Any) -> None:
        # SIGCONT follows SIGSTOP, which cannot be caught, and systemd sends it after every SIGTERM. Taking the terminal
        # twice would leave a second thread reading it, and lose its original settings.
        if self._must_signal_resume:
            super()._sigcont_application()
        with contextlib.suppress(RuntimeError):  # the loop has stopped
            self._loop.call_soon_threadsafe(self._app.refresh)
