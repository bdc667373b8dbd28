# SPDX-License-Identifier: GPL-2.0
"""``xdpguard run`` in the background, and its log."""

from __future__ import annotations

import signal
import subprocess
import threading

from support.command import Command
from support.traffic import eventually


class Run:
    """The service in the background, with its log. Ended with the test."""

    def __init__(self, command: Command, *arguments: str, before: tuple[str, ...] = (), **environment: str) -> None:
        """``before``: a command that runs it, such as setpriv with its options."""
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*before, *command.line("run", *arguments)],
            env=command.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGKILL)

    def says(self, text: str, seconds: float = 60.0, after: int = 0) -> bool:
        """Whether a line with that text comes, behind the first ``after`` lines."""
        return eventually(lambda: any(text in line for line in self.lines[after:]), seconds)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ends it with a signal; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        self._thread.join()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code
