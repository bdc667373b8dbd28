# SPDX-License-Identifier: GPL-2.0
"""Stands between hosts and their server: cuts connections, and loses, doubles or delays messages of the fleet."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading

_LIVE = b"xdpguard.live."


class Proxy:
    """A thread. ``cut``: nobody gets through; ``lose``, ``double``, ``delay``: shares of the live messages, 0 to 1.

    A delayed one comes after the next.
    """

    def __init__(self, port: int, seed: int) -> None:
        self.cut = False
        self.lose = self.double = self.delay = 0.0
        self.port = 0
        self._to = port
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._main, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()

    def sever(self) -> None:
        """Ends all connections."""

        def end() -> None:
            for it in self._writers:
                it.transport.abort()

        self._loop.call_soon_threadsafe(end)

    def close(self) -> None:
        """Ends it."""
        self.sever()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _main(self, ready: threading.Event) -> None:
        async def start() -> asyncio.Server:
            return await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)

        server = self._loop.run_until_complete(start())
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()

        async def end() -> None:
            server.close()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for it in left:
                it.cancel()
            await asyncio.gather(*left, return_exceptions=True)

        self._loop.run_until_complete(end())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.transport.abort()
            return
        try:
            theirs, ours = await asyncio.open_connection("127.0.0.1", self._to, limit=1 << 20)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, ours}
        self._writers |= both
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                ways = [asyncio.ensure_future(it) for it in (self._up(reader, ours), self._down(theirs, writer))]
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._writers -= both
            for it in both:
                it.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        late = b""
        while line := await reader.readline():
            if line.startswith((b"MSG ", b"HMSG ")):
                size = int(line.split()[-1])
                message = line + await reader.readexactly(size + 2)
                live = line.split()[1].startswith(_LIVE)
                if live and self._random.random() < self.lose:
                    continue
                if live and self._random.random() < self.double:
                    writer.write(message)
                line = message
                if live and not late and self._random.random() < self.delay:
                    late = message
                    continue
            writer.write(line + late)
            late = b""
            await writer.drain()
