# SPDX-License-Identifier: GPL-2.0
"""The snapshot of all entries on a real server: hosts join by it, false ones are refused; old deletions are removed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.nats import Nats
from support.traffic import eventually

from xdpguard.fleet import snapshot
from xdpguard.fleet.client import Connection
from xdpguard.fleet.keeper import Keeper
from xdpguard.fleet.keys import BUCKET, SNAPSHOT
from xdpguard.fleet.link import Link
from xdpguard.fleet.message import Value, encode
from xdpguard.fleet.state import Message, State
from xdpguard.policy.fleet import Fleet


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path) as made:
        made.ask(lambda it: it.make())
        yield made


def key(number: int, host: str = "web9") -> str:
    return f"{host}.block.4-{(0x0A000000 + number):08x}-32"


def put(engine: Nats, *numbers: int, delete: bool = False, host: str = "web9") -> None:
    now = time.time()
    rows: dict[str, bytes | None] = {}
    for it in numbers:
        target = f"10.{it >> 16}.{it >> 8 & 255}.{it & 255}"
        rows[key(it, host)] = None if delete else encode(Value(1, "block", target, now, now + 3600))
    engine.ask(lambda its: its.publish_all(BUCKET, rows))


def keep(engine: Nats, keeper: Keeper) -> snapshot.Head:
    """Lets a keeper look; returns the snapshot there is then."""

    async def work(connection: Connection) -> snapshot.Head | None:
        await keeper.look(connection)
        return await snapshot.head(connection)

    found = engine.ask(work)
    assert isinstance(found, snapshot.Head)
    return found


class Joined(list[str]):
    """Keys that a host joins with; ``refused``: what it said of the snapshot, ``read``: how many it read one by one."""

    def __init__(self, engine: Nats) -> None:
        self.refused: list[str] = []
        self.read = 0

        async def work(connection: Connection) -> list[Message]:
            original = connection.read

            async def counted(*arguments: Any, **options: Any) -> list[Message]:
                found = await original(*arguments, **options)
                self.read += len(found)
                return found

            connection.read = counted  # type: ignore[method-assign]
            return await snapshot.read_all(connection, await connection.place(), self.refused.append)

        state = State("web9")
        state.become(engine.ask(work))
        self.digest = state.digest
        super().__init__(sorted(str(it.key) for it in state.own.values()))


def bucket(engine: Nats) -> list[Message]:
    found: list[Message] = engine.ask(lambda it: it.read())
    return found


def test_a_host_joins_by_the_snapshot_and_what_changed_since(engine: Nats) -> None:
    put(engine, *range(1, 601))
    without = Joined(engine)
    assert (len(without), without.read) == (600, 600)
    head = keep(engine, Keeper())
    assert head.last == 600
    one = Joined(engine)
    assert (one, one.read, one.refused) == (without, 0, [])
    assert one.digest == without.digest
    put(engine, 1, 2, delete=True)
    put(engine, 3, 601)
    two = Joined(engine)
    assert (two.read, two.refused) == (4, [])
    assert two == [key(it) for it in range(3, 602)]


def test_it_is_made_again_when_much_has_changed(engine: Nats) -> None:
    keeper = Keeper()
    put(engine, 1)
    first = keep(engine, keeper)
    assert first.last == 1
    put(engine, 2)
    assert keep(engine, keeper) == first, "for one change it is not worth it"
    put(engine, *range(3, 600))
    second = keep(engine, keeper)
    assert (second.last, second.folder == first.folder) == (599, False)
    assert keep(engine, Keeper()) == second, "another keeper finds it done"
    assert Joined(engine) == [key(it) for it in range(1, 600)]


def forge(engine: Nats, rows: list[Message], change: dict[str, object], place: tuple[str, int] | None = None) -> None:
    """Publishes a snapshot as whoever may."""

    async def work(connection: Connection) -> None:
        its = await connection.place()
        if place is not None:
            its = its._replace(stream=place[0], last=place[1])
        await snapshot.publish(connection, its, rows, 0)
        head = await snapshot.head(connection)
        assert head is not None
        await connection.publish(SNAPSHOT, "head", msgspec.json.encode(msgspec.structs.replace(head, **change)))

    engine.ask(work)


@pytest.mark.parametrize(
    ("change", "why"),
    [({"digest": "0" * 64}, "another digest"), ({"parts": 0}, "0 parts"), ({"parts": 1 << 20}, "1,048,576 parts"),
     ({"last": 1 << 40}, "later state")],
)  # fmt: skip
def test_what_is_false_is_refused_and_all_is_read(engine: Nats, change: dict[str, object], why: str) -> None:
    put(engine, 1, 2, 3)
    false = Message(1, key(7), b"{}")
    forge(engine, [false], {})
    assert Joined(engine) == [], "what is to be refused is read otherwise"
    forge(engine, [false], change)
    found = Joined(engine)
    assert found == [key(it) for it in (1, 2, 3)]
    assert why in found.refused[0]


@pytest.mark.parametrize("data", [b"", b"x", b"{}", b'{"v":2}', b"[" * 10_000])
def test_no_head_is_no_snapshot(engine: Nats, data: bytes) -> None:
    put(engine, 1)
    engine.ask(lambda it: it.publish(SNAPSHOT, "head", data))
    found = Joined(engine)
    assert (found, found.refused) == ([key(1)], [])


def test_another_stream_s_snapshot_is_none(engine: Nats) -> None:
    put(engine, 1)
    forge(engine, [Message(1, key(7), b"{}")], {}, ("2020-01-01", 1))
    assert Joined(engine) == [key(1)]


@pytest.mark.parametrize("data", [b"", b"x", b"\x78\x9c\x03\x00\x00\x00\x00\x01"])
def test_what_cannot_be_unpacked(data: bytes) -> None:
    with pytest.raises(snapshot.RefusedError):
        snapshot.unpacked(data)


class Deaf(Link):
    """A host that may miss what comes."""

    deaf = False

    def _heard(self, message: Message) -> None:
        if not self.deaf:
            super()._heard(message)


def test_old_deletions_are_removed_and_who_was_away_reads_all(engine: Nats) -> None:
    put(engine, *range(1, 6))
    host = Deaf(Fleet((engine.url,), "web1"))
    state, whole = State(), 0

    def knows(count: int) -> bool:
        nonlocal whole
        for batch in host.taken():
            whole += bool(batch.stream)
            (state.become if batch.stream else state.take)(batch.messages)
        return host.connected and len(state) == count

    try:
        assert eventually(lambda: knows(5))
        host.deaf = True
        put(engine, 1, 2, delete=True)
        assert keep(engine, Keeper(old=3600)).purged == 0, "not old yet"
        put(engine, 3, delete=True)
        keeper = Keeper(old=0)
        keeper._made_at = time.monotonic()
        put(engine, *range(100, 600))
        head = keep(engine, keeper)
        assert (head.purged, head.last) == (8, 508)
        assert [it.key for it in bucket(engine) if it.data is None] == []
        put(engine, 1)
        assert [it.sequence for it in bucket(engine) if it.key == key(1)] == [509], "a key may come again"
        assert whole == 1
        host.deaf = False
        host._missing = True
        host._poke()
        assert eventually(lambda: knows(503))
        assert whole == 2, "deletions were missing"
        assert state.digest == Joined(engine).digest
    finally:
        host.close()


def test_what_ended_long_ago_is_cleared_away(engine: Nats) -> None:
    """A host that is gone takes nothing back; what was published again meanwhile stays."""
    put(engine, 1, 2)
    now = time.time()

    def give(number: int, end: float | None) -> None:
        value = encode(Value(1, "block", f"10.0.0.{number}", now, end))
        engine.ask(lambda it: it.publish(BUCKET, key(number), value))

    for number, end in ((3, now - 8000), (4, now - 8000), (5, now - 3000), (6, None)):
        give(number, end)
    engine.ask(lambda it: it.publish(BUCKET, key(7), b"{"))

    class Late(Keeper):
        async def _follow(self, *arguments: Any) -> None:
            await super()._follow(*arguments)
            again = encode(Value(1, "block", "10.0.0.4", now, now + 3600))
            await arguments[0].publish(BUCKET, key(4), again)

    keep(engine, Late())
    assert [it.key for it in bucket(engine) if it.data is None] == [key(3)]
    assert len(bucket(engine)) == 7


def test_a_bucket_that_keeps_all_has_no_deletions_missing(engine: Nats) -> None:
    """One that `nats kv add` made denies to remove messages: who was away needs not read all of it again."""

    async def deny(connection: Connection) -> None:
        its = (await connection.js.stream_info(f"KV_{BUCKET}")).config
        await connection.js.delete_stream(f"KV_{BUCKET}")
        its.deny_delete = True
        await connection.js.add_stream(its)

    engine.ask(deny)
    put(engine, *range(1, 6))
    put(engine, 1, delete=True)
    assert keep(engine, Keeper(old=0)).purged == 0
    assert [it.key for it in bucket(engine) if it.data is None] == [key(1)]


def test_what_was_removed_from_a_lost_stream_is_not_missing_in_the_next(engine: Nats) -> None:
    put(engine, *range(1, 6))
    put(engine, 1, delete=True)
    assert keep(engine, Keeper(old=0)).purged == 6, "positive control"

    async def purged(connection: Connection) -> int:
        return await snapshot.purged(connection, await connection.place())

    assert engine.ask(purged) == 6
    engine.ask(lambda it: it.js.delete_stream(f"KV_{BUCKET}"))
    engine.ask(lambda it: it.make())
    put(engine, 1)
    assert engine.ask(purged) == 0


def test_a_host_that_is_to_keep_it_does(engine: Nats) -> None:
    put(engine, *range(1, 11))
    keeper = Link(Fleet((engine.url,), "operator", keeper=True))
    try:
        assert eventually(lambda: engine.ask(snapshot.head) is not None)
    finally:
        keeper.close()
    found = Joined(engine)
    assert (len(found), found.read) == (10, 0)


def test_reading_ends_where_messages_are_removed_meanwhile(engine: Nats) -> None:
    """The server said how many there are; it is not waited for those that are gone."""
    put(engine, *range(1, 11))
    put(engine, *range(1, 6), delete=True)

    async def work(connection: Connection) -> int:
        original = connection._client.publish
        purged = False

        async def publish(subject: str, *arguments: Any, **options: Any) -> None:
            nonlocal purged
            if ".MSG.NEXT." in subject and not purged:
                purged = True
                for number in range(11, 16):
                    await connection.forget(number)
            await original(subject, *arguments, **options)

        connection._client.publish = publish  # type: ignore[method-assign]
        return len(await asyncio.wait_for(connection.read(), 4))

    assert engine.ask(work) == 5
