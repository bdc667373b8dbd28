# SPDX-License-Identifier: GPL-2.0
"""Textual's terminal driver, for a process that may receive SIGCONT at any time."""

from __future__ import annotations

import contextlib
from typing import Any

from textual.drivers.linux_driver import LinuxDriver


class Driver(LinuxDriver):
    """Takes the terminal again only if it gave it back before."""

    def _sigcont_application(self, *_: Any) -> None:
        # SIGCONT follows SIGSTOP, which cannot be caught, and systemd sends it after every SIGTERM. Taking the terminal
        # twice would leave a second thread reading it, and lose its original settings.
        if self._must_signal_resume:
            super()._sigcont_application()
        with contextlib.suppress(RuntimeError):  # the loop has stopped
            self._loop.call_soon_threadsafe(self._app.refresh)
