# SPDX-License-Identifier: GPL-2.0
"""Shadow rules and lists on real traffic: whose packets they count, that they drop none, and what promoting does."""

from __future__ import annotations

import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import old_stores
from support.command import Command, on
from support.guard import sysctls
from support.lists import answered, clear, received, shown, without, write_big
from support.scrape import watched
from support.traffic import PORT as ECHO
from support.traffic import Echo, Family, client_address, eventually, server_address, start_flood, works
from topology import INTERFACE, SERVER4, Lab

from xdpguard.control.controller import Controller
from xdpguard.dataplane.build.program import KernelDataplane
from xdpguard.dataplane.sys import abi, kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables.shadowlists import ShadowListMaps
from xdpguard.net.links import Links
from xdpguard.net.netns import entered
from xdpguard.store.database import Store
from xdpguard.tui.reading import Reader

FAMILIES: list[Family] = [4, 6]
EVERYBODY = without()
PORT = 7070
BPFFS = Path("/sys/fs/bpf")
MILLION = 1_000_000


@pytest.fixture
def attached(lab: Lab, attached: Command, echo: Echo) -> Command:
    del echo
    for family in FAMILIES:
        assert answered(lab, family) == EVERYBODY, "positive control: with no entry everybody passes"
    return attached


def attach(command: Command, lab: Lab) -> None:
    command.ok("attach", INTERFACE, "--netns", lab.server)


def shadow_rules(command: Command) -> dict[str, Any]:
    return {rule["target"]: rule for rule in command.json("rules", "--kind", "shadow")}


def split(found: Any) -> tuple[int, int, int]:
    """Packets of established peers, of allowed sources, of others."""
    assert found["packets"] == sum(found[name]["packets"] for name in ("established", "allowed", "other"))
    assert found["bytes"] == sum(found[name]["bytes"] for name in ("established", "allowed", "other"))
    return found["established"]["packets"], found["allowed"]["packets"], found["other"]["packets"]


def load(command: Command, name: str, *entries: str) -> None:
    command.ok("lists", "load", name, "-", "--shadow", stdin="".join(f"{it}\n" for it in entries))


class Connection:
    """A TCP connection between a client and the server that stays. Use as a context manager."""

    def __init__(self, lab: Lab, family: Family, client: int = 0, port: int = PORT) -> None:
        kind = socket.AF_INET if family == 4 else socket.AF_INET6
        with entered(lab.server):
            self._listener = socket.socket(kind, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((server_address(family), port))
        self._listener.listen(4)
        with entered(lab.outside):
            self._client = socket.socket(kind, socket.SOCK_STREAM)
        self._client.settimeout(20)
        self._client.bind((client_address(family, client), 0))
        self._client.connect((server_address(family), port))
        self._server, _ = self._listener.accept()
        self._server.settimeout(20)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        for made in (self._client, self._server, self._listener):
            made.close()

    def talk(self, times: int) -> None:
        """So many questions and answers: as many segments with data, at least, from the client."""
        for _ in range(times):
            self._client.sendall(b"question")
            assert self._server.recv(100) == b"question"
            self._server.sendall(b"answer")
            assert self._client.recv(100) == b"answer"

    def silent(self) -> bool:
        """Whether a question does not arrive any more."""
        self._client.sendall(b"lost")
        self._server.settimeout(0.4)
        try:
            return not self._server.recv(100)
        except TimeoutError:
            return True


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["rule", "list"])
def test_whose_packets_they_are(attached: Command, lab: Lab, family: Family, kind: str) -> None:
    """A stranger, an allowed source and an established peer, each counted as that, and none of them dropped."""
    entries = [client_address(family, client) for client in (0, 1, 2)]

    def found() -> dict[str, tuple[int, int, int]]:
        if kind == "rule":
            return {target: split(rule) for target, rule in shadow_rules(attached).items()}
        return {it["name"]: split(it) for it in attached.json("lists", "show")}

    if kind == "rule":
        attached.ok("block", "--shadow", *entries)
        names = entries
    else:
        for number, entry in enumerate(entries):
            load(attached, f"x{number}", entry)
        names = ["x0", "x1", "x2"]
    before = received(lab)
    attached.ok("allow", entries[1])
    assert answered(lab, family) == EVERYBODY
    if family == 4:
        assert received(lab) - before == len(EVERYBODY) + 1
    assert found() == {names[0]: (0, 0, 1), names[1]: (0, 1, 0), names[2]: (0, 0, 1)}
    with Connection(lab, family) as connection:
        connection.talk(20)
        established, allowed, other = found()[names[0]]
        assert established >= 20
        # The SYN is a listener's, and the ACK behind it that of a handshake under way.
        assert (allowed, other) == (0, 1 + 2)
        assert found()[names[2]] == (0, 0, 1)
        reasons = on(attached.json("stats"), INTERFACE)["reasons"]
        assert reasons["deny"]["packets"] == 0


def test_beside_real_ones(attached: Command, lab: Lab) -> None:
    """Real entries decide, and nobody else notices; then it is the shadow entry's turn."""
    source = client_address(4)
    attached.ok("block", source)
    attached.ok("block", "--shadow", source)
    assert answered(lab, 4) == without(0)
    assert split(shadow_rules(attached)[source]) == (0, 0, 0)
    assert [rule["kind"] for rule in attached.json("rules")] == ["block", "shadow"]
    assert [rule["packets"] for rule in attached.json("rules", "--kind", "block")] == [1]
    assert "no longer counting" in attached.ok("unblock", "--shadow", source)
    assert answered(lab, 4) == without(0)
    attached.ok("block", "--shadow", source)
    attached.ok("unblock", source)
    assert attached.json("rules") == [], "unblock takes both away"
    assert answered(lab, 4) == EVERYBODY
    attached.ok("lists", "load", "x", "-", stdin="198.18.0.8/29\n")
    load(attached, "x", source)
    assert answered(lab, 4) == without(*range(6)), "no hole in a list"
    real, shadow = attached.json("lists", "show", "x")
    assert (real["shadow"], real["entries"], shadow["shadow"], shadow["packets"]) == (False, 1, True, 0)
    attached.ok("lists", "remove", "x", "--shadow")
    assert shown(attached, "x")["shadow"] is False
    load(attached, "x", source)
    attached.ok("lists", "remove", "x")
    assert attached.json("lists", "show") == []
    assert answered(lab, 4) == EVERYBODY


def test_a_rule_ends(attached: Command, lab: Lab) -> None:
    source = client_address(4)
    attached.ok("block", "--shadow", source, "--for", "2s")
    assert answered(lab, 4) == EVERYBODY
    assert split(shadow_rules(attached)[source])[2] == 1
    assert eventually(lambda: not shadow_rules(attached))
    assert "no shadow rule" in attached.refused(1, "promote", source)
    attached.ok("block", "--shadow", source)
    assert split(shadow_rules(attached)[source]) == (0, 0, 0), "a new rule begins at zero"


@pytest.mark.parametrize("family", FAMILIES)
def test_promoting(attached: Command, lab: Lab, family: Family) -> None:
    """What it keeps, that it drops from then on, and that what hit nobody needs no --force."""
    first, second, third = (client_address(family, client) for client in (0, 1, 2))
    attached.ok("block", "--shadow", first, second, "--for", "1h", "--reason", "a reason")
    load(attached, "x", third)
    assert answered(lab, family) == EVERYBODY
    old = shadow_rules(attached)
    assert "would promote 1 rule" in attached.ok("promote", first, "--dry-run")
    assert shadow_rules(attached) == old
    assert answered(lab, family) == EVERYBODY
    told = attached.ok("promote", first)
    assert "2 of others" in told
    assert "promoted 1 rule" in told
    assert answered(lab, family) == without(0)
    (real,) = attached.json("rules", "--kind", "block")
    assert {key: real[key] for key in ("target", "reason", "source", "created", "expires")} == {
        key: old[first][key] for key in ("target", "reason", "source", "created", "expires")
    }
    assert real["packets"] == 1
    assert set(shadow_rules(attached)) == {second}
    done = attached.json("promote", "--all")
    assert (done["promoted"], len(done["rules"]), [it["name"] for it in done["lists"]]) == (True, 1, ["x"])
    assert done["other"]["packets"] == 3 + 3
    assert answered(lab, family) == without(0, 1, 2)
    assert shadow_rules(attached) == {}
    assert (shown(attached, "x")["shadow"], shown(attached, "x")["packets"]) == (False, 1)
    assert "nothing to promote" in attached.refused(1, "promote", "--all")
    attached.ok("detach", "--all")
    attach(attached, lab)
    assert answered(lab, family) == without(0, 1, 2)


def test_what_hits_established_peers_needs_force(attached: Command, lab: Lab) -> None:
    source = client_address(4)
    attached.ok("block", "--shadow", source, "203.0.113.9")
    load(attached, "x", "198.18.0.8/29")
    with Connection(lab, 4) as connection, Connection(lab, 4, 3, PORT + 1) as other:
        connection.talk(5)
        other.talk(5)
        for words in (["promote", source], ["promote", "--all"], ["promote", "--all", "--dry-run"]):
            assert "of established peers" in attached.refused(1, *words)
            assert set(shadow_rules(attached)) == {source, "203.0.113.9"}
        refused = attached.refused(1, "promote", "--list", "x")
        assert "list x would have" in refused and "xdpguard lists show" in refused
        connection.talk(1)
        attached.ok("promote", "203.0.113.9")
        attached.ok("promote", source, "--force")
        assert connection.silent()
        other.talk(1)
        attached.ok("promote", "--list", "x", "--force")
        assert other.silent()


def test_what_the_host_needs_is_not_cut_off(attached: Command, lab: Lab) -> None:
    with entered(lab.server):
        probe = subprocess.run(["ip", "route", "show", "default"], capture_output=True, text=True, check=True)
    gateway = probe.stdout.split()[2] if probe.stdout else ""
    if gateway:
        load(attached, "x", gateway)
        assert "is" in attached.refused(1, "promote", "--list", "x")
    attached.ok("block", "--shadow", "0.0.0.0/0")
    assert "every IPv4 address" in attached.refused(1, "promote", "0.0.0.0/0")
    assert answered(lab, 4) == EVERYBODY


STEPS = ["begin", "lists", "shadow-rules", "shadow-lists", "commit", "done"]


@pytest.mark.parametrize("heal", ["block", "attach"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_while_promoting(attached: Command, lab: Lab, step: str, heal: str) -> None:
    """All of it or nothing, in store and kernel after the next change; and never a moment without either."""
    rule, listed = client_address(4, 0), client_address(4, 1)
    attached.ok("block", "--shadow", rule)
    load(attached, "x", listed)
    attached.ok("lists", "load", "y", "-", stdin=f"{client_address(4, 2)}\n")
    result = attached("promote", "--all", kill_at=step)
    assert result.code == -signal.SIGKILL, result
    assert answered(lab, 4) in (without(2), without(0, 2), without(0, 1, 2))
    done = step == "done"
    assert set(shadow_rules(attached)) == (set() if done else {rule})
    if heal == "block":
        attached.ok("block", "203.0.113.77")
    else:
        attach(attached, lab)
    assert answered(lab, 4) == (without(0, 1, 2) if done else without(2))
    audit = attached.json("status")["audit"]
    assert (audit["ratio"], audit["behind"], audit["shadow"]["behind"]) == (1, False, False)
    assert all(it["held"] == it["stored"] for it in (audit["shadow"]["rules"], *audit["shadow"]["lists"].values()))
    if not done:
        assert split(shadow_rules(attached)[rule])[2] >= 1, "it counts again"
        attached.ok("promote", "--all")
        assert answered(lab, 4) == without(0, 1, 2)


@pytest.mark.parametrize("step", ["begin", "shadow-rules"])
def test_killed_while_taking_both_away(attached: Command, lab: Lab, step: str) -> None:
    source = client_address(4)
    attached.ok("block", source)
    attached.ok("block", "--shadow", source)
    assert attached("unblock", source, kill_at=step).code == -signal.SIGKILL
    attached.ok("block", "203.0.113.77")
    assert answered(lab, 4) == without(0)
    assert {rule["kind"] for rule in attached.json("rules") if rule["target"] == source} == {"block", "shadow"}
    attached.ok("unblock", source)
    assert answered(lab, 4) == EVERYBODY


def test_counts_outlive_detaching_and_swapping(attached: Command, lab: Lab) -> None:
    source = client_address(4)
    attached.ok("block", "--shadow", source)
    load(attached, "x", client_address(4, 1))
    for turn in range(1, 4):
        assert answered(lab, 4) == EVERYBODY
        if turn == 1:
            attach(attached, lab)
        else:
            attached.ok("detach", "--all")
            assert split(shadow_rules(attached)[source])[2] == turn
            attach(attached, lab)
            assert answered(lab, 4) == EVERYBODY if turn == 3 else True
        wanted = turn if turn < 3 else 4
        assert split(shadow_rules(attached)[source]) == (0, 0, wanted)
        assert split(shown(attached, "x")) == (0, 0, wanted)


def test_without_anything_attached(command: Command, lab: Lab, echo: Echo) -> None:
    del echo
    source = client_address(4)
    assert "counts from the next attach" in command("block", "--shadow", source).err
    load(command, "x", client_address(4, 1))
    attach(command, lab)
    assert answered(lab, 4) == EVERYBODY
    assert split(shadow_rules(command)[source]) == split(shown(command, "x")) == (0, 0, 1)
    command.ok("detach", "--all")
    command.ok("promote", "--all")
    attach(command, lab)
    assert answered(lab, 4) == without(0, 1)


def test_an_audit_restores_what_is_missing(attached: Command, lab: Lab, tmp_path: Path) -> None:
    source = client_address(4)
    attached.ok("block", "--shadow", source)
    load(attached, "x", client_address(4, 1))
    pins = Pins(BPFFS, attached.instance)
    descriptor = pins.open("shadow4", abi.PREFIX4.size, abi.RULE.size)
    with ExitStack() as stack:
        assert kernel.delete(descriptor, abi.PREFIX4.pack(32, socket.inet_aton(source)))
        with ShadowListMaps(pins) as maps:
            maps.empty()
        shadow = attached.json("status")["audit"]["shadow"]
        assert (shadow["rules"], shadow["lists"]["x"]["held"]) == ({"stored": 1, "held": 0}, 0)
        assert attached.json("status")["audit"]["ratio"] == 1, "nothing that drops is missing"
        assert answered(lab, 4) == EVERYBODY
        assert split(shadow_rules(attached)[source]) == (0, 0, 0)
        service = stack.enter_context(watched(attached, tmp_path))
        assert eventually(lambda: attached.json("status")["audit"]["shadow"]["rules"]["held"] == 1, 60)
        assert eventually(lambda: attached.json("status")["audit"]["shadow"]["lists"]["x"]["held"] == 1, 60)
        assert answered(lab, 4) == EVERYBODY
        scrape = service.scrape()
        assert scrape("xdpguard_shadow_packets_total", **{"class": "other"}) == 2
        assert scrape("xdpguard_shadow_entries", of="rules") == 1
        assert scrape("xdpguard_shadow_entries", of="lists") == 1
        attached.ok("promote", "--all")
        assert answered(lab, 4) == without(0, 1)
        scrape = service.scrape()
        assert scrape("xdpguard_shadow_packets_total", **{"class": "other"}) == 2, "it only rises"
        assert scrape("xdpguard_shadow_entries", of="rules") == 0


@pytest.mark.timeout(300)
def test_a_million_entries(attached: Command, lab: Lab, tmp_path: Path) -> None:
    write_big(tmp_path / "big", 3, *(client_address(4, client) for client in range(3)), count=MILLION)
    begun = time.monotonic()
    attached.ok("lists", "load", "big", str(tmp_path / "big"), "--shadow")
    print(f"loaded in {time.monotonic() - begun:.2f} s")
    assert answered(lab, 4) == EVERYBODY
    found = shown(attached, "big")
    assert (found["given"], found["shadow"], found["held"]) == (MILLION, True, found["entries"])
    assert split(found) == (0, 0, 3)
    attached.ok("promote", "--list", "big")
    assert answered(lab, 4) == without(0, 1, 2)
    found = shown(attached, "big")
    assert (found["shadow"], found["held"], found["packets"]) == (False, found["entries"], 3)


def test_a_list_of_the_configuration(command: Command, lab: Lab, echo: Echo, tmp_path: Path) -> None:
    del echo
    (tmp_path / "list").write_text(f"{client_address(4)}\n")
    config = tmp_path / "config.toml"
    config.write_text('[lists.x]\nfile = "list"\nshadow = true\n')
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert answered(lab, 4) == EVERYBODY
    assert split(shown(command, "x")) == (0, 0, 1)
    assert "configuration file" in command.refused(1, "promote", "--list", "x")
    config.write_text('[lists.x]\nfile = "list"\n')
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert answered(lab, 4) == without(0)
    assert shown(command, "x")["shadow"] is False
    config.write_text('[lists.x]\nfile = "list"\nshadow = true\n')
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert answered(lab, 4) == EVERYBODY
    config.write_text("")
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert command.json("lists", "show") == []
    config.write_text('[lists.x]\nfile = "list"\nshadow = 1\n')
    assert "shadow" in command.refused(2, "attach", INTERFACE, "--netns", lab.server, "--config", str(config))


def test_explain_tells_of_them(attached: Command) -> None:
    source = client_address(4)
    attached.ok("block", "--shadow", "198.18.0.0/16", "--reason", "why")
    load(attached, "x", source)
    line = f"udp {source}:4000 > {server_address(4)}:9 len=30"
    found = attached.json("explain", line)
    assert (found["verdict"], found["reason"]) == ("PASS", "pass")
    assert (found["shadow"]["target"], found["shadow"]["class"]) == ("198.18.0.0/16", "other")
    assert "would be dropped if promoted: shadow 198.18.0.0/16" in attached.ok("explain", line)
    about = attached.json("explain", source)
    assert [it.get("target") or it["list"] for it in about["shadow"]] == ["198.18.0.0/16", "x"]
    assert about["outcome"] is None
    assert "would be dropped if promoted" in attached.ok("explain", source)
    attached.ok("unblock", "198.18.0.0/16")
    assert attached.json("explain", line)["shadow"]["list"] == "x"
    attached.ok("allow", source)
    assert attached.json("explain", line)["shadow"]["class"] == "allowed"
    attached.ok("disallow", source)
    attached.ok("block", source)
    assert attached.json("explain", line)["shadow"] is None


def test_bad_input(command: Command) -> None:
    for code, words in (
        (2, ["block", "--shadow"]),
        (2, ["block", "--shadow", "nonsense"]),
        (2, ["block", "--shadow", "192.0.2.1", "--for", "soon"]),
        (2, ["block", "--shadow", "192.0.2.1", "--reason", "two\nlines"]),
        (2, ["block", "--shadow", "--port", "80"]),
        (2, ["block", "--shadow", "--force", "192.0.2.1"]),
        (1, ["unblock", "--shadow", "192.0.2.1"]),
        (1, ["unblock", "192.0.2.1"]),
        (2, ["promote"]),
        (1, ["promote", "192.0.2.1"]),
        (1, ["promote", "--list", "nosuch"]),
        (1, ["promote", "--all"]),
        (2, ["promote", "--all", "192.0.2.1"]),
        (1, ["lists", "remove", "--shadow", "nosuch"]),
    ):
        command.refused(code, *words)
    text = "".join(f"10.{n >> 8}.{n & 255}.1\n" for n in range(abi.SHADOW_RULES))
    command.ok("block", "--shadow", "-", stdin=text)
    assert "lists load" in command.refused(1, "block", "--shadow", "192.0.2.1")
    assert len(command.json("rules", "--kind", "shadow")) == abi.SHADOW_RULES
    command.ok("unblock", "-", stdin=text)
    assert command.json("rules") == []


def test_a_store_of_before_shadow_entries(command: Command, lab: Lab, echo: Echo) -> None:
    del echo
    command.store.parent.mkdir(parents=True)
    old_stores.empty(command.store, 3)
    with sqlite3.connect(command.store) as database:
        database.execute(
            "INSERT INTO rules (kind, target, version, network, length, reason, source, created, slot)"
            " VALUES ('block', ?, 4, ?, 32, '', 'cli', 0, 0)",
            (client_address(4), socket.inet_aton(client_address(4))),
        )
    database.close()
    assert [rule["kind"] for rule in command.json("rules")] == ["block"]
    assert command.json("lists", "show") == []
    attach(command, lab)
    command.ok("block", "--shadow", client_address(4, 1))
    assert answered(lab, 4) == without(0)
    assert split(shadow_rules(command)[client_address(4, 1)]) == (0, 0, 1)


def test_rules_show_the_split(attached: Command, lab: Lab) -> None:
    attached.ok("block", "--shadow", client_address(4))
    load(attached, "x", client_address(4, 1))
    assert works(lab, 4, "udp")
    text = attached.ok("rules")
    assert "established" in text
    assert "allowed" in text
    assert client_address(4) in text
    assert "shadow" in attached.ok("lists", "show")
    assert "1 rule, x (1)" in attached.ok("status")
    clear(attached)


def test_a_syn_that_is_answered_is_its_senders(attached: Command, lab: Lab) -> None:
    """The frame is the guard's answer by then, with the addresses the other way round."""
    source = client_address(4)
    attached.ok("block", "--shadow", source, server_address(4))
    with sysctls(lab, tcp_syncookies=2, tcp_timestamps=1):
        attached.ok("guard", "set", "mode=always")
        sent = start_flood(lab, "syn", "--source", source, "--count", "50", "--rate", "1000", "--port", str(ECHO))
        sent.communicate(timeout=60)
    reasons = on(attached.json("stats"), INTERFACE)["reasons"]
    assert reasons["cookie_sent"]["packets"] >= 50
    found = shadow_rules(attached)
    assert split(found[source])[0] == 0
    assert split(found[source])[2] >= 50
    assert split(found[server_address(4)]) == (0, 0, 0)


def test_top_reads_them(attached: Command, lab: Lab) -> None:
    source = client_address(4)
    attached.ok("block", "--shadow", source)
    attached.ok("block", client_address(4, 1))
    assert answered(lab, 4) == without(1)
    pins = Pins(BPFFS, attached.instance)

    @contextmanager
    def session() -> Iterator[Controller]:
        with Store(attached.store, read_only=True) as store:
            yield Controller(store, KernelDataplane(pins), Links())

    rules = Reader(pins, attached.store, session)().rules
    shown = [
        (rule.label, str(rule.target), int(hits))
        for rule, hits in zip(rules.of.rules, rules.hits[:, 0].tolist(), strict=True)
    ]
    assert shown == [("block", client_address(4, 1), 1), ("shadow", source, 1)]


def test_a_list_in_shadow_that_a_filter_asks(attached: Command, tmp_path: Path) -> None:
    """It cuts nobody off by itself; by the filter it would, and --force does it all the same."""
    peer = "192.0.2.77"
    session = {"SSH_CONNECTION": f"{peer} 40000 {SERVER4} 22"}
    listed = tmp_path / "list.txt"
    listed.write_text("203.0.113.0/24\n")
    attached.ok("lists", "load", "bad", str(listed), "--shadow")
    attached.ok("filter", "add", "x", "ip saddr @bad tcp dport 22", "--drop", **session)
    listed.write_text("192.0.2.0/24\n")
    refused = attached("lists", "load", "bad", str(listed), "--shadow", **session)
    assert refused.code == 1
    assert f"{peer} is" in refused.err
    assert "the filter x would drop its packets" in refused.err
    assert "use --force to override" in refused.err
    line = f"tcp {peer}:40000 > {SERVER4}:22 A"
    assert attached.json("explain", line)["verdict"] != "DROP"
    attached.ok("lists", "load", "bad", str(listed), "--shadow", "--force", **session)
    assert attached.json("explain", line)["verdict"] == "DROP"
