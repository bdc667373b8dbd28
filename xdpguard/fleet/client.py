# SPDX-License-Identifier: GPL-2.0
"""One connection to the fleet's server: publish, read, listen. The only module that knows the NATS library."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from xdpguard.errors import MissingError, XdpguardError
from xdpguard.fleet.credentials import login_options, tls_options
from xdpguard.fleet.keys import BUCKET, HOSTS, LIVE
from xdpguard.fleet.state import Message

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

    from xdpguard.policy.fleet import Fleet

_WAIT = 5.0  # seconds for an answer of the server
_BATCH = 5000  # messages that are asked for at a time
_AT_ONCE = 256  # keys that are published without waiting for each
_PING = 10  # seconds; a server that misses two is gone
_PENDING = 512 << 20  # bytes of messages that may wait here to be looked at


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
        self._js: JetStreamContext = client.jetstream(timeout=_WAIT)

    @property
    def server(self) -> str:
        """The name or address of the server it is connected to."""
        return (self._client.connected_url.hostname or "") if self._client.connected_url else ""

    async def publish(self, bucket: str, key: str, data: bytes | None) -> int:
        """Put a key, or delete it; return the number that the server gave the change."""
        before = len(self._refusals)
        headers = {"KV-Operation": "DEL"} if data is None else None
        sent = asyncio.ensure_future(self._js.publish(f"$KV.{bucket}.{key}", data or b"", _WAIT, headers=headers))
        while not sent.done():
            await asyncio.wait([sent], timeout=0.05)
            subject = f"$KV.{bucket}.{key}".lower()  # as the library gives the server's words
            if any(subject in it.lower() for it in self._refusals[before:]) and not sent.done():
                sent.cancel()
                raise Unreachable(
                    f"the fleet's server does not let this host publish {key}",
                    "a host publishes under its own name only; an operator's credentials may do more",
                )
        return (await sent).seq

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
            if number.isdigit():
                data = None if deleted else message.data
                heard(Message(int(number), message.subject.removeprefix(f"{LIVE}."), data))

        await self._client.subscribe(f"{LIVE}.>", cb=took, pending_msgs_limit=-1, pending_bytes_limit=_PENDING)
        await self._client.flush(round(_WAIT))

    async def place(self, bucket: str = BUCKET) -> Place:
        """Return where the bucket is."""
        info = await self._js.stream_info(f"KV_{bucket}")
        made = info.created.astimezone(datetime.UTC).isoformat() if info.created else ""
        return Place(made, info.state.last_seq)

    async def read(self, bucket: str = BUCKET, keys: str = ">", after: int = 0) -> list[Message]:
        """Return the last change of each key, deletions as well; ``after``: only those with a greater number."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        stream = f"KV_{bucket}"
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.LAST_PER_SUBJECT,
            opt_start_seq=after + 1 if after else None,
            filter_subject=f"$KV.{bucket}.{keys}",
            ack_policy=AckPolicy.NONE,
            inactive_threshold=30.0,
            mem_storage=True,
        )
        info = await self._js.add_consumer(stream, config)
        try:
            return await self._pulled(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{info.name}", bucket, info.num_pending or 0)
        finally:
            await self._js.delete_consumer(stream, info.name)

    async def _pulled(self, asked: str, bucket: str, count: int) -> list[Message]:
        """Ask for so many messages, a batch at a time: some ten times faster than the library's own fetch."""
        found: list[Message] = []
        came = asyncio.Event()

        async def took(message: Msg) -> None:
            if not (message.headers or {}).get("Status"):  # else the server says that there is no more
                found.append(_stored(message, bucket))
            came.set()

        inbox = self._client.new_inbox()
        source = await self._client.subscribe(inbox, cb=took, pending_msgs_limit=-1, pending_bytes_limit=_PENDING)
        goal = 0
        while len(found) < count:
            came.clear()  # before asking: what comes while it asks is not to be waited for
            if len(found) >= goal:
                goal = min(count, len(found) + _BATCH)
                await self._client.publish(asked, b'{"batch":%d}' % (goal - len(found)), reply=inbox)
            await asyncio.wait_for(came.wait(), _WAIT)
        await source.unsubscribe()
        return found

    async def make(self) -> None:
        """Make the buckets that are missing; each change of the fleet's entries is published again as it comes."""
        from nats.js.api import KeyValueConfig, RePublish
        from nats.js.errors import NotFoundError

        wanted = (
            KeyValueConfig(BUCKET, republish=RePublish(src=f"$KV.{BUCKET}.>", dest=f"{LIVE}.>"), max_value_size=8192),
            KeyValueConfig(HOSTS, max_value_size=65536),
        )
        for config in wanted:
            try:
                await self._js.stream_info(f"KV_{config.bucket}")
            except NotFoundError:
                await self._js.create_key_value(config)


@asynccontextmanager
async def connected(
    settings: Fleet, on_lost: Callable[[], None] = lambda: None, wait: float = _WAIT
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
            await _close(client)


async def _close(client: Client) -> None:
    """Close a connection, also one that failed on its way, of which the library leaves the socket open."""
    transport: Any = client._transport
    await client.close()
    if transport is not None:
        with contextlib.suppress(Exception):
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


def _stored(message: Msg, bucket: str) -> Message:
    """Convert a message of a stream, whose number is in its subject for an answer.

    That is $JS.ACK.STREAM.CONSUMER.N.NUMBER..., in newer servers with a domain and an account before the stream.
    """
    headers = message.headers or {}
    deleted = headers.get("KV-Operation") in ("DEL", "PURGE")
    parts = message.reply.split(".")
    number = int(parts[5 if len(parts) == 9 else 7])
    return Message(number, message.subject.removeprefix(f"$KV.{bucket}."), None if deleted else message.data)
