# SPDX-License-Identifier: GPL-2.0
"""A real nats-server with JetStream, on a port of the loopback of its own."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tied import tied

from support.traffic import eventually
from xdpguard.fleet.client import Connection, run
from xdpguard.policy.fleet import Fleet


def free_port() -> int:
    """A TCP port that nobody uses."""
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        return int(asked.getsockname()[1])


class Nats:
    """The server; use as a context manager. It may be killed and started again, with its data or without."""

    def __init__(self, folder: Path, config: str = "") -> None:
        """``config``: more lines of its configuration."""
        self.port = free_port()
        self.folder = folder
        self._config = config
        self._starts = 0
        self._process: subprocess.Popen[str] | None = None
        self.lines: list[str] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self, empty: bool = False) -> None:
        """Starts it, with what it had stored, and waits until it is ready. ``empty``: without."""
        self._starts += empty
        file = self.folder / "nats.conf"
        store = self.folder / f"data{self._starts}"
        file.write_text(f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{store}" }}\n{self._config}\n')
        self.lines = []
        self._process = subprocess.Popen(
            tied(["nats-server", "-c", str(file)]), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()
        assert eventually(lambda: any("Server is ready" in line for line in self.lines)), self.lines

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            self.lines.extend(process.stderr)

    def kill(self) -> None:
        """Ends it at once."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def ask(self, work: Callable[[Connection], Any], name: str = "tester") -> Any:
        """Connects as somebody, and does something there."""
        return run(Fleet((self.url,), name), work)
