# SPDX-License-Identifier: GPL-2.0
"""``xdpguard run`` in the background, and its log."""

from __future__ import annotations

import subprocess
import threading
from signal import SIGINT, SIGKILL, SIGTERM, default_int_handler, signal
from typing import Self

from tied import tied

from support.command import Command
from support.patience import patient
from support.traffic import eventually


class Run:
    """The service in the background, with its log. As a context manager it is killed at the end."""

    def __init__(
        self,
        command: Command,
        *arguments: str,
        before: tuple[str, ...] = (),
        words: tuple[str, ...] = ("run",),
        **environment: str,
    ) -> None:
        """``before``: a command that runs it, such as setpriv with its options; ``words``: of another service."""
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            tied([*before, *command.line(*words, *arguments)]),
            env=command.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal(SIGINT, default_int_handler),
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(SIGKILL)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def says(self, text: str, seconds: float = 60.0, after: int = 0, times: int = 1) -> bool:
        """Whether that many lines with that text come, behind the first ``after`` lines."""
        return eventually(lambda: self.count(text, after) >= times, seconds)

    def count(self, text: str, after: int = 0) -> int:
        """How many lines so far have that text."""
        return sum(text in line for line in self.lines[after:])

    def end(self, number: int = SIGTERM) -> int:
        """Ends it with a signal; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(patient(60))
        finally:
            self.process.kill()
            self.process.wait()
            self._thread.join()
            if self.process.stdout is not None:
                self.process.stdout.close()


class Service(Run):
    """The same, which as a context manager is told to end, and has to end well."""

    def __exit__(self, *_: object) -> None:
        assert self.end() == 0, self.lines
