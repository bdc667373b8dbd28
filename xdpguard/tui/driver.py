# SPDX-License-Identifier: GPL-2.0
"""Textual's terminal, where a process that is told to go on goes on as it was."""

from __future__ import annotations

import contextlib
from typing import Any

from textual.drivers.linux_driver import LinuxDriver


class Driver(LinuxDriver):
    """Takes the terminal again only where it has given it back before."""

    def _sigcont_application(self, *_: Any) -> None:
        # SIGCONT comes after SIGSTOP, which nobody is told of, and from systemd behind every SIGTERM. To take the
        # terminal twice leaves a second thread that reads it, and forgets how it was.
        if self._must_signal_resume:
            super()._sigcont_application()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._app.refresh)
