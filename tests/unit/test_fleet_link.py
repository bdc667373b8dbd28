# SPDX-License-Identifier: GPL-2.0
"""The connection to a real server: snapshots, gaps, reconnects. The bucket is what the host ends up with."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from operator import methodcaller
from pathlib import Path
from types import SimpleNamespace

import pytest
from scenarios.fleet_proxy import Proxy
from support.nats import Nats
from support.traffic import eventually

from xdpguard.errors import UsageError, XdpguardError
from xdpguard.fleet import client
from xdpguard.fleet.batch import Sending
from xdpguard.fleet.client import Connection, run
from xdpguard.fleet.clock import Clock
from xdpguard.fleet.failures import Unreachable
from xdpguard.fleet.keys import BUCKET, SETTLED
from xdpguard.fleet.link import Link
from xdpguard.fleet.state import State
from xdpguard.policy.fleet import Fleet, FleetTls, check_server, fleet_faults


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path) as made:
        made.ask(lambda it: it.make())
        yield made


class Listener:
    """A host without a data plane."""

    def __init__(self, url: str, name: str = "web1") -> None:
        self.link = Link(Fleet((url,), name))
        self.state = State()
        self.whole = 0
        self.failed: list[str] = []
        self.warnings: list[str] = []
        self.sent: list[Sending] = []

    def knows(self, count: int) -> bool:
        for batch in self.link.taken():
            if batch.stream:
                self.whole += 1
                self.state.become(batch.messages)
            else:
                self.state.take(batch.messages)
            self.sent += batch.sent
            self.failed += [batch.failed] * bool(batch.failed)
            self.warnings += [batch.warning] * bool(batch.warning)
        return self.link.connected and len(self.state) == count


@pytest.fixture
def host(engine: Nats) -> Iterator[Listener]:
    made = Listener(engine.url)
    assert eventually(lambda: made.knows(0))
    yield made
    made.link.close()


def block(number: int) -> tuple[str, bytes]:
    target = f"203.0.113.{number}"
    data = {"v": 1, "kind": "block", "target": target, "made": time.time()}
    return f"web9.block.4-cb0071{number:02x}-32", json.dumps(data).encode()


def put(*numbers: int, delete: bool = False) -> Callable[[Connection], Awaitable[None]]:
    async def work(connection: Connection) -> None:
        for number in numbers:
            key, data = block(number)
            await connection.publish(BUCKET, key, None if delete else data)

    return work


def test_what_is_published_is_heard(engine: Nats, host: Listener) -> None:
    engine.ask(put(1, 2, 3))
    assert eventually(lambda: host.knows(3))
    engine.ask(put(2, delete=True))
    assert eventually(lambda: host.knows(2))
    assert (host.link.gaps, host.whole) == (0, 1)
    other = Listener(engine.url, "web2")
    try:
        assert eventually(lambda: other.knows(2)), "a snapshot has no deletions"
        assert other.state.digest == host.state.digest
    finally:
        other.link.close()


def test_what_was_to_be_published_before_a_connection_is_forgotten(engine: Nats) -> None:
    """An outbox repeats what still holds; a server that comes back empty must not get what has ended since."""
    engine.kill()
    late = Listener(engine.url)
    try:
        late.link.publish([Sending(BUCKET, *block(1))])
        engine.start()
        assert eventually(lambda: late.knows(0), 30)
        for data in (b"{}", block(2)[1]):
            late.link.publish([Sending(BUCKET, block(2)[0], data)])
        assert eventually(lambda: late.knows(1), 30), "positive control"
        assert [it.key for it in engine.ask(lambda it: it.read())] == [block(2)[0]]
    finally:
        late.link.close()


def test_a_missing_message_is_fetched(engine: Nats, host: Listener) -> None:
    """The number that is not the next tells, and at the end the number of the stream."""
    host.link.close()
    host.link = Link(Fleet((engine.url,), "web1"))
    original = host.link._heard

    def losing(message: object) -> None:
        if b"203.0.113.2" not in (getattr(message, "data", b"") or b""):
            original(message)  # type: ignore[arg-type]

    host.link._heard = losing  # type: ignore[method-assign]
    host.link.again()
    engine.ask(put(1))
    assert eventually(lambda: host.knows(1))
    engine.ask(put(2, 3))
    assert eventually(lambda: host.knows(3)), "fetched because of 3"


def test_out_of_order_and_twice(engine: Nats) -> None:
    """What was deleted does not come back with the message that had put it."""
    proxy = Proxy(engine.port, 1)
    host = Listener(f"nats://127.0.0.1:{proxy.port}")
    try:
        assert eventually(lambda: host.knows(0))
        proxy.delay = 1.0
        engine.ask(put(1))
        engine.ask(put(1, delete=True))
        proxy.delay, proxy.double = 0.0, 1.0
        engine.ask(put(2))
        assert eventually(lambda: host.knows(1))
        engine.ask(put(3))
        assert eventually(lambda: host.link.gaps == 1 and host.knows(2)), list(host.state.all_wanted())
    finally:
        host.link.close()
        proxy.close()


def test_after_the_server_was_away_only_what_is_new_is_read(engine: Nats, host: Listener) -> None:
    engine.ask(put(1, 2))
    assert eventually(lambda: host.knows(2))
    engine.kill()
    assert eventually(lambda: not host.link.connected)
    engine.start()
    engine.ask(put(3))
    engine.ask(put(1, delete=True))
    assert eventually(lambda: host.knows(2))
    assert eventually(lambda: "203.0.113.1" not in {str(getattr(it, "target", "")) for it in host.state.all_wanted()})
    assert host.whole == 1
    host.knows(2)
    assert any("was lost" in it for it in host.failed)


def test_a_stream_made_anew_is_read_as_a_whole(engine: Nats, host: Listener) -> None:
    engine.ask(put(1, 2))
    assert eventually(lambda: host.knows(2))
    engine.kill()
    engine.start(empty=True)
    engine.ask(lambda it: it.make())
    engine.ask(put(3, 4, 5))
    assert eventually(lambda: host.knows(3), 60)
    assert host.whole == 2


def test_what_a_host_publishes_is_confirmed(host: Listener) -> None:
    key, data = block(7)
    host.link.publish([Sending(BUCKET, key, data)])
    assert eventually(lambda: host.knows(1) and bool(host.sent))
    assert host.sent == [Sending(BUCKET, key, data)]


def test_a_bucket_that_is_full_does_not_cut_a_host_off(engine: Nats, host: Listener) -> None:
    """Who fills it must not keep the others from hearing what goes."""
    other = Listener(engine.url, "web2")
    assert eventually(lambda: other.knows(0))
    try:
        key, data = block(1)
        other.link.publish([Sending(BUCKET, "web2.block.4-c0000201-32", b" " * 9000)])
        assert eventually(lambda: other.knows(0) and bool(other.warnings))
        assert "does not store web2.block.4-c0000201-32: message size exceeds" in other.warnings[0]
        engine.ask(lambda it: it.publish(BUCKET, key, data))
        assert eventually(lambda: host.knows(1)), "positive control"
        assert eventually(lambda: other.knows(1))
        assert (other.failed, other.whole) == ([], 1), "it stays connected"
    finally:
        other.link.close()


def shifted(ahead: float) -> float:
    return time.time() + ahead


def test_a_wrong_clock_is_said(engine: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    """By which the ends of entries are judged; the server's time comes with each reading."""
    for ahead, said in ((-300.0, "5m behind the fleet's server's: entries end that much later"), (0.0, "")):
        monkeypatch.setattr(client, "time", SimpleNamespace(time=partial(shifted, ahead)))
        host = Listener(engine.url)
        try:
            assert eventually(partial(host.knows, 0))
            assert abs(host.link.clock.ahead - ahead) <= 1
            assert said in "".join(host.warnings)
        finally:
            host.link.close()


def test_what_is_said_of_a_clock() -> None:
    its = Clock()
    assert its.due
    assert its.take(None) == ""
    assert its.due
    assert (its.take(1.9), its.take(-1.9), its.ahead, its.due) == ("", "", 0, False)
    assert "1h ahead of the fleet's server's: entries end that much sooner here" in its.take(3600.2)
    assert (its.take(3601.2), its.ahead) == ("", 3600), "not said again for the way to the server"
    assert "1m behind" in its.take(-60.0)
    assert "right again" in its.take(0.1)
    assert its.ahead == 0


def test_who_cannot_be_reached_or_refuses(engine: Nats, tmp_path: Path) -> None:
    engine.kill()
    with pytest.raises(Unreachable, match="cannot be used"):
        engine.ask(put(1))
    broken = tmp_path / "login"
    broken.touch(0o600)
    broken.write_text("user = 1")
    with pytest.raises(UsageError, match="not a credentials file"):
        run(Fleet((engine.url,), "x", str(broken)), put(1))
    with pytest.raises(XdpguardError, match="cannot be read"):
        run(Fleet((engine.url,), "x", str(tmp_path / "nothing")), put(1))


def test_a_host_without_permission_is_told(tmp_path: Path) -> None:
    login = tmp_path / "login"
    login.touch(0o600)
    login.write_text('user = "web1"\npassword = "secret"\n')
    permitted = '{publish: {allow: ["$KV.xdpguard.web1.>", "$JS.API.>"]}, subscribe: {allow: ["_INBOX_web1.>"]}}'
    accounts = (
        "accounts { A { jetstream: enabled, users: [{user: web1, password: secret, permissions: "
        f"{permitted}" + "}, {user: op, password: secret}] } }"
    )
    with Nats(tmp_path, accounts) as engine:
        its = Fleet((engine.url,), "web1", str(login))
        with pytest.raises(Unreachable, match="Authorization"):
            engine.ask(put(1))
        run(its, lambda it: it.make())
        with pytest.raises(Unreachable, match=r"does not let this host publish web9\.block"):
            run(its, put(1))
        for name in (SETTLED, "operator.list.bad"):
            with pytest.raises(Unreachable, match="takes the operator's credentials") as refused:
                run(its, methodcaller("publish", BUCKET, name, b"x"))
            assert "operator." not in str(refused.value), "what only xdpguard knows"
            assert "--credentials FILE: the operator.toml that xdpguard fleet setup wrote" in refused.value.remedy
        key, data = block(1)
        run(its, lambda it: it.publish(BUCKET, key.replace("web9", "web1"), data))


@pytest.mark.parametrize("url", ["nats.example", "http://x", "nats://", "nats://u:p@x", "nats://x y", "nats://x:99999"])
def test_what_is_no_server(url: str) -> None:
    with pytest.raises(UsageError):
        check_server(url)


def test_what_is_wrong_in_the_configuration() -> None:
    assert list(fleet_faults(Fleet(("nats://x:1", "tls://[::1]:4"), "web_1-x"))) == []
    wrong = Fleet(("x",), "a b", tls=FleetTls(cert="x"), clock_skew="2h")
    assert [name for name, _ in fleet_faults(wrong)] == ["server", "name", "tls.cert", "clock_skew"]
