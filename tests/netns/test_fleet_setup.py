# SPDX-License-Identifier: GPL-2.0
"""`fleet setup` and `fleet init`: what their files let whom do, on a real nats-server, and on a cluster of three."""

from __future__ import annotations

import asyncio
import json
import re
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from support.command import Command
from support.engine import Engine, Mallory, acting
from support.nats import free_port
from support.traffic import eventually

from xdpguard.fleet import client, objects, snapshot
from xdpguard.fleet.failures import Unreachable
from xdpguard.fleet.keeper import Keeper
from xdpguard.fleet.message import FleetList, decode
from xdpguard.policy.fleet import Fleet, FleetTls

KEY = "block.4-c6336407-32"


class Site:
    """A fleet that was set up, with its server."""

    def __init__(self, command: Command, folder: Path, *options: str) -> None:
        self.command = command
        self.folder = folder
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"nats://{self.address}"
        self.said = command("fleet", "setup", str(folder), "--listen", self.address, "--host", "web1", *options)
        assert self.said.code == 0, self.said
        self.operator = folder / "operator.toml"

    def host(self, name: str) -> Path:
        return self.folder / "hosts" / f"{name}.toml"

    def act(self, who: str, work: Any) -> Any:
        return acting(self.url, self.operator if who == "operator" else self.host(who), work)


@pytest.fixture
def site(command: Command, tmp_path: Path) -> Iterator[Site]:
    made = Site(command, tmp_path / "fleet", "--host", "web2")
    with Engine(made.folder / "nats-server.conf"):
        command.ok("fleet", "init", made.url, "--credentials", str(made.operator))
        yield made


def test_only_the_owner_reads_the_files(site: Site) -> None:
    for path in site.folder.rglob("*"):
        if "data" not in path.relative_to(site.folder).parts:
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert site.host("web1").read_text() != site.host("web2").read_text()


def test_nobody_else_gets_in(site: Site) -> None:
    async def nothing(_: Mallory) -> bool:
        return True

    assert site.act("web1", nothing)
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        acting(site.url, None, nothing)
    wrong = site.folder / "wrong.toml"
    wrong.write_text('user = "web1"\npassword = "guess"\n')
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        acting(site.url, wrong, nothing)
    wrong.write_text('user = "sys"\npassword = ""\n')
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        acting(site.url, wrong, nothing)


def test_a_host_publishes_under_its_own_name_only(site: Site) -> None:
    async def tries(its: Mallory) -> dict[str, bool]:
        subjects = (
            f"$KV.xdpguard.web1.{KEY}",
            "$KV.xdpguard-hosts.web1",
            f"$KV.xdpguard.web2.{KEY}",
            f"$KV.xdpguard.operator.{KEY}",
            "$KV.xdpguard-hosts.web2",
            "$KV.xdpguard-snapshot.head",
            "$KV.xdpguard-snapshot.web1",
            f"xdpguard.live.web2.{KEY}",
            "$KV.xdpguard.operator.list.bad",
            "$O.xdpguard-lists.C.anything",
            "$O.xdpguard-lists.M.YmFk",
        )
        return {it: await its.may(it, b"{}") for it in subjects}

    found = site.act("web1", tries)
    assert [subject for subject, may in found.items() if may] == [f"$KV.xdpguard.web1.{KEY}", "$KV.xdpguard-hosts.web1"]


def test_a_host_cannot_change_the_streams(site: Site) -> None:
    subjects = (
        "$JS.API.STREAM.PURGE.KV_xdpguard",
        "$JS.API.STREAM.DELETE.KV_xdpguard",
        "$JS.API.STREAM.UPDATE.KV_xdpguard",
        "$JS.API.STREAM.MSG.DELETE.KV_xdpguard",
        "$JS.API.STREAM.SNAPSHOT.KV_xdpguard",
        "$JS.API.STREAM.CREATE.mine",
        "$JS.API.STREAM.PURGE.KV_xdpguard-snapshot",
        "$JS.API.STREAM.DELETE.KV_xdpguard-snapshot",
        "$JS.API.CONSUMER.DURABLE.CREATE.KV_xdpguard.mine",
        "$JS.API.ACCOUNT.PURGE.XDPGUARD",
        "$JS.API.STREAM.PURGE.OBJ_xdpguard-lists",
        "$JS.API.STREAM.DELETE.OBJ_xdpguard-lists",
        "$JS.API.STREAM.MSG.DELETE.OBJ_xdpguard-lists",
    )

    async def tries(its: Mallory) -> list[str]:
        assert await its.may("$JS.API.STREAM.INFO.KV_xdpguard"), "what reading takes is permitted"
        return [it for it in subjects if await its.may(it)]

    assert site.act("web1", tries) == []

    async def purges(its: Mallory) -> bool:
        assert await its.may(f"$KV.xdpguard.web1.{KEY}", b"{}")
        assert await its.may(f"$KV.xdpguard.anybody.{KEY}", b"{}")
        assert await its.may("$JS.API.STREAM.PURGE.KV_xdpguard")
        return await its.may("$JS.API.STREAM.DELETE.KV_xdpguard")

    assert site.act("operator", purges), "an operator may do all that"


def test_a_host_hears_the_fleet_and_nobody_s_answers(site: Site) -> None:
    others = ["_INBOX_web2.>", "_INBOX.>", ">", "$JS.API.>", "$KV.xdpguard.>"]

    async def listens(its: Mallory) -> list[str]:
        for subject in (*others, "xdpguard.live.>"):
            await its.client.subscribe(subject)
        await its.client.flush()
        await its.client.request("$JS.API.STREAM.INFO.KV_xdpguard", b"", timeout=5)
        return [it for it in others if any(f'"{it.lower()}"' in said for said in its.refused)]

    assert site.act("web1", listens) == others


def test_a_consumer_delivers_nothing_to_other_subjects(site: Site) -> None:
    """A server delivers on its own behalf: what a host stored must not come as another's word that way."""
    forged = f"xdpguard.live.web2.{KEY}"

    async def tries(its: Mallory) -> list[tuple[str, str]]:
        heard: list[tuple[str, str]] = []
        delivered = asyncio.Event()

        async def took(message: Any) -> None:
            heard.append((message.subject, message.reply))

        async def control(_: Any) -> None:
            delivered.set()

        await its.client.subscribe("xdpguard.live.>", cb=took)
        await its.client.subscribe("_INBOX_web1.control", cb=control)
        await its.js.publish("$KV.xdpguard-hosts.web1", b"{}")
        await its.js.publish(f"$KV.xdpguard.web1.{KEY}", b"{}", headers={"Nats-Sequence": "99"})
        for stream, to in (
            ("KV_xdpguard", forged),
            ("KV_xdpguard-hosts", f"$KV.xdpguard.web2.{KEY}"),
            ("KV_xdpguard", "$O.xdpguard-lists.C.forged"),
            ("KV_xdpguard", "_INBOX_web1.control"),
        ):
            config = {"deliver_subject": to, "deliver_policy": "all", "ack_policy": "explicit"}
            asked = json.dumps({"stream_name": stream, "config": config}).encode()
            await its.client.request(f"$JS.API.CONSUMER.CREATE.{stream}", asked, timeout=5)
        await asyncio.wait_for(delivered.wait(), 20)
        await its.client.flush()
        return heard

    heard = site.act("web1", tries)
    assert [subject for subject, reply in heard if not reply] == [f"xdpguard.live.web1.{KEY}"]
    # What a consumer delivers keeps the subject under which it was stored, and hosts leave alone what can be answered.
    assert {subject for subject, reply in heard if reply} <= {f"$KV.xdpguard.web1.{KEY}"}

    async def stored(its: Mallory) -> list[str]:
        info = await its.js.stream_info("KV_xdpguard", subjects_filter=">")
        lists = await its.js.stream_info("OBJ_xdpguard-lists", subjects_filter=">")
        return [*(info.state.subjects or {}), *(lists.state.subjects or {})]

    assert site.act("operator", stored) == [f"$KV.xdpguard.web1.{KEY}"]


def test_a_host_joins_reads_and_publishes(site: Site) -> None:
    site.command.ok("fleet", "join", site.url, "--name", "web1", "--credentials", str(site.host("web1")))
    site.command.ok("block", "--fleet", "198.51.100.7", "--for", "10m")
    its = Fleet((site.url,), "web2", str(site.host("web2")))
    found = client.run(its, lambda it: it.read())
    assert [it.key for it in found] == [f"web1.{KEY}"]
    with pytest.raises(Unreachable, match="does not let this host publish"):
        client.run(its, lambda it: it.publish("xdpguard", f"web1.{KEY}", None))
    assert [it.data is None for it in client.run(its, lambda it: it.read())] == [False]
    operator = Fleet((site.url,), "operator", str(site.operator))
    client.run(operator, lambda it: it.publish("xdpguard", f"web1.{KEY}", None))
    assert [it.data is None for it in client.run(its, lambda it: it.read())] == [True]


def test_the_operator_publishes_lists_and_hosts_fetch_them(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("203.0.113.0/24\n")
    site.command.ok("fleet", "join", site.url, "--name", "web1", "--credentials", str(site.host("web1")))
    load = ("lists", "load", "bad", str(path), "--fleet")
    assert "does not let this host publish lists" in site.command.refused(1, *load)
    assert site.command.json("lists", "show") == []
    operator = ("--credentials", str(site.operator))
    site.command.ok(*load, *operator)
    its = Fleet((site.url,), "web2", str(site.host("web2")))
    (key,) = client.run(its, lambda it: it.read())
    assert key.key == "operator.list.bad"
    wanted = decode(key.key, key.data).entry
    assert isinstance(wanted, FleetList)
    found = client.run(its, lambda it: objects.fetched(it, wanted, 10))
    assert (found.why, len(found.entries)) == ("", 1)
    assert "does not let this host publish" in site.command.refused(1, "lists", "remove", "bad", "--fleet")
    assert client.run(its, lambda it: objects.fetched(it, wanted, 10)).why == "", "it is still there"
    refused = site.command.refused(1, "fleet", "publish")
    assert "does not let this host publish what all hosts are to follow" in refused
    assert "--credentials FILE: the operator.toml" in refused
    site.command.ok("lists", "remove", "bad", "--fleet", *operator)
    assert "does not have it" in client.run(its, lambda it: objects.fetched(it, wanted, 10)).why
    site.command.ok("fleet", "publish", *operator)


def test_an_operator_keeps_the_snapshot_that_hosts_read(site: Site) -> None:
    operator = Fleet((site.url,), "keeper", str(site.operator))
    client.run(operator, lambda it: it.publish("xdpguard", f"web1.{KEY}", b"{}"))
    client.run(operator, Keeper().look)

    async def joins(connection: client.Connection) -> list[str]:
        head = await snapshot.head(connection)
        assert head is not None
        return [it.key for it in snapshot.unpacked(await snapshot.packed(connection, head))]

    host = Fleet((site.url,), "web2", str(site.host("web2")))
    assert client.run(host, joins) == [f"web1.{KEY}"]
    client.run(operator, lambda it: it.publish("xdpguard", f"web2.{KEY}", b"{}"))
    with pytest.raises(Unreachable, match="does not let this host publish"):
        client.run(host, Keeper(0).look)


def test_who_may_not_read_the_snapshot_reads_entry_by_entry(command: Command, tmp_path: Path) -> None:
    site = Site(command, tmp_path / "fleet")
    users = site.folder / "users.conf"
    users.write_text(re.sub(r'"[^"]*\.GET\.KV_xdpguard-snapshot[^"]*"(, )?', "", users.read_text()))
    refused: list[str] = []

    async def joins(connection: client.Connection) -> list[str]:
        messages = await snapshot.read_all(connection, await connection.place(), refused.append)
        return [it.key for it in messages]

    with Engine(site.folder / "nats-server.conf"):
        command.ok("fleet", "init", site.url, "--credentials", str(site.operator))
        operator = Fleet((site.url,), "keeper", str(site.operator))
        client.run(operator, lambda it: it.publish("xdpguard", f"web1.{KEY}", b"{}"))
        client.run(operator, Keeper().look)
        began = time.monotonic()
        assert client.run(Fleet((site.url,), "web1", str(site.host("web1"))), joins) == [f"web1.{KEY}"]
        assert time.monotonic() - began < 10, "the server's refusal is heard; nothing waits for an answer"
    assert refused == []


def test_a_host_more_changes_nothing_for_the_others(command: Command, tmp_path: Path) -> None:
    site = Site(command, tmp_path / "fleet")
    before = {path: path.read_bytes() for path in site.folder.rglob("*.toml")}
    server = (site.folder / "nats-server.conf").read_bytes()

    async def stays(its: Mallory) -> bool:
        command.ok("fleet", "setup", str(site.folder), "--host", "web2", "--host", "web1")
        engine.reload()

        async def nothing(_: Mallory) -> bool:
            return True

        assert await asyncio.to_thread(site.act, "web2", nothing)
        return await its.may(f"$KV.xdpguard.web1.{KEY}", b"{}")

    with Engine(site.folder / "nats-server.conf") as engine:
        command.ok("fleet", "init", site.url, "--credentials", str(site.operator))
        assert site.act("web1", stays), "it stays connected meanwhile"
    assert {path: path.read_bytes() for path in before} == before
    assert (site.folder / "nats-server.conf").read_bytes() == server
    site.host("web1").unlink()
    command.ok("fleet", "setup", str(site.folder))
    assert "web1" not in (site.folder / "users.conf").read_text()


def test_tls(command: Command, tmp_path: Path) -> None:
    site = Site(command, tmp_path / "fleet", "--tls", "--address", "localhost")
    ca, operator = str(site.folder / "ca.pem"), str(site.operator)
    url = f"tls://{site.address}"
    with Engine(site.folder / "nats-server.conf"):
        made = command("fleet", "init", url, "--credentials", operator, "--ca", ca)
        assert (made.code, made.out, made.err) == (0, "the fleet's buckets are there\n", ""), made
        command.ok("fleet", "init", url.replace("127.0.0.1", "localhost"), "--credentials", operator, "--ca", ca)
        assert "certificate" in command.refused(1, "fleet", "init", url, "--credentials", operator)
        host = Fleet((url,), "web1", str(site.host("web1")), FleetTls(ca))
        assert client.run(host, lambda it: it.read()) == []


def test_a_cluster_of_three_survives_one(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "fleet"
    ports = _ports(3)
    options = [part for port in ports for part in ("--listen", f"127.0.0.1:{port}")]
    command.ok("fleet", "setup", str(folder), *options, "--host", "web1", "--tls")
    urls = tuple(f"tls://127.0.0.1:{port}" for port in ports)
    tls = FleetTls(str(folder / "ca.pem"))
    host = Fleet(urls, "web1", str(folder / "hosts" / "web1.toml"), tls)
    with ExitStack() as stack:
        engines = [Engine(path) for path in sorted(folder.glob("nats-server-*.conf"))]
        assert len(engines) == 3
        for it in engines:
            stack.callback(it.kill)
            it.start()
        arguments = ("--credentials", str(folder / "operator.toml"), "--ca", str(folder / "ca.pem"), "--replicas", "3")
        assert eventually(lambda: command("fleet", "init", *urls, *arguments).code == 0)
        assert eventually(lambda: _works(host)), "they have agreed on a leader"
        engines[0].kill()
        assert eventually(lambda: _works(host)), "two of three go on"
        assert eventually(lambda: _holds(host) == [b"{1}"]), "and answer what they hold"


def _works(host: Fleet) -> bool:
    try:
        client.run(host, lambda it: it.publish("xdpguard", f"web1.{KEY}", b"{1}"))
    except (Unreachable, TimeoutError, nats.errors.Error):
        return False
    return True


def _holds(host: Fleet) -> list[bytes | None]:
    try:
        return [it.data for it in client.run(host, lambda it: it.read())]
    except (Unreachable, TimeoutError, nats.errors.Error):
        return []


def _ports(count: int) -> list[int]:
    """Ports of which those for the servers among themselves are free, too."""
    found: list[int] = []
    while len(found) < count:
        port = free_port()
        if port <= 63_535 and port not in found and port + 2000 not in found and port - 2000 not in found:
            found.append(port)
    return found


def test_wrong_usage_and_what_is_there(command: Command, tmp_path: Path) -> None:
    folder = str(tmp_path / "fleet")
    assert "not where a server can listen" in command.refused(2, "fleet", "setup", folder, "--listen", "here")
    assert "outvote" in command.refused(
        2, "fleet", "setup", folder, "--listen", "192.0.2.1:4222", "--listen", "192.0.2.2:4222"
    )
    three = [part for number in range(3) for part in ("--listen", f"0.0.0.0:{4222 + number}")]
    assert "an address each" in command.refused(2, "fleet", "setup", folder, *three)
    assert not Path(folder).exists()
    assert "not a host's name" in command.refused(2, "fleet", "setup", folder, "--host", "a.b")
    assert "operator" in command.refused(2, "fleet", "setup", folder, "--host", "operator")
    command.ok("fleet", "setup", folder, "--host", "web1")
    assert "is set up already" in command.refused(2, "fleet", "setup", folder, "--tls")
    (tmp_path / "file").write_text("")
    assert "cannot be written" in command.refused(1, "fleet", "setup", str(tmp_path / "file"))
    (Path(folder) / "hosts" / "web1.toml").write_text("x")
    assert "not a credentials file" in command.refused(1, "fleet", "setup", folder)
