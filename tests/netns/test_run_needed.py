# SPDX-License-Identifier: GPL-2.0
"""``xdpguard run`` where an entry blocks what the host needs: everything is in force but for that, and it is said."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from support.service import Run
from support.sshd import Sshd
from support.traffic import Echo, eventually, works
from topology import CLIENTS4, INTERFACE, OUTSIDE4, SERVER4, Lab

from xdpguard.net.netns import entered
from xdpguard.policy.rule import SAFETY

NETWORK = "198.18.0.0/24"  # of the lab: its gateway, its clients, the server itself
BLOCKED = 3  # number of a client


@pytest.fixture
def echo(lab: Lab) -> Iterator[Echo]:
    with Echo(lab) as made:
        yield made


@contextlib.contextmanager
def gateway(lab: Lab, address: str) -> Iterator[None]:
    """Another gateway for a while."""
    subprocess.run(["ip", "-n", lab.server, "route", "replace", "default", "via", address], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "-n", lab.server, "route", "replace", "default", "via", OUTSIDE4], check=True)


def reaches(lab: Lab, source: str) -> bool:
    """Whether a datagram from an address is answered."""
    with entered(lab.outside):
        asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with asker:
        asker.settimeout(0.4)
        asker.bind((source, 0))
        asker.sendto(b"hello", (SERVER4, 7000))
        try:
            return asker.recv(2048) == b"hello"
        except OSError:
            return False


def run(command: Command, lab: Lab, *arguments: str, session: str = "") -> Run:
    """``session``: the SSH_CONNECTION it was started from."""
    options = ("--attach", INTERFACE, "--netns", lab.server, *arguments)
    return Run(command, *options, SSH_CONNECTION=session) if session else Run(command, *options)


def safety_rules(command: Command) -> list[str]:
    return [str(it["target"]) for it in command.json("rules") if it["source"] == SAFETY]


def status(command: Command) -> Any:
    return command.json("status")


@pytest.mark.usefixtures("echo")
def test_a_block_that_covers_the_gateway(lab: Lab, command: Command) -> None:
    """It holds for everybody else, from the first packet on; whoever looks is told, until it is settled."""
    command.ok("block", NETWORK)
    assert reaches(lab, OUTSIDE4)
    assert works(lab, 4, "udp", BLOCKED), "nothing is attached yet"
    with run(command, lab) as service:
        assert service.says("watching eth0"), service.lines
        assert service.says(
            f"{OUTSIDE4} is let through although block {NETWORK} blocks it: it is this host's gateway in {lab.server}"
        ), service.lines
        assert not works(lab, 4, "udp", BLOCKED)
        assert reaches(lab, OUTSIDE4)
        assert safety_rules(command) == [SERVER4, OUTSIDE4]
        found = command("status")
        assert found.code == 1
        assert f"{OUTSIDE4} is let through although" in found.err
        assert f"to resolve it: xdpguard allow {OUTSIDE4}, or remove the block of {NETWORK}" in found.err
        assert {it["address"] for it in status(command)["conflicts"]} == {SERVER4, OUTSIDE4}
        assert any(OUTSIDE4 in it for it in status(command)["degraded"])
        assert f"block {NETWORK} does not apply to {SERVER4}" in command.ok("rules")
        (block,) = [it for it in command.json("rules") if it["kind"] == "block"]
        assert [it.split()[0] for it in block["left_out"]] == [SERVER4, OUTSIDE4]
        assert "let through although" in command("doctor").out
        assert command.json("explain", OUTSIDE4)["left_out_of"] == [f"block {NETWORK}"]
        assert f"exempt from block {NETWORK}" in command.ok("explain", OUTSIDE4)
        command.ok("unblock", NETWORK)
        assert service.says(f"{OUTSIDE4} is no longer let through"), service.lines
        assert eventually(lambda: safety_rules(command) == [])
        assert works(lab, 4, "udp", BLOCKED)
        assert command("status").code == 0
        assert service.end() == 0


@pytest.mark.usefixtures("echo")
def test_the_blocked_address_alone(lab: Lab, command: Command) -> None:
    """An allowance by hand settles it; the entry of the address goes on standing there."""
    command.ok("block", OUTSIDE4, CLIENTS4[BLOCKED])
    with run(command, lab) as service:
        assert service.says(f"{OUTSIDE4} is let through although block {OUTSIDE4} blocks it"), service.lines
        assert reaches(lab, OUTSIDE4)
        assert not works(lab, 4, "udp", BLOCKED), "the others are in force"
        command.ok("allow", OUTSIDE4)
        assert service.says(f"{OUTSIDE4} is no longer let through"), service.lines
        assert safety_rules(command) == []
        assert reaches(lab, OUTSIDE4)
        assert command("status").code == 0
        assert service.end() == 0


@pytest.mark.usefixtures("echo")
def test_a_list_of_the_configuration(lab: Lab, command: Command, tmp_path: Path) -> None:
    """The list is in force but for those addresses; so is the next state of its file."""
    listed = tmp_path / "list.txt"
    listed.write_text("198.18.0.0/28\n203.0.113.0/24\n")  # the gateway, the server, clients 0 to 5
    config = tmp_path / "guard.toml"
    config.write_text('[lists.drop]\nfile = "list.txt"\nevery = "10s"\n')
    with run(command, lab, "--config", str(config)) as service:
        assert service.says(f"{OUTSIDE4} is let through although the list drop blocks it"), service.lines
        assert service.says("watching eth0"), service.lines
        assert not works(lab, 4, "udp", BLOCKED)
        assert works(lab, 4, "udp", 8), "who is not in the list"
        assert reaches(lab, OUTSIDE4)
        (plain,) = command.json("lists", "show")
        assert [it.split()[0] for it in plain["left_out"]] == [SERVER4, OUTSIDE4]
        assert f"drop does not apply to {SERVER4}" in command.ok("lists", "show")
        listed.write_text("198.18.0.0/27\n")
        assert service.says("list drop loaded: 1 entry", 40), service.lines
        assert not works(lab, 4, "udp", 8)
        assert reaches(lab, OUTSIDE4)
        assert service.end() == 0


@pytest.mark.usefixtures("echo")
def test_a_reload_brings_a_list_and_the_filter_that_asks_it(lab: Lab, command: Command, tmp_path: Path) -> None:
    """At once; and one that a filter by hand asks stays, which is said and ends nothing."""
    (tmp_path / "list.txt").write_text(f"{CLIENTS4[BLOCKED]}\n")
    config = tmp_path / "guard.toml"
    config.write_text("")
    with run(command, lab, "--config", str(config)) as service:
        assert service.says("watching eth0"), service.lines
        assert works(lab, 4, "udp", BLOCKED), "positive control"
        config.write_text(
            '[lists.l]\nfile = "list.txt"\nshadow = true\n'
            '[[filters]]\nname = "f"\nmatch = "ip saddr @l"\naction = "drop"\n'
        )
        service.signal(signal.SIGHUP)
        assert service.says("configuration reloaded"), service.lines
        assert service.says("list l loaded: 1 entry"), service.lines
        assert not works(lab, 4, "udp", BLOCKED)
        assert works(lab, 4, "udp", 8), "who is not in the list"
        command.ok("filter", "add", "mine", "ip saddr @l udp dport 9", "--count")
        config.write_text("")
        service.signal(signal.SIGHUP)
        assert service.says("the filter mine asks the list l"), service.lines
        assert service.end() == 0


@pytest.mark.usefixtures("echo")
def test_a_new_gateway(lab: Lab, command: Command) -> None:
    """A blocked source becomes the gateway while `run` runs: it is let through, as long as that lasts."""
    address = CLIENTS4[BLOCKED]
    with run(command, lab) as service:
        assert service.says("watching eth0"), service.lines
        assert reaches(lab, address)
        command.ok("block", address)
        assert not reaches(lab, address)
        with gateway(lab, address):
            assert service.says(f"{address} is let through although block {address} blocks it"), service.lines
            assert reaches(lab, address)
        assert service.says(f"{address} is no longer let through"), service.lines
        assert not reaches(lab, address)
        assert command("status").code == 0
        with gateway(lab, address):
            assert eventually(lambda: reaches(lab, address))
            refused = command.refused(1, "attach", INTERFACE, "--netns", lab.server, "--mode", "generic")
            assert "modes cannot be swapped" in refused, "not because of the gateway, which is kept"
        assert service.end() == 0


@pytest.mark.usefixtures("echo")
def test_what_was_forced_stays(lab: Lab, command: Command) -> None:
    with run(command, lab) as service:
        assert service.says("watching eth0"), service.lines
        command.refused(1, "block", OUTSIDE4)
        command.ok("block", OUTSIDE4, "--force")
        assert not reaches(lab, OUTSIDE4)
        command.ok("block", CLIENTS4[BLOCKED])  # something to look at
        with gateway(lab, CLIENTS4[BLOCKED]):
            assert service.says(f"{CLIENTS4[BLOCKED]} is let through"), "it has looked"
        assert not reaches(lab, OUTSIDE4)
        assert OUTSIDE4 not in safety_rules(command)
        assert service.end() == 0
    with run(command, lab) as service:
        assert service.says("watching eth0"), service.lines
        assert not reaches(lab, OUTSIDE4), "also after a restart"
        command.ok("unblock", OUTSIDE4)
        assert reaches(lab, OUTSIDE4)
        assert service.end() == 0


@pytest.mark.usefixtures("echo")
@pytest.mark.parametrize("whose", ["a stranger's", "the caller's", "a session's"])
def test_a_connection_to_port_22(lab: Lab, command: Command, whose: str) -> None:
    """Held open by a blocked stranger it changes nothing; of who is logged in, or has started `run`, it does."""
    address = CLIENTS4[BLOCKED]
    command.ok("block", address)
    with contextlib.ExitStack() as stack:
        sshd = stack.enter_context(Sshd())
        with entered(lab.server):
            listener = stack.enter_context(socket.create_server((SERVER4, 22)))
        with entered(lab.outside):
            held = stack.enter_context(socket.create_connection((SERVER4, 22), 5, source_address=(address, 0)))
        accepted, _ = listener.accept()
        port = held.getsockname()[1]
        (sshd.logged_in if whose == "a session's" else sshd.half_logged_in)(accepted)
        session = f"{address} {port} {SERVER4} 22" if whose == "the caller's" else ""
        service = stack.enter_context(run(command, lab, session=session))
        assert service.says("watching eth0"), service.lines
        assert works(lab, 4, "udp", 4), "others get through"
        if whose == "a stranger's":
            text = f"{address} has a connection to an SSH port but is not logged in: block {address} stays in force"
            assert service.says(text), service.lines
            assert not works(lab, 4, "udp", BLOCKED)
            assert command("status").code == 0
        else:
            text = (
                f"{address} is let through although block {address} blocks it: it is where somebody is logged in from"
            )
            evidence = "SSH_CONNECTION of this command" if session else "sshd process"
            assert service.says(text), service.lines
            assert evidence in "".join(it for it in service.lines if text in it)
            assert works(lab, 4, "udp", BLOCKED)
        assert service.end() == 0


@pytest.mark.usefixtures("echo")
def test_an_allowance_that_the_configuration_names_no_more(lab: Lab, command: Command, tmp_path: Path) -> None:
    """After SIGHUP the gateway is let through at once, and it is said; also where it has become a block."""
    config = tmp_path / "guard.toml"
    command.ok("block", NETWORK)
    config.write_text(f'[rules]\nallow = ["{OUTSIDE4}", "{SERVER4}"]\n')
    with run(command, lab, "--config", str(config)) as service:
        assert service.says("watching eth0"), service.lines
        assert safety_rules(command) == []
        for text in ("", f'[rules]\nblock = ["{OUTSIDE4}"]\n'):
            begin = len(service.lines)
            config.write_text(text)
            service.signal(signal.SIGHUP)
            assert service.says("configuration reloaded", after=begin), service.lines
            assert service.says(f"{OUTSIDE4} is let through although block", after=begin), service.lines
            assert reaches(lab, OUTSIDE4)
            assert not works(lab, 4, "udp", BLOCKED)
        assert service.end() == 0


@pytest.mark.usefixtures("echo")
def test_a_restart_with_all_kinds_of_entries(lab: Lab, command: Command) -> None:
    """The gateway has become one that is blocked by hand and listed: attached all the same."""
    address = CLIENTS4[BLOCKED]
    command.ok("block", address, "203.0.113.5")
    command.ok("lists", "load", "drop", "-", stdin=f"{address}\n{CLIENTS4[5]}\n")
    with gateway(lab, address), run(command, lab) as service:
        assert service.says("watching eth0"), service.lines
        text = f"{address} is let through although block {address}, the list drop block it: it is this host's gateway"
        assert service.says(text), service.lines
        assert reaches(lab, address)
        assert not works(lab, 4, "udp", 5), "the rest of the list is in force"
        assert text in command("status").err
        assert service.end() == 0
