# SPDX-License-Identifier: GPL-2.0
"""What one host of a fleet does for all: keep a snapshot of the bucket, and clear away what is old.

That is entries that have ended, where their publisher no longer does so, and the marks of deletions.

It needs an operator's credentials. If there are several such hosts, each finds the work of the other done.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from xdpguard.fleet import snapshot
from xdpguard.fleet.failures import Unreachable
from xdpguard.fleet.keys import BUCKET
from xdpguard.fleet.state import LONG_AGO, Message
from xdpguard.policy.fleet import Fleet

if TYPE_CHECKING:
    from xdpguard.fleet.client import Connection

_LOOK = 20.0  # seconds between two looks
_MANY = 100  # changes since the last snapshot from which there is a new one: so many may each host have to read
_SELDOM = 600.0  # seconds after which there is one for any change
_AT_ONCE = 1000  # entries that are cleared away with one snapshot
_OLD = 3600.0  # seconds after which the mark of a deletion is removed


@asynccontextmanager
async def keeping(connection: Connection, settings: Fleet, failed: Callable[[str], None]) -> AsyncIterator[None]:
    """Do this work meanwhile, if this is the host that does it. ``failed`` is called with what did not work."""
    task = asyncio.ensure_future(Keeper().keep(connection, failed)) if settings.keeper else None
    try:
        yield
    finally:
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class Keeper:
    """Belongs to one connection. ``old``: see above."""

    def __init__(self, old: float = _OLD) -> None:
        self._old = old
        self._rows: dict[str, Message] = {}
        self._stream = ""
        self._last = 0
        self._made_at = float("-inf")  # monotonic, s

    async def keep(self, connection: Connection, failed: Callable[[str], None]) -> None:
        """Do it until cancelled."""
        while True:
            try:
                await self.look(connection)
            except Exception as error:  # tried again, as long as the connection holds
                failed(f"this host cannot keep the snapshot of the fleet's entries: {error or type(error).__name__}")
            await asyncio.sleep(_LOOK)

    async def look(self, connection: Connection) -> None:
        """Publish a snapshot if much has changed since the last, or anything long ago."""
        place, head = await connection.place(), await snapshot.head(connection)
        known = head is not None and head.stream == place.stream and head.last <= place.last
        behind = place.last - head.last if head is not None and known else place.last
        if not behind or (known and behind < _MANY and time.monotonic() - self._made_at < _SELDOM):
            return
        gone = head.purged if head is not None and known else 0
        await self._follow(connection, place.stream, gone)
        late = time.time() - self._old
        marks = [it for it in self._rows.values() if it.data is None and it.sequence <= place.last]
        old = [it for it in marks if it.at < late and not place.lasting]  # a bucket made by others may keep all
        # Said before it is done: who was away must know that deletions may be missing.
        gone = max([gone, *(it.sequence for it in old)])
        await snapshot.publish(connection, place, self._rows.values(), gone)
        self._last, self._made_at = place.last, time.monotonic()
        for it in old:
            await connection.forget(it.sequence)
            del self._rows[it.key]
        ended = [it for it in self._rows.values() if it.data is not None and _ended(it.data)]
        for it in ended[:_AT_ONCE]:
            with contextlib.suppress(Unreachable):  # it was published again
                await connection.publish(BUCKET, it.key, None, it.sequence)

    async def _follow(self, connection: Connection, stream: str, gone: int) -> None:
        if stream != self._stream or not gone <= self._last:
            self._rows, self._stream, self._last = {}, stream, 0
        for it in await connection.read(after=self._last):
            self._rows[it.key] = it


class _End(msgspec.Struct):
    end: float | None = None


def _ended(data: bytes) -> bool:
    """Whether a value says that its entry ended long ago; what is no value ends never."""
    try:
        end = msgspec.json.decode(data, type=_End).end
    except (msgspec.DecodeError, RecursionError):
        return False
    return end is not None and end < time.time() - LONG_AGO
