# SPDX-License-Identifier: GPL-2.0
"""All entries of the bucket at once, compressed: a host that joins reads this, and then only what changed since.

Who may publish everything writes it: hosts may not, so that each still speaks for itself only. It lies in a bucket of
its own, as parts in one of two folders, and a head that names the folder. The folder that the last head named stays as
it is, for those who are reading it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal

import msgspec

from xdpguard.fleet.keys import LARGEST_PART, SNAPSHOT
from xdpguard.fleet.state import Message
from xdpguard.units import counted

if TYPE_CHECKING:
    from xdpguard.fleet.client import Connection
    from xdpguard.fleet.reading import Place

_VERSION = 1
_HEAD = "head"
_FOLDERS: tuple[Literal["a"], Literal["b"]] = ("a", "b")
_PARTS = 1024
_LARGEST = 512 << 20  # bytes of all entries, not compressed
_LEVEL = 6  # of zlib: higher ones take longer and save nothing


class Head(msgspec.Struct, frozen=True):
    """What there is to read. ``stream`` and ``last``: which state of the bucket it is, as in Place.

    ``digest``: SHA-256 of all parts, hexadecimal; ``purged``: up to which number deletions may be missing in the
    bucket, so that whoever read it before must read all again.
    """

    v: int
    stream: str
    last: int
    folder: Literal["a", "b"]
    parts: int
    digest: str
    purged: int = 0


class Row(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An entry: see Message."""

    sequence: int
    key: str
    data: bytes


class RefusedError(Exception):
    """A snapshot cannot be used; the text says why."""


async def head(connection: Connection) -> Head | None:
    """Return the head of the newest snapshot; None if there is none of a known version."""
    data = await connection.value(SNAPSHOT, _HEAD)
    try:
        found = msgspec.json.decode(data or b"", type=Head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if found.v == _VERSION else None


async def packed(connection: Connection, its: Head) -> bytes:
    """Return a snapshot as it is stored. Raise RefusedError if it is not what its head says."""
    if not 0 < its.parts <= _PARTS:
        raise RefusedError(f"it has {counted(its.parts, 'part')}")
    parts = [await connection.value(SNAPSHOT, f"{its.folder}.{number}", newest=False) for number in range(its.parts)]
    data = b"".join(it or b"" for it in parts)
    if hashlib.sha256(data).hexdigest() != its.digest:
        raise RefusedError("its parts have another digest than its head says")
    return data


def unpacked(data: bytes) -> list[Message]:
    """Return the entries of a snapshot. Raise RefusedError if they are none."""
    try:
        expander = zlib.decompressobj()
        text = expander.decompress(data, _LARGEST)
        rows = msgspec.msgpack.decode(text, type=list[Row])
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(f"it cannot be decoded: {error}") from error
    return [Message(it.sequence, it.key, it.data) for it in rows]


async def publish(connection: Connection, place: Place, rows: Iterable[Message], purged: int) -> None:
    """Publish a snapshot of the bucket at a place. ``purged``: see Head. Raise Unreachable without the permission."""
    before = await head(connection)
    folder = _FOLDERS[before is not None and before.folder == _FOLDERS[0]]
    text = msgspec.msgpack.encode([Row(it.sequence, it.key, it.data) for it in rows if it.data is not None])
    data = zlib.compress(text, _LEVEL)
    parts = [data[at : at + LARGEST_PART] for at in range(0, len(data), LARGEST_PART)]
    its = Head(_VERSION, place.stream, place.last, folder, len(parts), hashlib.sha256(data).hexdigest(), purged)
    await connection.publish(SNAPSHOT, f"{folder}.0", parts[0])  # alone: whoever may not publish hears it once
    await connection.publish_all(SNAPSHOT, {f"{folder}.{number}": it for number, it in enumerate(parts) if number})
    await connection.publish(SNAPSHOT, _HEAD, msgspec.json.encode(its))


async def read_all(connection: Connection, place: Place, refused: Callable[[str], None]) -> list[Message]:
    """Read the whole bucket: by a snapshot and what changed since, or, where there is none, message by message.

    ``refused`` is called with a snapshot that cannot be used.
    """
    its = await head(connection)
    if its is None or its.stream != place.stream:  # none, or of a server that has lost its data since
        return await connection.read()
    try:
        if its.last > place.last:
            raise RefusedError("it is of a later state than the bucket has")
        found = unpacked(await packed(connection, its))
    except RefusedError as error:
        refused(f"the snapshot of its entries is refused, and all are read one by one: {error}")
        return await connection.read()
    newer = await connection.read(after=its.last) if place.last > its.last else []
    return await connection.read() if await purged(connection, place) > its.last else found + newer


async def purged(connection: Connection, place: Place) -> int:
    """Return up to which number deletions may be missing in the bucket at a place."""
    its = await head(connection)
    return its.purged if its is not None and its.stream == place.stream else 0
