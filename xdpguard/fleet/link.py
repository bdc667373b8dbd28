# SPDX-License-Identifier: GPL-2.0
"""Follow the fleet's entries in a thread of its own, and publish this host's: what comes is handed to the daemon.

A host holds one plain subscription. Each message has a number; where one is missing, after a lost connection and from
time to time the stream itself is asked for what is new. Hosts do so at random moments, so that they do not all ask at
once.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import threading
import time
from collections import deque
from collections.abc import Collection

from xdpguard.errors import XdpguardError
from xdpguard.fleet import objects, snapshot
from xdpguard.fleet.batch import Batch, Sending
from xdpguard.fleet.client import Connection, connected
from xdpguard.fleet.clock import Clock
from xdpguard.fleet.failures import Unreachable
from xdpguard.fleet.keeper import keeping
from xdpguard.fleet.keys import BUCKET, HOSTS
from xdpguard.fleet.message import FleetList
from xdpguard.fleet.state import Message
from xdpguard.policy.fleet import Fleet
from xdpguard.policy.target import Prefix, parse_prefix

_CHECK = 30.0  # seconds between two questions for the last number, in which nothing came
_SPREAD = 1.0  # seconds over which hosts spread after a lost connection
_LONGEST = 30.0  # seconds between two attempts to connect


class Link:
    """The connection of one host. All methods are for the daemon's thread; attributes are read by any."""

    def __init__(self, settings: Fleet) -> None:
        self.settings = settings
        self.connected = False
        self.gaps = 0  # numbers that were missing
        self.refused = 0  # snapshots that could not be used
        self.heard = 0.0  # when the last message came, Unix time
        self.clock = Clock()
        self.addresses: frozenset[Prefix] = frozenset()  # of the server it is connected to
        self._batches: deque[Batch] = deque()
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._last = 0
        self._stream = ""
        self._waiting: list[Message] | None = None  # what comes while a snapshot is read
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        self._stopping = False
        self._lost = self._missing = False
        self._sending: dict[tuple[str, str], Sending] = {}  # by bucket and key: what is published anew replaces it
        self._fetching = objects.Fetching(lambda found: self._hand(Batch(lists=[found])))
        self._thread = threading.Thread(target=self._main, name="fleet", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor that is readable when something came."""
        return self._ours.fileno()

    def taken(self) -> list[Batch]:
        """Return what came since the last call."""
        with contextlib.suppress(BlockingIOError):
            while self._ours.recv(4096):
                pass
        found = []
        while self._batches:
            found.append(self._batches.popleft())
        return found

    def publish(self, sendings: Collection[Sending]) -> None:
        """Publish; a batch tells what was. Without a connection nothing is, and nothing is remembered."""
        self._sending.update({(it.bucket, it.key): it for it in sendings})
        self._poke()

    def fetch(self, its: FleetList, most: int) -> None:
        """Fetch a list, which has so many entries at most; a batch tells what came of it, however long it takes."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._fetching.add, its, most)

    def again(self) -> None:
        """Read a whole snapshot again."""
        self._last = 0
        self._missing = True
        self._poke()

    def close(self) -> None:
        """Disconnect."""
        self._stopping = True
        self._poke()
        self._thread.join()
        self._ours.close()
        self._theirs.close()

    def _poke(self) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._wake.set)

    def _main(self) -> None:
        try:
            self._loop.run_until_complete(self._run())
        finally:
            self._loop.close()

    async def _run(self) -> None:
        pause, told = _SPREAD, ""
        while not self._stopping:
            self._lost = self._missing = False
            try:
                async with connected(self.settings, self._on_lost) as it, keeping(it, self.settings, self._warn):
                    await self._serve(it)
                    pause, told = _SPREAD, ""
                failed = "" if self._stopping else "the connection to the fleet's server was lost"
            except XdpguardError as error:
                failed = f"{error}; {error.remedy}"
            except Exception as error:  # the thread must survive whatever the library raises
                failed = f"the fleet's server cannot be used: {type(error).__name__}: {error}"
            self.connected = False
            if failed and failed != told:
                self._hand(Batch(failed=failed))
            told = failed
            await self._pause(random.uniform(pause / 2, pause))
            pause = min(_LONGEST, pause * 2)

    async def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), left)

    def _on_lost(self) -> None:
        self._lost = True
        self._wake.set()

    async def _serve(self, connection: Connection) -> None:
        found = await self._loop.getaddrinfo(connection.server, None)
        self.addresses = frozenset(parse_prefix(str(it[4][0]).partition("%")[0])[0] for it in found)
        self._sending.clear()  # from before the connection: the outbox still has it, if it holds
        self._waiting = []
        await connection.listen(self._heard)
        await self._catch_up(connection)
        self.connected = True
        fetching = asyncio.ensure_future(self._fetching.run(connection, lambda: self._lost))
        try:
            await self._follow(connection)
        finally:
            fetching.cancel()

    async def _follow(self, connection: Connection) -> None:
        check = time.monotonic() + random.uniform(_CHECK / 2, _CHECK)
        while not self._stopping and not self._lost:
            self._wake.clear()
            await self._send(connection)
            if self._missing:
                self._waiting = self._waiting or []
                await asyncio.sleep(random.uniform(0, _SPREAD))
                await self._catch_up(connection)
            if time.monotonic() >= check:
                check = time.monotonic() + random.uniform(_CHECK / 2, _CHECK)
                await self._check(connection)
            if not self._sending and not self._missing:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), max(0.0, check - time.monotonic()))

    async def _check(self, connection: Connection) -> None:
        """Notice a last message that never came, and a stream that was made anew."""
        if self.settings.totals:
            self._hand(Batch(hosts=await connection.read(HOSTS)))
        elif self.clock.due:
            await connection.read(HOSTS, self.settings.name)
        self._compare(connection)
        seen = self._last
        place = await connection.place()
        if place.stream != self._stream or place.last > max(seen, self._last):
            self.gaps += 1
            self._missing = True

    async def _catch_up(self, connection: Connection) -> None:
        """Read what is new, or all: if the stream is another one, or deletions may be missing there.

        What comes meanwhile is taken afterwards.
        """
        place = await connection.place()
        whole = place.stream != self._stream or place.last < self._last or not self._last
        messages: list[Message] = []
        if not whole:
            messages = await connection.read(after=self._last) if place.last > self._last else []
            whole = await snapshot.purged(connection, place) > self._last
        if whole:
            messages = await snapshot.read_all(connection, place, self._refuse)
        self._stream, self._last, self._missing = place.stream, place.last, False
        waiting, self._waiting = self._waiting or [], None
        self._hand(Batch(messages, place.stream if whole else ""))
        self._compare(connection)
        for message in waiting:
            self._heard(message)

    def _compare(self, connection: Connection) -> None:
        measured, connection.clock = connection.clock, None
        if said := self.clock.take(measured):
            self._warn(said)

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self._warn(why)

    def _warn(self, text: str) -> None:
        self._hand(Batch(warning=text))

    def _heard(self, message: Message) -> None:
        self.heard = time.time()
        if self._waiting is not None:
            self._waiting.append(message)
            return
        if message.sequence <= self._last:  # again, or late: what it had put may have been deleted since
            return
        if message.sequence > self._last + 1:
            self.gaps += 1
            self._missing, self._waiting = True, [message]
            self._wake.set()
            return
        self._last = message.sequence
        self._hand(Batch([message]))

    async def _send(self, connection: Connection) -> None:
        while self._sending and not self._lost:
            _, it = self._sending.popitem()  # one step, so that the daemon's thread may add meanwhile
            try:
                await connection.publish(it.bucket, it.key, it.data)
            except Unreachable as error:
                self._warn(f"{error}; {error.remedy}")
                continue
            if it.bucket == BUCKET:
                self._hand(Batch(sent=[it]))

    def _hand(self, batch: Batch) -> None:
        self._batches.append(batch)
        with contextlib.suppress(BlockingIOError):
            self._theirs.send(b"\0")
