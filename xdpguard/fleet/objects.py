# SPDX-License-Identifier: GPL-2.0
"""What lists of the fleet hold, in the server's object store: compressed, known by a digest, put and fetched.

An object has the prefixes of a list as the store has them, with the version of that form. What is fetched is trusted
only once it has the digest that the list's key gives, and is disjoint prefixes in ascending order.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import zlib
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from xdpguard.errors import UsageError
from xdpguard.fleet.keys import LISTS
from xdpguard.fleet.message import LARGEST_LIST, FleetList
from xdpguard.units import counted

if TYPE_CHECKING:
    from xdpguard.fleet.client import Connection
    from xdpguard.lists.addresses import AddressSet

_VERSION = 1
_PREFIX = 25  # bytes of a prefix at most, with its end
_PART, _PARTS = 128 << 10, 32  # bytes of a part of an object, and parts that are asked for at a time
_RATE = 500_000  # bytes a second: hosts spread over the time that an object would take at this rate
_LEAST, _MOST = 1.0, 120.0  # seconds over which they spread


class Content(msgspec.Struct, frozen=True):
    """An object: see `AddressSet.packed`."""

    v: int
    four: bytes
    six: bytes
    ends: bytes = b""


class Fetched(NamedTuple):
    """What came of fetching a list: its entries; or None, and why. ``final``: it would be the same again."""

    its: FleetList
    entries: AddressSet | None
    why: str = ""
    final: bool = False


def packed(entries: AddressSet) -> bytes:
    """Return the object for a list. Raise UsageError if it would be too large."""
    data = zlib.compress(msgspec.msgpack.encode(Content(_VERSION, *entries.packed())))
    if len(data) > LARGEST_LIST:
        raise UsageError(
            f"the list takes {len(data):,} bytes, and may take {LARGEST_LIST:,}", "publish it in several parts"
        )
    return data


def digest_of(data: bytes) -> str:
    """Return the digest by which an object is known."""
    return hashlib.sha256(data).hexdigest()


def unpacked(data: bytes, most: int) -> AddressSet:
    """Return the entries in an object. ``most``: how many there may be. Raise ValueError if it is none."""
    from xdpguard.lists.addresses import unpacked as entries_of

    stream = zlib.decompressobj()
    try:
        content = stream.decompress(data, most * _PREFIX + 1024)
        if not stream.eof:
            raise ValueError(f"it is cut off, or has more than {counted(most, 'entry', 'entries')}")
        its = msgspec.msgpack.decode(content, type=Content)
    except (zlib.error, msgspec.DecodeError) as error:
        raise ValueError(f"it is not a list: {error}") from error
    if its.v != _VERSION:
        raise ValueError(f"it has version {its.v}, and this xdpguard knows version {_VERSION}")
    try:
        found = entries_of(its.four, its.six, its.ends)
    except ValueError as error:
        raise ValueError(f"part of a prefix is missing: {error}") from error
    if len(found) > most:
        raise ValueError(f"it has more than {counted(most, 'entry', 'entries')}")
    if not found.valid():
        raise ValueError("its entries are not disjoint prefixes in order")
    return found


async def fetched(connection: Connection, its: FleetList, most: int) -> Fetched:
    """Fetch a list, and look at what it holds. Never raises."""
    try:
        data = await _data(connection, its)
    except Exception as error:  # whatever the library raises
        return Fetched(its, None, f"the server does not give it: {error or type(error).__name__}")
    if not data:
        return Fetched(its, None, "the server does not have it")
    if len(data) != its.size or digest_of(data) != its.digest:
        return Fetched(its, None, "what the server has of it has another digest")
    try:
        entries = unpacked(data, most)
    except ValueError as error:
        return Fetched(its, None, str(error), final=True)
    if len(entries) != its.entries:
        has = counted(len(entries), "entry", "entries")
        return Fetched(its, None, f"it has {has}, and its key says {its.entries:,}", final=True)
    return Fetched(its, entries)


async def _data(connection: Connection, its: FleetList) -> bytes:
    """Return an object, or more than its size if it is larger."""
    subject = f"$O.{LISTS}.C.{its.object}"
    parts = await connection.stored(f"OBJ_{LISTS}", subject, most=its.size // _PART + 2, batch=_PARTS)
    return b"".join(it.data for it in parts)


async def put(connection: Connection, name: str, data: bytes) -> str:
    """Put what a list holds into the object store, in place of what it held; return the object's name there."""
    store = await connection.js.object_store(LISTS)
    done = await connection.permitted(store.put(name, data), LISTS, "lists")
    return str(done.nuid)


async def drop(connection: Connection, name: str) -> None:
    """Delete what a list holds from the object store."""
    with contextlib.suppress(connection.missing):
        store = await connection.js.object_store(LISTS)
        await connection.permitted(store.delete(name), LISTS, "lists")


def spread(its: FleetList) -> float:
    """Return over how many seconds hosts spread when they fetch a list."""
    return min(_MOST, max(_LEAST, its.size / _RATE))


class Fetching:
    """The lists that one host has still to fetch, one after the other. Belongs to one event loop."""

    def __init__(self, done: Callable[[Fetched], None]) -> None:
        """``done`` is called with what came of each."""
        self._done = done
        self._waiting: deque[tuple[FleetList, int]] = deque()
        self._more = asyncio.Event()

    def add(self, its: FleetList, most: int) -> None:
        """Have a list fetched, which has ``most`` entries at most."""
        self._waiting.append((its, most))
        self._more.set()

    async def run(self, connection: Connection, lost: Callable[[], bool]) -> None:
        """Fetch while connected; what a lost connection has cut off stays to be fetched.

        Each some time after it was asked for, at random: all hosts hear of a list at once.
        """
        while not lost():
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
            its, most = self._waiting[0]
            await asyncio.sleep(random.uniform(0, spread(its)))
            found = await fetched(connection, its, most)
            if not lost():
                self._waiting.popleft()
                self._done(found)
