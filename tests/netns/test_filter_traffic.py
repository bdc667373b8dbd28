# SPDX-License-Identifier: GPL-2.0
"""Filters on real traffic: what they drop, pass, count and limit, in which order, until when, and who is refused."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from support.command import Command, on
from support.lists import EVERYBODY, answered, received, without
from support.service import Service
from support.sshd import Sshd
from support.traffic import PORT, Echo, Family, client_address, eventually, works
from topology import CLIENTS4, INTERFACE, SERVER4, Lab

from xdpguard.net.netns import entered

FAMILIES: list[Family] = [4, 6]
SADDR = {4: "ip saddr", 6: "ip6 saddr"}
CLIENTS = f"ip saddr {{ {', '.join(CLIENTS4)} }} udp dport {PORT}"
FIRST, SECOND, THIRD = (client_address(4, number) for number in range(3))


@pytest.fixture
def attached(lab: Lab, attached: Command, echo: Echo) -> Command:
    del echo
    assert answered(lab, 4) == EVERYBODY, "positive control: without a filter everybody passes"
    return attached


def add(command: Command, name: str, match: str, *options: str) -> str:
    return command.ok("filter", "add", name, match, *(options or ("--drop",)))


def shown(command: Command, name: str) -> Any:
    return command.json("filter", "show", name)


def hits(command: Command, name: str) -> tuple[int, int]:
    """Packets that it matched, and those of them above its limit."""
    its = shown(command, name)
    return its["packets"], its["limited_packets"]


def names(command: Command) -> list[str]:
    return [it["name"] for it in command.json("filter", "list")]


def dropped(command: Command, reason: str) -> int:
    found: int = on(command.json("stats"), INTERFACE)["reasons"][reason]["packets"]
    return found


def send(lab: Lab, count: int, client: int = 0, size: int = 20) -> int:
    """Sends datagrams from a client; returns how many the server's stack has got of them."""
    before = received(lab)
    with entered(lab.outside):
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with made:
        made.bind((client_address(4, client), 0))
        for _ in range(count):
            made.sendto(bytes(size), (SERVER4, PORT))
    after = len(answered(lab, 4))  # once these are back, those before them have come, too
    return received(lab) - before - after - 1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_filter_drops_what_it_matches_and_nothing_else(attached: Command, lab: Lab, family: Family) -> None:
    source = client_address(family)
    assert answered(lab, family) == EVERYBODY, "positive control"
    said = add(attached, "x", f"{SADDR[family]} {source} udp dport {PORT}", "--drop", "--reason", "why")
    assert f"filter x: drop {SADDR[family]} {source} udp dport {PORT}" in said
    assert answered(lab, family) == without(0)
    assert works(lab, family, "tcp"), "another protocol of the same source passes"
    assert hits(attached, "x") == (1, 0)
    assert dropped(attached, "filter") == 1
    assert shown(attached, "x")["in_force"] is True
    assert attached.ok("filter", "remove", "x") == "removed the filter x\n"
    assert answered(lab, family) == EVERYBODY
    assert attached.json("filter", "list") == []


def test_more_fields_than_an_address(attached: Command, lab: Lab) -> None:
    """Ports as ranges and sets, flags, lengths; each lets through what differs in it."""
    for match, udp, tcp in (
        (f"udp dport {PORT - 5}-{PORT + 5}", False, True),
        (f"udp dport {{ 1, {PORT} }} meta length < 100", False, True),
        (f"udp dport {PORT} meta length > 100", True, True),
        (f"tcp dport {PORT} tcp flags & (syn | ack) == syn", True, False),
        (f"ip saddr {FIRST} meta l4proto != tcp", False, True),
        (f"ip saddr {FIRST} ip daddr {SERVER4}", False, False),
        (f"ip saddr != {FIRST} udp dport {PORT}", True, True),
    ):
        add(attached, "x", match)
        assert (works(lab, 4, "udp"), works(lab, 4, "tcp")) == (udp, tcp), match
        attached.ok("filter", "remove", "x")
    assert works(lab, 4, "udp")
    assert works(lab, 4, "tcp")


def test_the_first_that_decides(attached: Command, lab: Lab) -> None:
    add(attached, "all", CLIENTS)
    assert answered(lab, 4) == frozenset()
    add(attached, "friends", f"ip saddr {{ {FIRST}, {SECOND} }}", "--pass", "--before", "all")
    add(attached, "count", CLIENTS, "--count", "--before", "friends")
    assert names(attached) == ["count", "friends", "all"]
    assert answered(lab, 4) == {0, 1}
    assert (hits(attached, "count")[0], hits(attached, "friends")[0]) == (len(EVERYBODY), 2)
    assert hits(attached, "all")[0] == 2 * len(EVERYBODY) - 2
    assert "friends is asked last, after all" in attached.ok("filter", "move", "friends", "--last")
    assert answered(lab, 4) == frozenset()
    attached.ok("filter", "move", "friends", "--before", "all")
    assert answered(lab, 4) == {0, 1}
    attached.ok("filter", "remove", "all", "count", "friends")
    assert answered(lab, 4) == EVERYBODY


def test_what_decides_before_filters(attached: Command, lab: Lab) -> None:
    add(attached, "all", CLIENTS)
    add(attached, "pass", f"ip saddr {FIRST}", "--pass", "--before", "all")
    attached.ok("allow", SECOND)
    attached.ok("block", FIRST)
    assert answered(lab, 4) == {1}, "a block is before what a filter passes, an allow rule before what it drops"


def test_a_filter_in_shadow(attached: Command, lab: Lab) -> None:
    add(attached, "x", f"ip saddr {FIRST} udp dport {PORT}", "--drop", "--shadow")
    add(attached, "y", f"ip saddr {FIRST} udp dport {PORT}", "--limit", "1/h", "--burst", "1", "--shadow")
    assert answered(lab, 4) == EVERYBODY
    assert send(lab, 4) == 4
    assert hits(attached, "x") == (6, 0), "one of each `answered`, and the four"
    assert hits(attached, "y") == (6, 5)
    assert (dropped(attached, "filter"), dropped(attached, "filter_limit")) == (0, 0)
    assert "promote" in attached("promote", "--filter", "x", "--dry-run").out
    assert answered(lab, 4) == EVERYBODY
    assert "promoted 1 filter" in attached.ok("promote", "--filter", "x")
    assert answered(lab, 4) == without(0)
    assert (shown(attached, "x")["mode"], hits(attached, "x")) == ("enforce", (1, 0))
    assert "enforced already" in attached.refused(1, "promote", "--filter", "x")
    attached.ok("filter", "remove", "x")
    attached.ok("promote", "--all")
    assert shown(attached, "y")["mode"] == "enforce"


def test_a_filter_ends(attached: Command, lab: Lab) -> None:
    add(attached, "x", f"ip saddr {FIRST}", "--drop", "--for", "3s")
    add(attached, "y", f"ip saddr {SECOND}", "--drop", "--for", "1h")
    assert answered(lab, 4) == without(0, 1)
    assert eventually(lambda: answered(lab, 4) == without(1)), "no command has run meanwhile"
    assert names(attached) == ["y"]
    assert "the filter x ended by itself at" in attached.refused(1, "filter", "remove", "x")
    attached.ok("attach", INTERFACE, "--netns", lab.server)
    assert answered(lab, 4) == without(1)
    assert 3000 < shown(attached, "y")["expires"] - time.time() <= 3600


def test_a_limit(attached: Command, lab: Lab) -> None:
    add(attached, "x", f"udp dport {PORT}", "--limit", "1/h", "--burst", "10", "--per", "source")
    assert send(lab, 30) == 10
    assert send(lab, 5, client=1) == 5, "each source has its own"
    assert hits(attached, "x")[1] == 20 + 2, "and one of the first in each `answered`"
    assert dropped(attached, "filter_limit") == 22


def test_a_limit_of_all_sources(attached: Command, lab: Lab) -> None:
    before = received(lab)
    add(attached, "x", f"ip saddr {{ {FIRST}, {SECOND} }} udp dport {PORT}", "--limit", "1/h", "--burst", "10")
    with entered(lab.outside):
        made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for number, one in enumerate(made):
        with one:
            one.bind((client_address(4, number), 0))
            for _ in range(10):
                one.sendto(b"hello", (SERVER4, PORT))
    assert answered(lab, 4) == without(0, 1), "the others have no limit"
    assert received(lab) - before == 10 + len(EVERYBODY) + 1 - 2
    assert hits(attached, "x") == (22, 12)
    assert dropped(attached, "filter_limit") == 12


def test_lists_in_filters(attached: Command, lab: Lab) -> None:
    """A list in shadow drops nothing by itself, and in a filter what that says; both follow it."""
    refused = attached.refused(1, "filter", "add", "x", f"ip saddr @bad udp dport {PORT}", "--drop")
    assert "there is no list bad" in refused
    attached.ok("lists", "load", "bad", "-", "--shadow", stdin=f"{FIRST}\n{SECOND}\n")
    assert answered(lab, 4) == EVERYBODY
    add(attached, "x", f"ip saddr @bad udp dport {PORT}", "--drop")
    assert answered(lab, 4) == without(0, 1)
    assert works(lab, 4, "tcp"), "another port is none of its business"
    attached.ok("lists", "load", "bad", "-", "--shadow", stdin=f"{THIRD}\n")
    assert answered(lab, 4) == without(2)
    assert "the filter x asks the list bad" in attached.refused(1, "lists", "remove", "bad")
    assert answered(lab, 4) == without(2)
    attached.ok("undo")
    assert answered(lab, 4) == without(0, 1), "the list is as before, and the filter follows"
    attached.ok("filter", "remove", "x")
    attached.ok("lists", "remove", "bad")
    assert answered(lab, 4) == EVERYBODY


def test_an_entry_of_a_list_ends_in_a_filter(attached: Command, lab: Lab) -> None:
    """`run` takes it out."""
    its = f"create a hash:ip family inet timeout 0\nadd a {FIRST} timeout 4\nadd a {SECOND}\n"
    attached.ok("lists", "load", "bad", "-", "--shadow", stdin=its)
    add(attached, "x", f"ip saddr @bad udp dport {PORT}")
    assert answered(lab, 4) == without(0, 1)
    with Service(attached) as service:
        assert service.says("guard")
        assert eventually(lambda: answered(lab, 4) == without(1), 60)


def test_undo_and_confirm(attached: Command, lab: Lab) -> None:
    add(attached, "x", f"ip saddr {FIRST}", "--drop", "--confirm", "60s")
    assert answered(lab, 4) == without(0)
    attached.ok("confirm")
    attached.ok("filter", "remove", "x")
    assert answered(lab, 4) == EVERYBODY
    assert "filter x: as before" in attached.ok("undo")
    assert answered(lab, 4) == without(0)
    assert "filter x: removed" in attached.ok("undo")
    assert answered(lab, 4) == EVERYBODY
    add(attached, "y", f"ip saddr {SECOND}", "--drop", "--confirm", "2s")
    assert answered(lab, 4) == without(1)
    assert eventually(lambda: answered(lab, 4) == EVERYBODY)
    assert names(attached) == []


CONFIG = """
[[filters]]
name = "first"
match = "ip saddr {first}"
action = "drop"
[[filters]]
name = "second"
match = "ip saddr {second} udp dport 7000"
action = "drop"
"""


def test_filters_of_a_configuration(command: Command, lab: Lab, echo: Echo, tmp_path: Path) -> None:
    del echo
    config = tmp_path / "guard.toml"
    config.write_text(CONFIG.format(first=FIRST, second=SECOND))
    command.ok("attach", INTERFACE, "--netns", lab.server)
    add(command, "mine", f"ip saddr {THIRD}")
    assert answered(lab, 4) == without(2)
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert answered(lab, 4) == without(0, 1, 2)
    assert names(command) == ["first", "second", "mine"]
    assert "of the configuration file" in command.refused(1, "filter", "remove", "first")
    config.write_text(CONFIG.format(first=FIRST, second=SECOND).replace("drop", "count", 1))
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert answered(lab, 4) == without(1, 2)
    with Service(command) as service:
        assert service.says("guard")
        config.write_text(CONFIG.format(first=FIRST, second=client_address(4, 4)))
        service.signal(signal.SIGHUP)
        assert service.says("configuration reloaded")
        assert answered(lab, 4) == without(0, 2, 4)
        config.write_text("[[filters]]\nname = 'x'\nmatch = 'nonsense'\naction = 'drop'\n")
        service.signal(signal.SIGHUP)
        assert service.says("the configuration was rejected")
    assert answered(lab, 4) == without(0, 2, 4)
    command.ok("attach", INTERFACE, "--netns", lab.server, "--no-config")
    assert answered(lab, 4) == without(2)
    assert names(command) == ["mine"]


def test_a_new_attach_and_a_new_machine(command: Command, lab: Lab, echo: Echo) -> None:
    """Filters outlive the maps, with what they counted."""
    del echo
    add(command, "x", f"ip saddr {FIRST}")
    assert "nothing is attached" in command("filter", "list").err
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert answered(lab, 4) == without(0)
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert answered(lab, 4) == without(0)
    assert hits(command, "x") == (2, 0)
    command.ok("detach", "--all")
    assert hits(command, "x") == (2, 0)
    assert answered(lab, 4) == EVERYBODY
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert answered(lab, 4) == without(0)
    assert hits(command, "x") == (3, 0)


def test_a_lost_store(command: Command, lab: Lab, echo: Echo) -> None:
    """The kernel cannot tell what its filters were: the copy, made at once, has them."""
    del echo
    command.ok("attach", INTERFACE, "--netns", lab.server)
    add(command, "x", f"ip saddr {FIRST}")
    add(command, "y", f"ip saddr {SECOND}", "--count")
    command.store.unlink()
    assert answered(lab, 4) == without(0)
    result = command("recover")
    assert (result.code, "filters: 2" in result.out, "cannot be read back" in result.err) == (0, True, False), result
    assert names(command) == ["x", "y"]
    assert answered(lab, 4) == without(0)
    command.store.unlink()
    command.store.with_suffix(".last").unlink()
    assert "cannot be read back from it: they are no longer in force" in command("recover").err
    assert names(command) == []
    assert answered(lab, 4) == EVERYBODY


@pytest.mark.parametrize("step", ["mark", "begin", "filters", "commit", "done"])
def test_killed_while_a_filter_is_added(attached: Command, lab: Lab, step: str) -> None:
    """All of it or nothing, in store and kernel after the next command, whatever that is of."""
    add(attached, "old", f"ip saddr {SECOND}")
    result = attached("filter", "add", "new", f"ip saddr {FIRST}", "--drop", kill_at=step)
    assert result.code == -signal.SIGKILL
    reached = step in ("commit", "done")
    assert answered(lab, 4) == (without(0, 1) if reached else without(1))
    attached.ok("block", "--shadow", "203.0.113.9")
    done = step == "done"
    assert answered(lab, 4) == (without(0, 1) if done else without(1))
    assert names(attached) == (["old", "new"] if done else ["old"])
    audit = attached.json("status")["audit"]
    assert (audit["ratio"], audit["behind"], audit["filters"]["held"]) == (1, False, 1 + done)


def test_who_is_logged_in_is_not_cut_off(attached: Command, lab: Lab) -> None:
    with Sshd() as sshd:
        with entered(lab.server):
            listener = socket.create_server((SERVER4, 2222))
        with entered(lab.outside):
            client = socket.create_connection((SERVER4, 2222), 10, source_address=(FIRST, 0))
        with listener, client:
            server, _ = listener.accept()
            with server:
                sshd.logged_in(server)
                above = "would drop some of its packets once all that it matches exceeds 10/s"
                for what, does in ((["--drop"], "would drop its packets"), (["--limit", "10/s"], above)):
                    refused = attached.refused(1, "filter", "add", "x", "tcp dport 2000-3000", *what)
                    assert f"{FIRST} is the other end of an SSH session to this host in {lab.server}" in refused
                    assert f"the filter x {does}" in refused
                add(attached, "x", "tcp dport 2000-3000 tcp flags & (syn | ack) == syn")
                add(attached, "ssh", f"ip saddr {FIRST}", "--pass")
                refused = attached.refused(1, "filter", "add", "y", "tcp dport 2222", "--drop", "--before", "ssh")
                assert "the filter y would drop" in refused
                add(attached, "y", "tcp dport 2222", "--drop")
                for words in (("remove", "ssh"), ("move", "ssh", "--last"), ("move", "y", "--before", "ssh")):
                    assert "the filter y would drop" in attached.refused(1, "filter", *words)
                client.sendall(b"still here")
                assert eventually(lambda: hits(attached, "ssh")[0] > 0)
                assert hits(attached, "y") == (0, 0)
                attached.ok("filter", "remove", "ssh", "--force")
                assert names(attached) == ["x", "y"]


def test_events_name_the_filter(attached: Command, lab: Lab) -> None:
    add(attached, "long", f"ip saddr {FIRST} udp dport {PORT} meta length > 512", "--drop", "--reason", "too long")
    assert send(lab, 2, size=600) == 0
    assert send(lab, 1, size=100) == 1
    found = [it for it in attached.json("events")["events"] if it["reason"] == "filter"]
    assert found
    assert {(it["entry"]["entry"], it["entry"]["filter"], it["entry"]["reason"]) for it in found} == {
        ("filter", "long", "too long")
    }
    assert "filter long (too long)" in attached.ok("events")
    attached.ok("filter", "remove", "long")
    assert eventually(lambda: "a filter that was removed or changed since" in attached.ok("events"))


PACKET = f"udp {FIRST}:53 > {SERVER4}:{PORT} len=1400"


def test_which_filter_decides(attached: Command, lab: Lab) -> None:
    """By the program itself; nothing is counted."""
    del lab
    before = attached.json("filter", "test", PACKET)
    assert (before["verdict"], before["decided_by"], before["without"]) == ("PASS", None, None)
    add(attached, "long", f"ip saddr {FIRST} udp sport 53 meta length > 512", "--drop", "--reason", "too long")
    add(attached, "all", CLIENTS)
    found = attached.json("explain", PACKET)
    assert (found["verdict"], found["reason"], found["stage"]) == ("DROP", "filter", "filters")
    its = found["decided_by"]
    assert (its["entry"], its["filter"], its["action"], its["reason"]) == ("filter", "long", "drop", "too long")
    assert (found["without"]["verdict"], found["without"]["decided_by"]["filter"]) == ("DROP", "all")
    attached.ok("filter", "remove", "all")
    found = attached.json("filter", "test", PACKET)
    assert (found["without"]["verdict"], found["without"]["decided_by"]) == ("PASS", None)
    text = attached.ok("filter", "test", PACKET)
    assert f"by the filter long: drop ip saddr {FIRST} udp sport 53 meta length > 512" in text
    assert attached.json("filter", "test", PACKET.replace("1400", "100"))["verdict"] == "PASS"
    assert hits(attached, "long") == (0, 0)


def test_a_configuration_that_is_not_in_force(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text(f"{FIRST}\n")
    config = tmp_path / "guard.toml"
    config.write_text(
        f"{CONFIG.format(first=SECOND, second=THIRD)}[[filters]]\nname = 'x'\nmatch = 'ip saddr @bad udp sport 53'\n"
        "action = 'drop'\n[lists.bad]\nfile = 'bad'\nshadow = true\n"
    )
    for source, by in ((FIRST, "x"), (SECOND, "first"), (THIRD, "second")):
        found = command.json("filter", "test", PACKET.replace(FIRST, source), "--config", str(config))
        assert (found["verdict"], found["decided_by"]["filter"]) == ("DROP", by)
    found = command.json("filter", "test", PACKET.replace(FIRST, client_address(4, 4)), "--config", str(config))
    assert found["verdict"] == "PASS"


def test_wrong_usage(attached: Command) -> None:
    for words, code, what in (
        (("add", "x", "tcp dport 80"), 2, "give one of --drop"),
        (("add", "x", "tcp dport 80", "--drop", "--pass"), 2, "give one of --drop"),
        (("add", "x y", "tcp dport 80", "--drop"), 2, "not a filter name"),
        (("add", "x", "tcp dport 80", "--drop", "--per", "source"), 2, "burst and per go with a limit"),
        (("add", "x", "tcp dport 80", "--limit", "fast"), 2, "not a rate"),
        (("add", "x", "tcp dport 80", "--drop", "--for", "soonish"), 2, "not a duration"),
        (("add", "x", "tcp dport 80", "--drop", "--before", "y"), 1, "there is no filter y"),
        (("move", "x"), 2, "give --before NAME or --last"),
        (("move", "x", "--last"), 1, "there is no filter x"),
        (("show", "x"), 1, "there is no filter x"),
        (("remove", "x"), 1, "there is no filter x"),
    ):
        assert what in attached.refused(code, "filter", *words), words
    result = attached("filter", "add", "x", "tcp dport 8o", "--drop")
    assert result.code == 2
    assert result.err.splitlines()[:2] == ["tcp dport 8o", "          ^"]
    assert "(column 11)" in result.err.splitlines()[2]
    assert names(attached) == []


def test_a_thousand(command: Command, lab: Lab, echo: Echo, tmp_path: Path) -> None:
    """One more is added to a thousand, and the kernel has them all."""
    del echo
    path = tmp_path / "many.toml"
    lines = (f'[[filters]]\nname = "n{n}"\nmatch = "udp dport {10_000 + n}"\naction = "drop"\n' for n in range(1000))
    path.write_text("".join(lines))
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("import", str(path))
    add(command, "x", f"ip saddr {FIRST}")
    assert answered(lab, 4) == without(0)
    assert not works(lab, 4, "udp", 1, port=10_500)
    assert command.json("status")["audit"]["filters"] == {"stored": 1001, "held": 1001}
