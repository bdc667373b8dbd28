# SPDX-License-Identifier: GPL-2.0
"""One connection to the fleet's server: publish, read, listen. The only module that knows the NATS library."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from xdpguard.errors import MissingError, XdpguardError
from xdpguard.fleet.credentials import login_options, tls_options
from xdpguard.fleet.keys import BUCKET, HOSTS, LISTS, LIVE
from xdpguard.fleet.pulling import PENDING, WAIT, change, pulled
from xdpguard.fleet.state import Message

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

    from xdpguard.policy.fleet import Fleet

_BATCH = 5000  # messages that are asked for at a time
_PART, _PARTS = 128 << 10, 32  # bytes of a part of an object, and parts that are asked for at a time
_AT_ONCE = 256  # keys that are published without waiting for each
_PING = 10  # seconds; a server that misses two is gone


class Unreachable(XdpguardError):
    """The fleet's server does not answer, or refuses this host."""


class Place(NamedTuple):
    """Where a bucket's stream is: ``stream`` differs for each stream that was ever made; ``last``: its last number."""

    stream: str
    last: int


class Connection:
    """An open connection; see `connected`."""

    def __init__(self, client: Client, refusals: list[str]) -> None:
        self._client = client
        self._refusals = refusals
        self._js: JetStreamContext = client.jetstream(timeout=WAIT)

    @property
    def server(self) -> str:
        """The name or address of the server it is connected to."""
        return (self._client.connected_url.hostname or "") if self._client.connected_url else ""

    async def publish(self, bucket: str, key: str, data: bytes | None) -> int:
        """Put a key, or delete it; return the number that the server gave the change."""
        headers = {"KV-Operation": "DEL"} if data is None else None
        subject = f"$KV.{bucket}.{key}"
        done = await self._permitted(self._js.publish(subject, data or b"", WAIT, headers=headers), subject, key)
        return int(done.seq)

    async def _permitted(self, work: Coroutine[Any, Any, Any], subject: str, what: str) -> Any:
        """Publish. Raise Unreachable as soon as the server refuses a subject that contains this."""
        before, sent = len(self._refusals), asyncio.ensure_future(work)
        while not sent.done():
            await asyncio.wait([sent], timeout=0.05)
            refused = (it.lower() for it in self._refusals[before:])  # the library gives the server's words so
            if any(subject.lower() in it for it in refused) and not sent.done():
                sent.cancel()
                raise Unreachable(
                    f"the fleet's server does not let this host publish {what}",
                    "a host publishes under its own name only; an operator's credentials may do more",
                )
        return await sent

    async def publish_all(self, bucket: str, rows: Mapping[str, bytes | None]) -> None:
        """Put or delete many keys."""
        waiting = list(rows.items())
        for start in range(0, len(waiting), _AT_ONCE):
            await asyncio.gather(*(self.publish(bucket, *it) for it in waiting[start : start + _AT_ONCE]))

    async def listen(self, heard: Callable[[Message], None]) -> None:
        """Call for each change of the bucket from now on."""

        async def took(message: Msg) -> None:
            headers = message.headers or {}
            deleted = headers.get("KV-Operation") in ("DEL", "PURGE")
            number = headers.get("Nats-Sequence", "")
            # A consumer could deliver there what its maker stored; only what it delivers can be answered.
            if number.isdigit() and not message.reply:
                data = None if deleted else message.data
                heard(Message(int(number), message.subject.removeprefix(f"{LIVE}."), data))

        await self._client.subscribe(f"{LIVE}.>", cb=took, pending_msgs_limit=-1, pending_bytes_limit=PENDING)
        await self._client.flush(round(WAIT))

    async def place(self, bucket: str = BUCKET) -> Place:
        """Return where the bucket is."""
        info = await self._js.stream_info(f"KV_{bucket}")
        made = info.created.astimezone(datetime.UTC).isoformat() if info.created else ""
        return Place(made, info.state.last_seq)

    async def read(self, bucket: str = BUCKET, keys: str = ">", after: int = 0) -> list[Message]:
        """Return the last change of each key, deletions as well; ``after``: only those with a greater number."""
        found = await self._stored(f"KV_{bucket}", f"$KV.{bucket}.{keys}", after)
        return [change(it, bucket) for it in found]

    async def put_list(self, name: str, data: bytes) -> str:
        """Put what a list holds into the object store, in place of what it held; return the object's name there."""
        store = await self._js.object_store(LISTS)
        done = await self._permitted(store.put(name, data), LISTS, "lists")
        return str(done.nuid)

    async def drop_list(self, name: str) -> None:
        """Delete what a list holds from the object store."""
        from nats.js.errors import NotFoundError

        with contextlib.suppress(NotFoundError):
            store = await self._js.object_store(LISTS)
            await self._permitted(store.delete(name), LISTS, "lists")

    async def fetch(self, name: str, size: int) -> bytes:
        """Return an object, or more than ``size`` bytes if it is larger. The store's parts have 128 KiB each."""
        parts = await self._stored(f"OBJ_{LISTS}", f"$O.{LISTS}.C.{name}", most=size // _PART + 2, batch=_PARTS)
        return b"".join(it.data for it in parts)

    async def _stored(
        self, stream: str, subject: str, after: int = 0, most: int | None = None, batch: int = _BATCH
    ) -> list[Msg]:
        """Return messages of a stream, ``most`` of them, with greater numbers than ``after``, a batch at a time."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
            opt_start_seq=after + 1 if after else None,
            filter_subject=subject,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=30.0,
            mem_storage=True,
        )
        info = await self._js.add_consumer(stream, config)
        try:
            count = min(info.num_pending or 0, info.num_pending or 0 if most is None else most)
            return await pulled(self._client, f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{info.name}", count, batch)
        finally:
            await self._js.delete_consumer(stream, info.name)

    async def make(self, replicas: int = 1) -> None:
        """Make the buckets that are missing, on so many servers of a cluster; each change of entries is republished."""
        from nats.js.api import KeyValueConfig, ObjectStoreConfig, RePublish
        from nats.js.errors import NotFoundError

        again = RePublish(src=f"$KV.{BUCKET}.>", dest=f"{LIVE}.>")
        for config in (
            KeyValueConfig(BUCKET, republish=again, max_value_size=8192, replicas=replicas),
            KeyValueConfig(HOSTS, max_value_size=65536, replicas=replicas),
        ):
            try:
                await self._js.stream_info(f"KV_{config.bucket}")
            except NotFoundError:
                await self._js.create_key_value(config)
        try:
            await self._js.stream_info(f"OBJ_{LISTS}")
        except NotFoundError:
            await self._js.create_object_store(LISTS, ObjectStoreConfig(replicas=replicas))


@asynccontextmanager
async def connected(
    settings: Fleet, on_lost: Callable[[], None] = lambda: None, wait: float = WAIT
) -> AsyncIterator[Connection]:
    """Connect to the first server that answers; ``on_lost`` is called when the connection is lost, and it stays so.

    Raise Unreachable if none answers, MissingError without the NATS library.
    """
    try:
        from nats.aio.client import Client as Made
    except ImportError as error:
        raise MissingError(
            "the NATS library for Python is missing", "install xdpguard with the extra fleet: xdpguard[fleet]"
        ) from error
    refusals: list[str] = []

    async def failed(error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            refusals.append(str(error))

    async def lost() -> None:
        on_lost()

    options: dict[str, Any] = {**login_options(settings.credentials), **tls_options(settings.server, settings.tls)}
    async with _explained(settings):
        client = Made()
        connecting = client.connect(
            list(settings.server),
            name=f"xdpguard {settings.name}",
            inbox_prefix=f"_INBOX_{settings.name}",
            error_cb=failed,
            closed_cb=lost,
            disconnected_cb=lost,
            allow_reconnect=False,
            connect_timeout=max(1, round(wait)),
            ping_interval=_PING,
            max_outstanding_pings=2,
            **options,
        )
        try:
            await asyncio.wait_for(connecting, wait)
            yield Connection(client, refusals)
        finally:
            await close(client)


async def close(client: Client) -> None:
    """Close a connection, also one that failed on its way, of which the library leaves the socket open."""
    transport: Any = client._transport
    with contextlib.suppress(TimeoutError):  # it waits for ever after a handshake of TLS that failed
        await asyncio.wait_for(client.close(), 1)
    if transport is not None:
        with contextlib.suppress(Exception, asyncio.CancelledError):  # the library itself cancels what is waited for
            transport.close()
            await asyncio.wait_for(transport.wait_closed(), 1)


@asynccontextmanager
async def _explained(settings: Fleet) -> AsyncIterator[None]:
    import nats.errors
    import nats.js.errors

    where = ", ".join(settings.server)
    remedy = "see that nats-server runs there with JetStream (-js), and that this host may use it"
    try:
        yield
    except nats.js.errors.NotFoundError as error:
        raise Unreachable(f"{where} holds no fleet's entries", "make them with: xdpguard fleet join") from error
    except (nats.errors.Error, OSError, TimeoutError) as error:
        text = str(error).removeprefix("nats: ") or "no answer in time"
        raise Unreachable(f"the fleet's server {where} cannot be used: {text}", remedy) from error


def run(settings: Fleet, work: Callable[[Connection], Awaitable[Any]]) -> Any:
    """Connect, do something, disconnect: for commands."""

    async def once() -> Any:
        async with connected(settings) as connection:
            return await work(connection)

    return asyncio.run(once())
