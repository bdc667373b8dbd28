# SPDX-License-Identifier: GPL-2.0
"""nats-server with a configuration that `fleet setup` wrote, and what users can do there with the bare protocol."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import threading
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

from nats.aio.client import Client
from tied import tied

from support.traffic import eventually
from xdpguard.fleet.closing import close


class Engine:
    """A server; use as a context manager. It may be killed, started again, or told to read its files again."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        self.lines = []
        self.process = subprocess.Popen(
            tied(["nats-server", "-c", str(self.config)]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        assert self.says("Server is ready"), self.lines

    def says(self, text: str) -> bool:
        """Whether it logs that."""
        return eventually(lambda: any(text in line for line in self.lines))

    def reload(self) -> None:
        """Has it read its files again."""
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)
        assert self.says("Reloaded server configuration"), self.lines

    def kill(self) -> None:
        """Ends it at once."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        with process.stderr:
            self.lines.extend(process.stderr)


class Mallory:
    """One user of the server, with the library and no restraint of its own."""

    def __init__(self, client: Client, refused: list[str]) -> None:
        self.client = client
        self.refused = refused
        self.js = client.jetstream(timeout=5)

    async def may(self, subject: str, data: bytes = b"") -> bool:
        """Whether the server answers a request there; if it does not, it must have said that it is not permitted."""
        before = len(self.refused)
        asked = asyncio.ensure_future(self.client.request(subject, data, timeout=20))
        while not asked.done() and len(self.refused) == before:
            await asyncio.wait([asked], timeout=0.02)
        if asked.done():
            return "error" not in json.loads((await asked).data)
        asked.cancel()
        assert subject.lower() in self.refused[-1], self.refused
        return False


def acting(url: str, login: Path | None, work: Callable[[Mallory], Awaitable[Any]]) -> Any:
    """Does something as the user of a file of credentials, or as nobody."""

    async def run() -> Any:
        refused: list[str] = []

        async def failed(error: Exception) -> None:
            refused.append(str(error).lower())

        its = tomllib.loads(login.read_text()) if login else {}
        inbox = f"_INBOX_{its['user']}" if its else "_INBOX"
        client = Client()
        try:
            await client.connect(
                url, error_cb=failed, inbox_prefix=inbox, allow_reconnect=False, connect_timeout=5, **its
            )
            return await work(Mallory(client, refused))
        finally:
            await close(client)

    return asyncio.run(run())
