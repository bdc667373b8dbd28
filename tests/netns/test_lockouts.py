# SPDX-License-Identifier: GPL-2.0
"""Who is logged in cannot be blocked without --force, on whatever port; a stranger can, whatever he holds open.

Nor can what the host's routes go through; and what lets in everybody, or nobody any more, is refused.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command
from support.sshd import Sshd
from support.traffic import Echo, eventually, works
from topology import CLIENTS4, INTERFACE, OUTSIDE4, SERVER4, Lab

from xdpguard.control.needs import visitors
from xdpguard.net import nexthops
from xdpguard.net.netns import entered
from xdpguard.policy.target import parse_prefix
from xdpguard.store.database import Store

STRANGER, OPERATOR = 3, 4  # numbers of clients
MANY = 60


@pytest.fixture(scope="module")
def attached(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """An instance that is attached, the same for all tests."""
    made = Command(tmp_path_factory.mktemp("sessions") / "state")
    with Echo(lab):
        made.ok("attach", INTERFACE, "--netns", lab.server)
        yield made
        made.clean()


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    with Sshd() as made:
        yield made


@contextlib.contextmanager
def connections(lab: Lab, port: int, client: int, count: int = 1) -> Iterator[list[socket.socket]]:
    """Connections of a client to a port of the server, whose ends there are yielded."""
    with contextlib.ExitStack() as stack:
        with entered(lab.server):
            listener = stack.enter_context(socket.create_server((SERVER4, port), backlog=count))
        found = []
        for _ in range(count):
            with entered(lab.outside):
                made = socket.create_connection((SERVER4, port), 10, source_address=(CLIENTS4[client], 0))
            stack.enter_context(made)
            found.append(stack.enter_context(listener.accept()[0]))
        yield found


def test_a_stranger_with_half_logged_in_connections(attached: Command, lab: Lab, sshd: Sshd) -> None:
    address = CLIENTS4[STRANGER]
    assert works(lab, 4, "udp", STRANGER), "positive control"
    with connections(lab, 22, STRANGER, MANY) as held:
        sshd.half_logged_in(*held)
        with Store(attached.store, read_only=True) as store:
            assert visitors(store) == {parse_prefix(address)[0]}, "positive control: they are there"
        attached.ok("block", address)
        assert not works(lab, 4, "udp", STRANGER)
        attached.ok("unblock", address)
        attached.ok("lists", "load", "drop", "-", stdin=f"{address}\n")
        assert not works(lab, 4, "udp", STRANGER)
        attached.ok("lists", "remove", "drop")
        attached.ok("block", "--shadow", address)
        attached.ok("promote", address)
        assert not works(lab, 4, "udp", STRANGER)
        attached.ok("block", "--port", "22/tcp", "--for", "1m")
        attached.ok("attach", INTERFACE, "--netns", lab.server)
        assert attached("status").code == 0
        attached.ok("unblock", "--port", "22/tcp")
        attached.ok("unblock", address)


def test_who_is_logged_in_over_another_port(attached: Command, lab: Lab, sshd: Sshd) -> None:
    """By the process of sshd: the command has nothing of the session in its environment."""
    address = CLIENTS4[OPERATOR]
    with connections(lab, 2222, OPERATOR) as held:
        sshd.logged_in(*held)
        refused = attached.refused(1, "block", address)
        assert f"{address} is the other end of an SSH session to this host in {lab.server} (sshd process" in refused
        assert "bob@pts/0" in refused
        assert "2222/tcp carries the SSH session" in attached.refused(1, "block", "--port", "2222/tcp")
        assert "SSH session" in attached.refused(1, "lists", "load", "drop", "-", stdin=f"{address}\n")
        assert "(sshd process" in attached.ok("explain", address)
        attached.ok("block", "--port", "22/tcp")
        attached.ok("unblock", "--port", "22/tcp")
        attached.ok("block", "--port", "2222/tcp", "--force")
        attached.ok("allow", address)
        assert "over 2222/tcp, which is closed" in attached.refused(1, "disallow", address)
        assert "2222/tcp, which is closed when" in attached.refused(1, "allow", address, "--for", "1m", "--replace")
        attached.ok("unblock", "--port", "2222/tcp")
        attached.ok("disallow", address)
    with Sshd(), connections(lab, 2222, OPERATOR):
        attached.ok("block", address)
        attached.ok("unblock", address)


def test_the_service_sees_who_is_logged_in(command: Command, lab: Lab, sshd: Sshd) -> None:
    """With the capabilities of its unit: it has to look into processes of other users, and with more of them."""
    unit = command.ok("run", "--print-unit")
    line = next(line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
    kept = [f"+{name.removeprefix('CAP_').lower()}" for name in line.partition("=")[2].split()]
    code = "from xdpguard.net import sessions; print(*(it.peer for it in sessions.read().sessions))"
    program = ["ip", "netns", "exec", lab.server, "setpriv", f"--bounding-set=-all,{','.join(kept)}", "--no-new-privs"]
    with connections(lab, 2222, OPERATOR) as held:
        sshd.logged_in(*held)
        done = subprocess.run([*program, sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert done.stdout.strip() == CLIENTS4[OPERATOR]
        without = [it.replace(",+sys_ptrace", "") for it in program]
        done = subprocess.run([*without, sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert done.stdout.strip() == "", "positive control"


@pytest.fixture
def tunnel(lab: Lab) -> Iterator[tuple[str, str]]:
    """The inner addresses of a tunnel between the operator's machine and the server: theirs, and the server's."""
    ends = {
        lab.outside: (CLIENTS4[OPERATOR], SERVER4, "10.99.0.2"),
        lab.server: (SERVER4, CLIENTS4[OPERATOR], "10.99.0.1"),
    }
    for place, (local, remote, inner) in ends.items():
        made = f"link add tun0 type vxlan id 7 local {local} remote {remote} dstport 4789"
        for line in (made, f"address add {inner}/24 dev tun0", "link set tun0 up"):
            subprocess.run(["ip", "-n", place, *line.split()], check=True)
    yield "10.99.0.2", "10.99.0.1"
    for place in ends:
        subprocess.run(["ip", "-n", place, "link", "del", "tun0"], check=True)


def test_the_outer_end_of_the_tunnel_that_a_session_comes_through(
    attached: Command, lab: Lab, sshd: Sshd, tunnel: tuple[str, str]
) -> None:
    outer, (theirs, ours) = CLIENTS4[OPERATOR], tunnel
    with contextlib.ExitStack() as stack:
        with entered(lab.server):
            listener = stack.enter_context(socket.create_server((ours, 22)))
        with entered(lab.outside):
            operator = stack.enter_context(socket.create_connection((ours, 22), 10, source_address=(theirs, 0)))
        sshd.logged_in(listener.accept()[0])
        what = f"the outer end of a tunnel that carries an SSH session in {lab.server} (tun0)"
        assert f"{outer} is {what}" in attached.refused(1, "block", outer)
        assert what in attached.refused(1, "lists", "load", "drop", "-", stdin=f"{outer}\n")
        closed = attached.refused(1, "block", "--port", "4789/udp")
        assert f"4789/udp carries the SSH session from {outer} (tun0)" in closed
        operator.close()
    assert eventually(lambda: attached("block", outer).code == 0), "nobody is logged in any longer"
    attached.ok("unblock", outer)


CUT_OFF = {
    "another file": ('[rules]\nallow = ["192.0.2.1"]\n', "--config"),
    "no file": ("", "--no-config"),
    "a block there": (f'[rules]\nblock = ["{OUTSIDE4}"]\n', "--config"),
}


@pytest.mark.parametrize("name", CUT_OFF)
def test_a_configured_allowance_that_goes_with_an_attach(
    attached: Command, lab: Lab, tmp_path: Path, name: str
) -> None:
    """The gateway is blocked, and allowed by the configuration alone; what is attached goes on as it was."""
    text, option = CUT_OFF[name]
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(f'[rules]\nallow = ["{OUTSIDE4}"]\n')
    second.write_text(text)
    line = ("attach", INTERFACE, "--netns", lab.server)
    attached.ok(*line, "--config", str(first))
    attached.ok("block", OUTSIDE4)
    refused = attached.refused(1, *line, option, *([str(second)] if text else []))
    assert f"{OUTSIDE4} is this host's gateway in {lab.server}, and the rule {OUTSIDE4} blocks it" in refused
    attached.ok("unblock", OUTSIDE4)
    attached.ok(*line, "--no-config")


ROUTES = {
    "two next hops": (
        "route add 192.0.2.0/24 nexthop via 198.18.0.40 nexthop via 198.18.0.41",
        *("198.18.0.40", "198.18.0.41"),
    ),
    "another table": ("route add default via 198.18.0.42 table 100", "198.18.0.42"),
    "a table beyond 255": ("route add default via 198.18.0.43 table 1000", "198.18.0.43"),
    "IPv6": (
        "-6 route add 2001:db8:5::/48 nexthop via fd00:198:18::40 nexthop via fd00:198:18::41",
        *("fd00:198:18::40", "fd00:198:18::41"),
    ),
    "IPv4 through IPv6": ("route add 192.0.2.0/24 via inet6 fe80::42 dev eth0", "fe80::42"),
}  # fmt: skip
OBJECTS = {
    "nexthop add id 5 via 198.18.0.50 dev eth0": "198.18.0.50",
    "nexthop add id 6 via 198.18.0.51 dev eth0": "198.18.0.51",
    "nexthop add id 7 via 198.18.0.52 dev eth0": "",  # of no route
    "nexthop add id 8 group 5/6": "",
    "route add 192.0.2.0/24 nhid 8": "",
}


def ip(lab: Lab, words: str) -> None:
    subprocess.run(["ip", "-n", lab.server, *words.split()], check=True)


def next_hops(lab: Lab) -> set[str]:
    with entered(lab.server):
        return {str(it) for it in nexthops.read()}


@pytest.mark.parametrize("name", ROUTES)
def test_next_hops(lab: Lab, name: str) -> None:
    words, *wanted = ROUTES[name]
    before = next_hops(lab)
    if "-6" in words:
        ip(lab, "-6 address add fd00:198:18::3/64 dev eth0 nodad")
    ip(lab, words)
    try:
        assert next_hops(lab) - before == set(wanted)
    finally:
        ip(lab, words.replace("route add", "route del"))
        if "-6" in words:
            ip(lab, "-6 address del fd00:198:18::3/64 dev eth0")
    assert next_hops(lab) == before


@pytest.mark.parametrize("compatible", ["1", "0"])
def test_nexthop_objects(lab: Lab, compatible: str) -> None:
    """In groups, too; and also where the kernel shows a route's object alone, and no gateway with it."""
    sysctl = ["ip", "netns", "exec", lab.server, "sysctl", "-qw"]
    before = next_hops(lab)
    subprocess.run([*sysctl, f"net.ipv4.nexthop_compat_mode={compatible}"], check=True)
    try:
        for words in OBJECTS:
            ip(lab, words)
        assert next_hops(lab) - before == {it for it in OBJECTS.values() if it}
    finally:
        ip(lab, "nexthop flush")
        subprocess.run([*sysctl, "net.ipv4.nexthop_compat_mode=1"], check=True)
    assert next_hops(lab) == before


def test_blocking_the_second_next_hop(attached: Command, lab: Lab) -> None:
    ip(lab, "route add 192.0.2.0/24 nexthop via 198.18.0.40 nexthop via 198.18.0.41")
    try:
        for address in ("198.18.0.40", "198.18.0.41"):
            assert "this host's gateway" in attached.refused(1, "block", address)
        both = attached.refused(1, "block", "198.18.0.40/31")
        assert all(f"{address} (this host's gateway in " in both for address in ("198.18.0.40", "198.18.0.41"))
        forced = attached("block", "198.18.0.40/31", "--force")
        assert "198.18.0.40/31 contains what this host needs: 198.18.0.40 (" in forced.err
        assert "to let them through: xdpguard allow 198.18.0.40 198.18.0.41" in forced.err
        attached.ok("unblock", "198.18.0.40/31")
    finally:
        ip(lab, "route del 192.0.2.0/24")
    attached.ok("block", "198.18.0.41")
    attached.ok("unblock", "198.18.0.41")


def test_an_allowance_that_ends_inside_one_that_lasts(attached: Command, lab: Lab) -> None:
    """The wider one counts again, in the kernel as well."""
    address = CLIENTS4[OPERATOR]
    attached.ok("block", address)
    assert not works(lab, 4, "udp", OPERATOR), "positive control"
    attached.ok("allow", "198.18.0.0/24")
    attached.ok("allow", address, "--for", "1s")
    assert eventually(lambda: len(attached.json("rules", "--kind", "allow")) == 1), "it has ended"
    assert works(lab, 4, "udp", OPERATOR)
    attached.ok("disallow", "198.18.0.0/24")
    attached.ok("unblock", address)


def test_allowing_everybody(command: Command) -> None:
    command.ok("block", "203.0.113.9")
    command.ok("allow", "203.0.113.9")
    refused = command.refused(1, "allow", "0.0.0.0/0")
    assert "0.0.0.0/0 would let every IPv4 address in" in refused
    assert "--force" in refused
    assert "would let every IPv6 address in" in command.refused(1, "allow", "::/0", "--for", "1m")
    command.ok("allow", "0.0.0.0/1")
    assert "0.0.0.0/1, 128.0.0.0/1 would let" in command.refused(1, "allow", "128.0.0.0/1")
    assert command.json("status")["allows_everybody"] == []
    command.ok("allow", "0.0.0.0/0", "--force")
    note = "allow 0.0.0.0/0 lets every IPv4 address in"
    assert note in command("status").err
    assert note in command.json("status")["allows_everybody"][0]
    assert note in command("disallow", "203.0.113.9").err
    assert note in command.ok("explain", "203.0.113.9")
    assert note not in command.ok("explain", "2001:db8::1")
    assert note not in command("disallow", "0.0.0.0/0").err


def test_a_guard_that_lets_nobody_log_in(command: Command) -> None:
    for words in (["mode=always", "syn_rate=1"], ["mode=always", "answer_rate=9"]):
        refused = command.refused(1, "guard", "set", *words)
        assert "a new login over 22/tcp may not get in" in refused
        assert "--force" in refused
    assert command.json("guard", "show")["overrides"] == {}
    command.ok("guard", "set", "mode=always", "syn_rate=1", "--confirm", "60s")
    command.ok("undo")
    assert command.json("guard", "show")["overrides"] == {}
    command.ok("guard", "set", "mode=always", "syn_rate=1", "exempt_ports=22")
    command.refused(1, "guard", "set", "exempt_ports=default")
    command.ok("guard", "set", "exempt_ports=default", "--force")
    command.ok("guard", "set", "hold=3s")
    command.ok("guard", "set", "mode=default")
    command.refused(1, "guard", "set", "mode=always")


def test_a_configured_guard_that_lets_nobody_log_in(attached: Command, lab: Lab, tmp_path: Path) -> None:
    config = tmp_path / "guard.toml"
    config.write_text('[guard]\nmode = "always"\nconnection_rate = 2\n')
    again = ("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    refused = attached.refused(1, *again)
    assert "connection_rate=2" in refused
    attached.ok(*again, "--confirm", "60s")
    attached.ok("undo")
    assert attached.json("guard", "show")["policy"]["mode"] == "auto"


def test_what_bogons_take_from_dhcp(command: Command) -> None:
    load = ("lists", "load", "bogons", "-")
    note = "the list bogons holds 0.0.0.0, the source of DHCP requests"
    assert note in command(*load, stdin="0.0.0.0/8\n255.255.255.255\n").err
    assert "holds fe80::/64, where DHCPv6 comes from" in command(*load, "--force", stdin="0.0.0.0/8\nfe80::/10\n").err
    assert "0.0.0.0/8 holds 0.0.0.0" in command("block", "0.0.0.0/8").err
    command.ok("allow", "0.0.0.0")
    assert "DHCP" not in command(*load, stdin="0.0.0.0/8\n203.0.113.5\n").err
    assert "DHCP" not in command("block", "203.0.113.0/24").err


@pytest.mark.parametrize("word", ["--forse", "--froce", "--forc", "--fo"])
@pytest.mark.parametrize(
    "line", [("block", "203.0.113.9"), ("lists", "load", "x", "-"), ("guard", "set", "hold=3s")], ids=str
)
def test_a_mistyped_option_suggests_no_force(command: Command, line: tuple[str, ...], word: str) -> None:
    result = command(*line, word)
    assert result.code == 2
    assert f"no such option: {word}" in result.err
    assert "--force" not in result.err
