# SPDX-License-Identifier: GPL-2.0
"""One connection to the fleet's server: publish, read, listen. The only module that knows the NATS library."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from xdpguard.errors import MissingError
from xdpguard.fleet.closing import close
from xdpguard.fleet.credentials import login_options, tls_options
from xdpguard.fleet.failures import Unreachable, not_permitted
from xdpguard.fleet.keys import BUCKET, LIVE
from xdpguard.fleet.reading import BATCH, PENDING, Place, change, live, pulled
from xdpguard.fleet.state import Message
from xdpguard.fleet.streams import STREAMS

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

    from xdpguard.policy.fleet import Fleet

_WAIT = 5.0  # seconds for a connection
_ANSWER = 15.0  # seconds for an answer of the server, of which a thousand hosts may ask something at once
_AT_ONCE = 256  # keys that are published without waiting for each
_SOON = 2.0  # seconds for an answer that tells the server's time
_PING = 10  # seconds; a server that misses two is gone


class Connection:
    """See `connected`. ``js``: the library's; ``missing``, ``refused``: what it raises for what is not there, or not
    wanted by the server. ``clock``: by how many seconds this host's is ahead of the server's, as measured last.
    """

    def __init__(self, client: Client, refusals: list[str]) -> None:
        from nats.js.errors import APIError, NotFoundError

        self.missing, self.refused = NotFoundError, APIError
        self.clock: float | None = None
        self._client = client
        self._refusals = refusals
        self.js: JetStreamContext = client.jetstream(timeout=_ANSWER)

    @property
    def server(self) -> str:
        """The name or address of the server it is connected to."""
        return (self._client.connected_url.hostname or "") if self._client.connected_url else ""

    async def publish(self, bucket: str, key: str, data: bytes | None, before: int = 0) -> int:
        """Put a key, or delete it; return the number of the change. Raise Unreachable if it is refused.

        ``before``: the number that its last change must have.
        """
        headers = {"KV-Operation": "DEL"} if data is None else {}
        headers |= {"Nats-Expected-Last-Subject-Sequence": str(before)} if before else {}
        subject = f"$KV.{bucket}.{key}"
        try:
            done = await self.permitted(self.js.publish(subject, data or b"", _ANSWER, headers=headers), subject, key)
        except self.refused as error:
            said = f"the fleet's server does not store {key}: {error.description or error.code}"
            raise Unreachable(said, "see what room its JetStream has, and take entries back") from error
        return int(done.seq)

    async def permitted(self, work: Coroutine[Any, Any, Any], subject: str, what: str) -> Any:
        """Publish or ask. Raise Unreachable as soon as the server refuses a subject that contains this."""
        before, sent = len(self._refusals), asyncio.ensure_future(work)
        while not sent.done():
            await asyncio.wait([sent], timeout=0.05)
            refused = (it.lower() for it in self._refusals[before:])  # the library gives the server's words so
            if any(subject.lower() in it for it in refused) and not sent.done():
                sent.cancel()
                raise not_permitted(what)
        return await sent

    async def publish_all(self, bucket: str, rows: Mapping[str, bytes | None]) -> None:
        """Put or delete many keys."""
        for start in range(0, len(rows), _AT_ONCE):
            await asyncio.gather(*(self.publish(bucket, *it) for it in islice(rows.items(), start, start + _AT_ONCE)))

    async def listen(self, heard: Callable[[Message], None]) -> None:
        """Call for each change of the bucket from now on."""

        async def took(message: Msg) -> None:
            if found := live(message):
                heard(found)

        await self._client.subscribe(f"{LIVE}.>", cb=took, pending_msgs_limit=-1, pending_bytes_limit=PENDING)
        await self._client.flush(round(_ANSWER))

    async def place(self, bucket: str = BUCKET) -> Place:
        """Return where the bucket is."""
        its = await self.js.stream_info(f"KV_{bucket}")
        made = its.created.astimezone(datetime.UTC).isoformat() if its.created else ""
        return Place(made, its.state.last_seq, bool(its.config.deny_delete))

    async def read(self, bucket: str = BUCKET, keys: str = ">", after: int = 0) -> list[Message]:
        """Return the last change of each key, deletions as well; ``after``: only those with a greater number.

        Raise TimeoutError if messages go all the time while it reads: it must have as many as the server says.
        """
        return [change(it, bucket) for it in await self.stored(f"KV_{bucket}", f"$KV.{bucket}.{keys}", after)]

    async def stored(
        self, stream: str, subject: str, after: int = 0, most: int = sys.maxsize, batch: int = BATCH
    ) -> list[Msg]:
        """Return messages of a stream, ``most`` of them, as the library has them; the rest as of `read`."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
            opt_start_seq=after + 1 if after else None,
            filter_subject=subject,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=30.0,
            mem_storage=True,
        )
        for _ in range(3):
            began = time.time()
            info = await self.js.add_consumer(stream, config)
            if time.time() - began < _SOON:
                self.clock = (began + time.time()) / 2 - info.created.timestamp()
            asked = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{info.name}"
            count = min(info.num_pending or 0, most)
            try:
                found = await pulled(self._client, asked, count, batch)
            finally:
                await self.js.delete_consumer(stream, info.name)
            if len(found) >= count:
                return found
        raise TimeoutError

    async def value(self, bucket: str, key: str, newest: bool = True) -> bytes | None:
        """Return a key's value; None if there is none, no such bucket, or no permission to read it.

        ``newest``: as the leader of a cluster has it; else as any server has it, which is faster.
        """
        asked = self.js.get_msg(f"KV_{bucket}", subject=f"$KV.{bucket}.{key}", direct=not newest)
        with contextlib.suppress(self.missing, Unreachable):
            return bytes((await self.permitted(asked, f".GET.KV_{bucket}", key)).data or b"")
        return None

    async def forget(self, sequence: int) -> None:
        """Remove one message of the entries' bucket. A purge makes nats-server 2.9 skip messages for who is reading."""
        with contextlib.suppress(self.refused):
            await self.js.delete_msg(f"KV_{BUCKET}", sequence)

    async def make(self, replicas: int = 1) -> None:
        """Make the buckets that are missing, on so many servers of a cluster; each change of entries is republished."""
        from nats.js.api import DiscardPolicy, RePublish

        for its in STREAMS:
            try:
                await self.js.stream_info(its.name)
            except self.missing:
                await self.js.add_stream(
                    name=its.name,
                    subjects=list(its.subjects),
                    max_msgs_per_subject=its.each,
                    max_msg_size=its.largest,
                    discard=DiscardPolicy.NEW,
                    num_replicas=replicas,
                    allow_rollup_hdrs=True,
                    allow_direct=its.direct,
                    republish=RePublish(src=its.subjects[0], dest=f"{LIVE}.>") if its.live else None,
                )


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
            await close(client)


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
