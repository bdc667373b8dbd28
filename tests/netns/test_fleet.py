# SPDX-License-Identifier: GPL-2.0
"""The fleet on a real nats-server: hosts with a data plane each, real packets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fleet import Host
from support.nats import Nats
from support.patience import patient
from support.service import Run
from support.traffic import Echo, client_address, eventually, works
from topology import INTERFACE, SERVER4, Lab

from xdpguard.net.netns import entered

SOURCE = client_address(4, 3)


@pytest.fixture(scope="module")
def labs() -> Iterator[list[Lab]]:
    mine = os.getpid()
    with Lab(f"xgfa{mine}", owner=mine) as one, Lab(f"xgfb{mine}", owner=mine) as other, Echo(one), Echo(other):
        yield [one, other]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path) as made:
        yield made


@pytest.fixture
def hosts(labs: list[Lab], engine: Nats, tmp_path: Path) -> Iterator[list[Host]]:
    made = []
    try:
        for lab, name in zip(labs, ("web1", "web2"), strict=True):
            made.append(Host(lab, tmp_path / name, name, engine))
        yield made
    finally:
        for host in made:
            host.run.end()
            host.command.clean()


def test_one_block_is_in_force_everywhere(hosts: list[Host]) -> None:
    one, other = hosts
    assert not one.drops()
    assert not other.drops()
    said = one.command.ok("block", "--fleet", SOURCE, "--for", "10m", "--reason", "attack")
    assert "on all hosts of the fleet" in said
    assert one.drops()
    assert eventually(other.drops), other.run.lines
    assert other.rules() == {SOURCE: "fleet"}
    assert not works(other.lab, 4, "tcp", 3)
    assert works(other.lab, 4, "tcp", 4), "another source passes"
    one.command.ok("unblock", "--fleet", SOURCE)
    assert eventually(lambda: not other.drops()), other.run.lines
    assert not one.drops()
    assert one.rules() == other.rules() == {}


def put(engine: Nats, key: str, value: object, bucket: str = "xdpguard") -> None:
    """Publishes anything as anybody."""
    data = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    engine.ask(lambda it: it.publish(bucket, key, data))


def value(target: str, **other: object) -> dict[str, object]:
    return {"v": 1, "kind": "block", "target": target, "made": time.time(), "origin": "cli", **other}


def key(host: str, number: int) -> str:
    return f"{host}.block.4-{bytes((203, 0, 113, number)).hex()}-32"


def agree(host: Host, wanted: int, hosts: int = 2) -> bool:
    """Whether all hosts say that they know the same, and that it is so much."""
    found = host.command.json("fleet", "status")
    known = [it["wanted"] for it in found["hosts"].values()]
    return found["agree"] is True and known == [wanted] * hosts


def test_without_the_server_bans_go_on_and_new_ones_come_later(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    one.command.ok("block", "--fleet", SOURCE)
    assert eventually(other.drops), other.run.lines
    engine.kill()
    assert one.run.says("the connection to the fleet's server was lost")
    assert one.drops()
    assert other.drops()
    said = one.command("block", "--fleet", "203.0.113.9")
    assert said.code == 0
    assert "blocked 203.0.113.9 on this host" in said.out
    assert "xdpguard run publishes it as soon as it can" in said.err
    assert one.command.json("fleet", "status")["outbox"] == 1
    assert one.run.end(signal.SIGKILL) == -9
    one.run = Run(one.command)
    assert "203.0.113.9" in one.rules()
    engine.start()
    assert one.run.says("fleet: connected"), one.run.lines
    assert eventually(lambda: other.rules() == {SOURCE: "fleet", "203.0.113.9": "fleet"}, 60), other.run.lines
    assert one.rules() == other.rules()
    assert eventually(lambda: one.command.json("fleet", "status")["outbox"] == 0)
    assert eventually(lambda: agree(one, 2), 60)


def test_a_server_that_lost_everything_takes_no_ban_away(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    one.command.ok("block", "--fleet", SOURCE, "--reason", "kept")
    assert eventually(other.drops), other.run.lines
    engine.kill()
    engine.start(empty=True)
    engine.ask(lambda it: it.make())
    for host in hosts:
        assert host.run.says("the server has lost its entries"), host.run.lines
        assert host.drops()
    assert eventually(lambda: one.command.json("fleet", "status")["here"]["keeping"] is True)
    put(engine, key("web9", 1), value("203.0.113.1"))
    assert eventually(lambda: "203.0.113.1" in other.rules())
    assert SOURCE in other.rules()
    assert "0 lists that the server had not" in one.command.ok("fleet", "publish")
    kept = f"web1.block.4-{socket.inet_aton(SOURCE).hex()}-32"
    assert kept in [it.key for it in engine.ask(lambda it: it.read()) if it.data is not None]
    assert eventually(lambda: one.command.json("fleet", "status")["here"]["keeping"] is False, 60)
    assert eventually(lambda: agree(one, 2), 60), (one.run.lines, other.run.lines)
    one.command.ok("unblock", "--fleet", SOURCE)
    assert eventually(lambda: set(other.rules()) == set(one.rules()) == {"203.0.113.1"})


def test_status_says_when_all_is_again_as_it_was_told(hosts: list[Host], engine: Nats) -> None:
    one = hosts[0]
    one.command.ok("block", "--fleet", SOURCE)
    assert eventually(lambda: agree(one, 1), 60), "all have told how they stand"
    engine.kill()
    engine.start(empty=True)
    engine.ask(lambda it: it.make())
    assert eventually(lambda: one.command.json("fleet", "status")["here"]["keeping"] is True)
    one.command.ok("fleet", "publish")
    assert eventually(lambda: one.command.json("fleet", "status")["here"]["keeping"] is False, 10), one.run.lines


def test_what_is_broken_or_foreign_is_refused_and_said_once(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    bad = {
        key("web9", 1): b"{",
        key("web9", 2): value("203.0.113.2", v=2),
        key("web9", 3): value("203.0.113.99"),
        key("web9", 4): value("203.0.113.4", end=1e300),
        "web9.block.4-cb007105-33": value("203.0.113.5/33"),
        "web9.port.80": value("80/tcp"),
        "web9.filter.x": {**value("x"), "kind": "filter", "match": "no such thing", "action": "drop"},
    }
    for name, data in bad.items():
        put(engine, name, data)
    put(engine, "web9.block.4-0a000000-8", value("10.0.0.0/8"))
    put(engine, key("web9", 6), value("203.0.113.6", end=time.time() - 3600))
    put(engine, "web9.allow.4-cb007107-32", value("203.0.113.7", kind="allow"))
    put(engine, key("web9", 8), value("203.0.113.8"))
    assert eventually(lambda: "203.0.113.8" in other.rules()), other.run.lines
    assert set(other.rules()) == {"203.0.113.8"}
    for text in (
        "version 2",
        "another target than its key",
        "not Unix times",
        "none of block, allow, filter and list",
        "shorter than /16",
        "ended 1h",
        "allow = false",
    ):
        assert other.run.says(text), (text, other.run.lines)
        assert other.run.count(text) == 1
    assert eventually(lambda: other.command.json("fleet", "status")["here"]["broken"] == len(bad), 30)
    assert other.command.json("fleet", "status")["here"]["refused"] == 3
    put(engine, key("web9", 2), value("203.0.113.2"))
    assert eventually(lambda: "203.0.113.2" in one.rules())
    assert agree(one, 5) or eventually(lambda: agree(one, 5), 30)


def test_a_local_allow_and_what_the_host_needs_win(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    other.command.ok("allow", SOURCE)
    one.command.ok("block", "--fleet", SOURCE)
    assert eventually(lambda: other.run.says(f"refused here: {SOURCE}: it is allowed here"))
    assert one.drops()
    assert not other.drops()
    assert "203.0.113.0/24" not in one.rules()
    put(engine, "web9.block.4-7f000001-32", value("127.0.0.1"))
    assert one.run.says("refused here: 127.0.0.1"), "the fleet's server"


def test_the_key_of_another_host_is_taken_back_where_the_server_permits(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    put(engine, f"web9.block.4-{socket.inet_aton(SOURCE).hex()}-32", value(SOURCE))
    one.command.ok("block", "--fleet", SOURCE)
    assert eventually(other.drops), other.run.lines
    (found,) = one.command.json("fleet", "top")
    assert (found["target"], found["hosts"], found["guards"]) == (SOURCE, ["web1", "web9"], 0)
    assert SOURCE in one.command.ok("fleet", "top")
    assert "which web9 had published" in one.command.ok("unblock", "--fleet", SOURCE)
    assert eventually(lambda: not other.drops())
    assert not one.drops()


def test_shadow_mode_counts_and_leave_takes_all_away(hosts: list[Host]) -> None:
    one, other = hosts
    other.command.ok("fleet", "mode", "shadow")
    assert other.run.says("shadow mode"), other.run.lines
    one.command.ok("block", "--fleet", SOURCE)
    assert eventually(one.drops)
    assert eventually(lambda: [it["target"] for it in other.command.json("rules", "--kind", "shadow")] == [SOURCE])
    assert not other.drops()
    other.command.ok("fleet", "mode", "enforce")
    assert eventually(other.drops), other.run.lines
    assert "removed what it wanted here" in other.command.ok("fleet", "leave")
    assert not other.drops()
    assert other.rules() == {}
    assert other.run.says("has left its fleet")
    assert one.drops(), "what it wants elsewhere stays"
    assert "belongs to no fleet" in other.command.refused(1, "block", "--fleet", SOURCE)


def configured(host: Host, engine: Nats, more: str = "") -> Path:
    """Has the second host belong to the fleet by a configuration file, which it returns, instead of by `join`."""
    host.run.end()
    host.command.ok("fleet", "leave")
    file = host.command.state / "guard.toml"
    file.write_text(f'[fleet]\nserver = ["{engine.url}"]\nname = "web2"\n{more}')
    host.command.ok("attach", INTERFACE, "--netns", host.lab.server, "--config", str(file))
    host.start()
    return file


def test_a_fleet_of_the_configuration_file_is_left_as_well(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    file = configured(other, engine)
    one.command.ok("block", "--fleet", SOURCE)
    assert eventually(other.drops), other.run.lines
    assert "has a [fleet] server" in other.command.refused(1, "fleet", "leave")
    other.run.end()
    file.write_text("")
    assert other.drops()
    assert "removed what it wanted here" in other.command.ok("fleet", "leave")
    assert not other.drops()
    assert "belongs to no fleet" in other.command.refused(1, "fleet", "leave")


def test_a_host_with_too_many_entries_is_named(hosts: list[Host], engine: Nats) -> None:
    """In `fleet status`, and to itself when it publishes more."""
    _, other = hosts
    configured(other, engine, "max_per_host = 3\n")
    addresses = [f"203.0.113.{number}" for number in range(1, 5)]
    said = other.command("block", "--fleet", *addresses[:3])
    assert (said.code, said.err) == (0, ""), said
    assert "on all hosts of the fleet" in said.out
    assert "max_per_host" not in other.command.ok("fleet", "status")
    other.command.ok("block", "--fleet", addresses[3])
    told = "web2 has published 4 entries, of which 3 count here ([fleet] max_per_host)"
    assert eventually(lambda: told in other.command.ok("fleet", "status")), other.run.lines
    assert other.command.json("fleet", "status")["crowded"] == {"web2": 4}
    said = other.command("block", "--fleet", "203.0.113.9")
    assert said.out == "blocked 203.0.113.9 for the fleet\n"
    assert "this host has published 4 entries, of which 3 count ([fleet] max_per_host)" in said.err


def test_bans_of_the_guard_are_shared_by_choice(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    for host, more in ((one, "share_bans = true"), (other, "ban_after = 2")):
        file = host.command.state / "guard.toml"
        file.write_text(f"[fleet]\n{more}\n")
        host.command.ok("attach", INTERFACE, "--netns", host.lab.server, "--config", str(file))
    assert eventually(lambda: one.run.count("fleet: connected") == 2), one.run.lines
    with entered(one.lab.outside):
        for port in range(2000, 2040):
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind((SOURCE, 0))
                probe.settimeout(1)
                probe.connect((SERVER4, port))
    assert one.run.says(f"banned {SOURCE}"), one.run.lines
    name = f"block.4-{socket.inet_aton(SOURCE).hex()}-32"
    assert eventually(lambda: [it.key for it in engine.ask(lambda it: it.read())] == [f"web1.{name}"])
    assert not other.drops(), "one host alone is not enough there"
    put(engine, f"web9.{name}", value(SOURCE, origin="guard", end=time.time() + 600))
    assert eventually(other.drops), other.run.lines
    other.command.ok("unblock", "--fleet", SOURCE)
    assert eventually(lambda: not one.drops()), "taken back everywhere, also where the guard had banned"
    assert eventually(lambda: not other.drops())
    assert one.rules() == {}


def test_a_ban_is_in_force_soon(hosts: list[Host], engine: Nats) -> None:
    """From the publication to the rule in the store of each host; the median, on a busy machine."""
    put(engine, key("web9", 250), value("203.0.113.250"))
    assert eventually(lambda: all("203.0.113.250" in it.rules() for it in hosts))
    times = []
    for number in range(101, 121):  # no one's text is the beginning of another's
        target = f"203.0.113.{number}"
        began = time.monotonic()
        put(engine, key("web9", number), value(target))
        while not all(it.run.count(f"fleet: blocked {target}") for it in hosts):
            assert time.monotonic() - began < patient(20), [it.run.lines[-12:] for it in hosts]
            threading.Event().wait(0.005)
        times.append(time.monotonic() - began)
    assert sorted(times)[10] < patient(0.5)


def test_drops_of_all_hosts_are_summed(hosts: list[Host]) -> None:
    one, other = hosts
    one.command.ok("block", "--fleet", SOURCE)
    assert eventually(other.drops), other.run.lines

    def summed() -> bool:
        assert one.drops()
        assert other.drops()
        found = one.command.json("fleet", "status")
        rates = [its["drops"].get("deny", 0) for its in found["hosts"].values()]
        return len(rates) == 2 and all(rates) and abs(found["totals"]["drops"]["deny"] - sum(rates)) < 0.2

    assert eventually(summed, 150), one.command.json("fleet", "status")
    assert "packets/s dropped on all hosts; 0 bans by guards, 1 source blocked" in one.command.ok("fleet", "status")


def test_filters_and_allow_rules_where_a_host_takes_them(hosts: list[Host]) -> None:
    one, other = hosts
    assert "filters = false" in one.command.refused(1, "filter", "add", "sw", "tcp dport 7000", "--drop", "--fleet")
    assert "allow = false" in one.command.refused(1, "allow", SOURCE, "--fleet")
    for host in hosts:
        file = host.command.state / "guard.toml"
        file.write_text("[fleet]\nfilters = true\nallow = true\n")
        host.command.ok("attach", INTERFACE, "--netns", host.lab.server, "--config", str(file))
        assert eventually(lambda run=host.run: run.count("fleet: connected") == 2)  # type: ignore[misc]
    one.command.ok("filter", "add", "echo", f"ip saddr {SOURCE} tcp dport 7000", "--drop", "--fleet")
    assert eventually(other.drops), other.run.lines
    other.command.ok("allow", SOURCE, "--fleet")
    assert eventually(lambda: not one.drops() and not other.drops()), other.run.lines
    other.command.ok("disallow", SOURCE, "--fleet")
    assert eventually(lambda: one.drops() and other.drops()), other.run.lines
    one.command.ok("filter", "remove", "echo", "--fleet")
    assert eventually(lambda: not one.drops() and not other.drops()), other.run.lines


def test_a_host_killed_at_any_moment_comes_to_the_same(hosts: list[Host], engine: Nats) -> None:
    one, other = hosts
    for number in range(1, 6):
        put(engine, key("web9", number), value(f"203.0.113.{number}"))
        assert other.run.end(signal.SIGKILL) == -9
        put(engine, key("web9", number + 10), value(f"203.0.113.{number + 10}"))
        if number > 1:
            put(engine, key("web9", number - 1), None)
        other.start()
    wanted = {f"203.0.113.{number}" for number in (5, 11, 12, 13, 14, 15)}
    assert eventually(lambda: set(other.rules()) == set(one.rules()) == wanted), other.run.lines
    assert eventually(lambda: agree(one, 6), 60)


def test_what_is_measured_of_it(hosts: list[Host], engine: Nats) -> None:
    one, _ = hosts
    put(engine, key("web9", 1), value("203.0.113.1"))
    put(engine, key("web9", 2), b"{")
    file = one.command.state / "guard.toml"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file.write_text(f'[metrics]\nlisten = "127.0.0.1:{port}"\n[fleet]\ntotals = true\n')
    one.command.ok("attach", INTERFACE, "--netns", one.lab.server, "--config", str(file))
    one.run.signal(signal.SIGHUP)
    assert one.run.says(f"metrics: http://127.0.0.1:{port}"), one.run.lines

    def shown() -> list[str]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            return [line for line in page.read().decode().splitlines() if line.startswith("xdpguard_fleet")]

    wanted = {
        "xdpguard_fleet_connected 1.0",
        'xdpguard_fleet_entries{of="wanted"} 1.0',
        'xdpguard_fleet_entries{of="held"} 1.0',
        'xdpguard_fleet_entries{of="refused"} 0.0',
        'xdpguard_fleet_entries{of="broken"} 1.0',
        "xdpguard_fleet_outbox 0.0",
        "xdpguard_fleet_gaps_total 0.0",
        'xdpguard_fleet_hosts{state="heard"} 2.0',
        'xdpguard_fleet_hosts{state="silent"} 0.0',
        'xdpguard_fleet_hosts{state="flooded"} 0.0',
        "xdpguard_fleet_floods 0.0",
        "xdpguard_fleet_sources 1.0",
        "xdpguard_fleet_snapshots_refused_total 0.0",
    }
    assert eventually(lambda: wanted <= set(shown()), 90), shown()
