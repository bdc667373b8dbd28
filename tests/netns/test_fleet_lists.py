# SPDX-License-Identifier: GPL-2.0
"""Lists of the fleet on a real nats-server: real packets on two hosts, broken objects, a server that lost its data."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from support.fleet import Host
from support.nats import Nats
from support.traffic import Echo, client_address, eventually, works
from topology import INTERFACE, SERVER4, Lab

from xdpguard.fleet.client import Connection
from xdpguard.fleet.message import FleetList, encode, list_value
from xdpguard.fleet.objects import digest_of, put
from xdpguard.policy.filter import NewFilter
from xdpguard.policy.filters import FilterEntry, new_filter

SOURCE = client_address(4, 3)
KEY = "operator.list.bad"


@pytest.fixture(scope="module")
def labs() -> Iterator[list[Lab]]:
    mine = os.getpid()
    with Lab(f"xgla{mine}", owner=mine) as one, Lab(f"xglb{mine}", owner=mine) as other, Echo(one), Echo(other):
        yield [one, other]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path) as made:
        yield made


@pytest.fixture
def hosts(labs: list[Lab], engine: Nats, tmp_path: Path) -> Iterator[list[Host]]:
    made: list[Host] = []
    try:
        for lab, name in zip(labs, ("web1", "web2"), strict=True):
            made.append(Host(lab, tmp_path / name, name, engine))
        yield made
    finally:
        for host in made:
            host.run.end()
            host.command.clean()


def file(host: Host, *targets: str) -> str:
    path = host.command.state / "list.txt"
    path.write_text("".join(f"{it}\n" for it in targets))
    return str(path)


def lists(host: Host) -> dict[str, int]:
    return {it["name"]: it["entries"] for it in host.command.json("lists", "show")}


def held(host: Host, name: str) -> Any:
    (found,) = [it for it in host.command.json("lists", "show") if it["name"] == name]
    return found


def test_a_list_is_in_force_everywhere_until_it_is_removed(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    assert not one.drops()
    assert not other.drops()
    said = one.command.ok("lists", "load", "bad", file(one, SOURCE, "203.0.113.0/24"), "--fleet")
    assert "published the list bad for all hosts of the fleet: 2 prefixes" in said
    assert one.drops(), "here at once"
    assert eventually(other.drops), other.run.lines
    assert works(other.lab, 4, "tcp", 4), "another source passes"
    assert held(other, "bad")["source"] == "fleet"
    status = one.command.json("fleet", "status")
    assert eventually(lambda: one.command.json("fleet", "status")["agree"] is True, 60)
    assert eventually(lambda: one.command.json("fleet", "status")["lists"]["bad"]["hosts"] == 2, 60), status
    assert "list bad: 2 entries, held by 2 of 2 hosts" in one.command.ok("fleet", "status")
    # Another list of this name takes its place as a whole.
    one.command.ok("lists", "load", "bad", file(one, "203.0.113.0/24", "100.64.0.0/16"), "--fleet")
    assert eventually(lambda: not other.drops()), other.run.lines
    assert lists(other) == lists(one) == {"bad": 2}
    assert "removed bad on all hosts" in one.command.ok("lists", "remove", "bad", "--fleet")
    assert eventually(lambda: lists(other) == {}), other.run.lines
    assert lists(one) == {}
    assert "the fleet has no list bad" in one.command.refused(1, "lists", "remove", "bad", "--fleet")
    assert engine.ask(lambda it: it.stored("OBJ_xdpguard-lists", "$O.xdpguard-lists.C.>")) == [], "nothing is left"


def test_each_digest_is_fetched_once(hosts: list[Host]) -> None:
    one, other = hosts
    for _ in range(2):
        one.command.ok("lists", "load", "bad", file(one, SOURCE), "--fleet")
        assert eventually(other.drops), other.run.lines
    other.run.end()
    other.start()
    one.command.ok("block", "--fleet", "203.0.113.9")
    assert eventually(lambda: "203.0.113.9" in other.rules()), other.run.lines
    assert other.run.count("list bad loaded") == 0, "after a restart it has it"
    assert other.drops()


def test_the_server_gone_and_back_empty_takes_no_list_away(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    one.command.ok("lists", "load", "bad", file(one, SOURCE), "--fleet")
    assert eventually(other.drops), other.run.lines
    engine.kill()
    assert other.run.says("was lost")
    assert "cannot be used" in one.command.refused(1, "lists", "load", "more", file(one, "203.0.113.1"), "--fleet")
    assert "cannot be used" in one.command.refused(1, "lists", "remove", "bad", "--fleet")
    assert one.drops()
    assert other.drops()
    engine.start(empty=True)
    engine.ask(lambda it: it.make())
    for host in hosts:
        assert host.run.says("the server has lost its entries"), host.run.lines
        assert host.drops()
    # What hosts have of lists and filters is published, too.
    assert "published 0 entries and 1 list that" in one.command.ok("fleet", "publish")
    assert eventually(lambda: other.command.json("fleet", "status")["here"]["keeping"] is False, 60)
    assert eventually(lambda: other.command.json("fleet", "status")["agree"] is True, 60)
    assert other.drops()
    one.command.ok("lists", "remove", "bad", "--fleet")
    assert eventually(lambda: not other.drops()), "and it is the fleet's again"


def test_filters_are_published_again_as_they_were(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    for host in hosts:
        path = host.command.state / "guard.toml"
        path.write_text("[fleet]\nfilters = true\n")
        host.command.ok("attach", INTERFACE, "--netns", host.lab.server, "--config", str(path))
        assert eventually(lambda run=host.run: run.count("fleet: connected") == 2)  # type: ignore[misc]
    one.command.ok("filter", "add", "stop", f"ip saddr {SOURCE} tcp dport 7000", "--drop", "--fleet", "--reason", "why")
    limit = ("--limit", "10mbit/s", "--burst", "64kbyte", "--per", "source/24")
    one.command.ok("filter", "add", "slow", "udp dport 9", *limit, "--fleet", "--for", "1h")
    one.command.ok("filter", "add", "look", "tcp dport 7000", "--drop", "--shadow", "--fleet")
    assert eventually(other.drops), other.run.lines

    def stored() -> dict[str, dict[str, Any]]:
        found = engine.ask(lambda it: it.read(keys="web1.filter.*"))
        values = {it.key: json.loads(it.data) for it in found if it.data is not None}
        return {key: {name: it for name, it in its.items() if name != "made"} for key, its in values.items()}

    before = stored()
    assert len(before) == 3
    engine.kill()
    engine.start(empty=True)
    engine.ask(lambda it: it.make())
    assert one.run.says("the server has lost its entries"), one.run.lines
    assert "published 3 entries and 0 lists" in one.command.ok("fleet", "publish")
    again = stored()
    assert again.keys() == before.keys()
    for key, its in before.items():
        assert filter_of(again[key]) == filter_of(its)
    assert eventually(lambda: other.command.json("fleet", "status")["agree"] is True, 90), other.run.lines
    assert other.drops()
    one.command.ok("filter", "remove", "stop", "--fleet")
    assert eventually(lambda: not other.drops()), "of the one that only counts nothing is dropped"
    (look,) = [it for it in other.command.json("filter", "list") if it["name"] == "look"]
    assert (look["mode"], look["source"]) == ("shadow", "fleet")


def filter_of(value: dict[str, Any]) -> NewFilter:
    """What a value says, however it is written."""
    words = {key: value.get(key, "") for key in ("match", "action", "limit", "burst", "reason")}
    entry = FilterEntry(value["target"], per=value.get("per", "filter"), shadow=value.get("shadow", False), **words)
    return new_filter(entry, "fleet", 0, value.get("end"))


def publish(engine: Nats, data: bytes, name: str = "bad", **other: Any) -> None:
    """Publishes an object that nothing has checked."""

    async def work(connection: Connection) -> None:
        place = await put(connection, name, data)
        its = FleetList(name, digest_of(data), place, len(data), 1, "")._replace(**other)
        await connection.publish("xdpguard", f"operator.list.{name}", encode(list_value(its)))

    engine.ask(work)


def test_a_broken_object_is_refused_counted_and_said(hosts: list[Host], engine: Nats) -> None:
    import zlib

    import msgspec

    one, other = hosts
    one.command.ok("lists", "load", "bad", file(one, SOURCE), "--fleet")
    assert eventually(other.drops), other.run.lines
    first = bytes.fromhex("0a00000020")

    def content(**its: Any) -> bytes:
        return zlib.compress(msgspec.msgpack.encode({"v": 1, "four": first, "six": b"", **its}))

    whole = content()
    for data, more, text in (
        (b"no list", {}, "it is not a list"),
        (whole[:-8], {}, "cut off"),
        (whole, {"digest": "0" * 64}, "another digest"),
        (whole, {"object": "nowhere"}, "the server does not have it"),
        (content(v=2), {}, "it has version 2"),
        (content(four=first * 2), {"entries": 2}, "not disjoint prefixes in order"),
        (content(four=first[:4]), {}, "part of a prefix is missing"),
        (content(four=bytes.fromhex("0100000a18")), {}, "not disjoint prefixes in order"),
        (whole, {"entries": 7}, "its key says 7"),
        (zlib.compress(bytes(64 << 20)), {}, "more than 1,000,000 entries"),
        (whole, {"entries": 10_000_000}, "the fleet may have 1,000,000 in lists"),
    ):
        before = len(other.run.lines)
        publish(engine, data, **more)
        assert other.run.says(text, after=before), (text, other.run.lines[before - 2 :])
        assert other.drops(), "what was there stays"

    def shown() -> str:
        return str(other.command.json("fleet", "status")["lists"]["bad"]["refused"])

    assert eventually(lambda: "1,000,000 in lists" in shown(), 30), shown()
    assert other.command.json("fleet", "status")["here"]["refused"] == 1
    publish(engine, whole)
    assert eventually(lambda: not other.drops()), other.run.lines
    assert eventually(lambda: other.command.json("fleet", "status")["here"]["refused"] == 0, 30)


def test_only_the_operator_s_key_counts(hosts: list[Host], engine: Nats) -> None:
    _, other = hosts
    its = FleetList("bad", "0" * 64, "x", 1, 1, "")
    engine.ask(lambda it: it.publish("xdpguard", "web9.list.bad", encode(list_value(its))))
    assert other.run.says("lists are published by the operator only"), other.run.lines
    assert not other.drops()


def test_a_host_decides_what_it_takes(hosts: list[Host]) -> None:
    one, other = hosts
    other.command.ok("allow", SOURCE)
    one.command.ok(
        "lists", "load", "bad", file(one, SOURCE, f"{SERVER4}", "203.0.113.7", "100.64.0.0/10"), "--force", "--fleet"
    )
    assert one.drops()
    assert eventually(lambda: lists(other) == {"bad": 3}), other.run.lines
    assert not other.drops(), "what is allowed here passes"
    assert other.run.says("1 shorter prefix left out")
    assert held(other, "bad")["skipped"] == 1
    other.command.ok("lists", "load", "mine", file(other, "203.0.113.1"))
    one.command.ok("lists", "load", "mine", file(one, "203.0.113.2", "203.0.113.4"), "--fleet")
    assert other.run.says("list mine: this host has a list of this name, of cli"), other.run.lines
    assert lists(other)["mine"] == 1
    assert "a list of this host, of cli" in other.command.refused(
        1, "lists", "load", "mine", file(other, "203.0.113.1"), "--fleet"
    )
    other.command.ok("lists", "remove", "mine")
    assert eventually(lambda: lists(other) == {"bad": 3, "mine": 2}, 60), "then the fleet's is taken"
    assert "comes again" in other.command("lists", "remove", "mine").err
    assert eventually(lambda: lists(other) == {"bad": 3, "mine": 2}, 60), other.run.lines
    assert "removed what it wanted here" in other.command.ok("fleet", "leave")
    assert lists(other) == {}


def test_shadow_mode_only_counts(hosts: list[Host]) -> None:
    one, other = hosts
    other.command.ok("fleet", "mode", "shadow")
    assert other.run.says("shadow mode"), other.run.lines
    one.command.ok("lists", "load", "bad", file(one, SOURCE), "--fleet")
    assert eventually(lambda: lists(other) == {"bad": 1}), other.run.lines
    assert not other.drops()
    assert one.drops()
    other.command.ok("fleet", "mode", "enforce")
    assert eventually(other.drops), other.run.lines
    assert lists(other) == {"bad": 1}, "in one mode"


def test_a_large_list_and_one_with_ends(hosts: list[Host]) -> None:
    one, other = hosts
    targets = [f"10.{a}.{b}.{c}" for a in range(4) for b in range(256) for c in range(0, 256, 2)]
    one.command.ok("lists", "load", "big", file(one, *targets, SOURCE), "--fleet")
    assert eventually(lambda: lists(other) == {"big": len(targets) + 1}), other.run.lines
    assert other.drops()
    one.command.ok("lists", "remove", "big", "--fleet")
    path = one.command.state / "ends.csv"
    path.write_text(f"address,expires\n{SOURCE},{int(time.time()) + 8}\n203.0.113.1,{int(time.time()) + 3600}\n")
    one.command.ok("lists", "load", "ends", str(path), "--fleet")
    assert eventually(other.drops), other.run.lines
    assert eventually(lambda: not other.drops(), 60), "it has ended"
    assert lists(other) == {"ends": 1}


def test_what_does_not_go_together(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("203.0.113.1\n")
    for more in (["--shadow"], ["--dry-run"], ["--confirm", "60s"], ["--json"]):
        assert "cannot be combined" in command.refused(2, "lists", "load", "x", str(path), "--fleet", *more)
    assert "goes with --fleet" in command.refused(2, "lists", "load", "x", str(path), "--credentials", "y")
    assert "belongs to no fleet" in command.refused(1, "lists", "load", "x", str(path), "--fleet")
    assert "not a name for a list of the fleet" in command.refused(2, "lists", "load", "a.b", str(path), "--fleet")
