# SPDX-License-Identifier: GPL-2.0
"""An operator's day with xdpguard in the lab: every command that prints JSON, on traffic that is the same each time.

`operators-day` writes all of it down, to be compared with the day of another checkout; tests/netns/test_json_keys.py
holds the keys and types of the answers against a table.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scenarios.commands import WAIT, Commands, Runner, Said
from topology import CLIENTS4, INTERFACE, SERVER4, SERVER6, Lab

from xdpguard.capture.line import parse
from xdpguard.capture.packet import encode
from xdpguard.net.netns import entered

_PORT = 7000
_BANNED = "198.51.100.7"
_SENT = [
    *[f"tcp {_BANNED}:4000 > {SERVER4}:80 S"] * 3,
    f"udp 198.51.100.9:4000 > {SERVER4}:53 len=30",
    *[f"tcp 203.0.113.9:4000 > {SERVER4}:80 A"] * 2,
    f"tcp [2001:db8:bad::7]:4000 > [{SERVER6}]:80 S",
    f"tcp 192.0.2.9:4000 > {SERVER4}:8080 S",
    f"udp 233.252.0.5:4000 > {SERVER4}:53 len=20",
    f"tcp 16.1.1.1:4000 > {SERVER4}:8080 A",
    f"tcp 16.1.1.1:4000 > {SERVER4}:80 FS",
    f"tcp 16.1.1.2:4000 > {SERVER4}:443 S",
]
_ARP = "0200000000010200000000020806" + "00" * 46
_DROPPED = {"deny": 7, "closed_port": 1, "bad_flags": 1}
_CONFIG = """
[rules]
allow = ["192.0.2.128/25"]
[guard]
scan_ports = 20
[metrics]
listen = "127.0.0.1:0"
"""


class Day:
    """The day. ``folder``: for files; ``text``: whether commands are to answer people, too."""

    def __init__(self, commands: Commands, lab: Lab, folder: Path, text: bool = True) -> None:
        self._its, self._lab, self._folder = Runner(commands, text), lab, folder

    def __iter__(self) -> Iterator[Said]:
        """All of it, command by command. AssertionError where the traffic did not do what it always does."""
        yield from self._morning()
        yield from self._traffic()
        yield from self._questions()
        yield from self._shadows()
        yield from self._default()
        yield from self._filters()
        yield from self._guard()
        yield from self._tcp()
        if self._its.text:
            yield from self._service()
        yield from self._evening()

    def _send(self, lines: Sequence[str]) -> None:
        with entered(self._lab.outside), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((INTERFACE, 0))
            for line in lines:
                wire.send(encode(parse(line)))

    def _counted(self) -> dict[str, int]:
        (found,) = self._its.run("stats", "stats", "--json").documents()
        (its,) = (it for name, it in found["interfaces"].items() if name.split("@")[0] == INTERFACE)
        return {name: its["reasons"][name]["packets"] for name in _DROPPED}

    def _morning(self) -> Iterator[Said]:
        netns = self._lab.server
        subprocess.run(["ip", "-n", netns, "link", "set", "lo", "up"], check=True)
        (self._folder / "office.toml").write_text(_CONFIG)
        (self._folder / "botnets.txt").write_text("203.0.113.0/24\n203.0.113.9\n2001:db8:bad::/48\nno entry\n")
        yield from self._its.both("config check", "config", "check", str(self._folder / "office.toml"))
        yield from self._its.both("status", "status")
        yield from self._its.both("doctor", "doctor", loose=True)
        config = ["--config", str(self._folder / "office.toml")]
        yield self._its.run("attach", "attach", INTERFACE, "--netns", netns, *config)
        yield self._its.run("attach", "attach", "lo", "--netns", netns, "--observe", *config)
        yield self._its.run("allow", "allow", "192.0.2.0/25", "--reason", "monitor")
        yield self._its.run("block", "block", _BANNED, "--for", "6h", "--reason", "ssh brute force ü")
        yield self._its.run("block", "block", "198.51.100.0/24", "192.0.2.9")
        yield self._its.run("block", "block", "--port", "8080/tcp", "--port", "53/udp")
        yield self._its.run(
            "block", "block", "233.252.0.0/24", "192.0.2.9", "--shadow", "--for", "1d", "--reason", "new"
        )
        yield self._its.run("unblock", "unblock", "--port", "53/udp")
        yield self._its.run("lists load", "lists", "load", "botnets", str(self._folder / "botnets.txt"), "--json")
        new = "233.252.0.5\n16.1.1.2\n192.0.2.9\n"
        yield self._its.run("lists load", "lists", "load", "new", "-", "--shadow", "--json", stdin=new)
        yield from self._its.both("status", "status")
        yield self._its.run("block", "block", "192.0.2.77", "--confirm", "10m")
        yield from self._its.both("confirm --show", "confirm", "--show", loose=True)
        yield self._its.run("confirm", "confirm", "--json")
        yield from self._its.both("undo --list", "undo", "--list", loose=True)
        yield self._its.run("undo", "undo", "--json")

    def _traffic(self) -> Iterator[Said]:
        self._send(_SENT)
        _wait(lambda: self._counted() == _DROPPED, "the traffic is not dropped as it always is")
        yield from self._its.both("stats", "stats", loose=True)
        watch = {"stats": ["stats", "--watch", "0.2", "--json"]}
        yield from self._its.beside(lambda _: None, watch, ready="\n{", end=True)
        yield from self._its.both("rules", "rules")
        yield from self._its.both("lists show", "lists", "show")
        for by in ("tuple", "source", "destination", "port"):
            yield from self._its.both(f"syns --by {by}", "syns", "--by", by)
        yield from self._its.both("events", "events")
        yield from self._its.both("events", "events", "--reason", "deny", "--count", "2")
        follow = {"events --follow": ["events", "--follow", "--count", "2", "--interface", INTERFACE, "--json"]}
        yield from self._its.beside(lambda _: self._send(_SENT[3:5]), follow)
        yield self._captured()

    def _captured(self) -> Said:
        """A capture says that it is ready by beginning its file."""
        file = self._folder / "drops.pcapng"
        arguments = ("capture", "-w", str(file), "--rate", "0", "--count", "4")
        with subprocess.Popen(
            self._its.commands.line(*arguments),
            env=self._its.commands.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            _wait(
                lambda: process.poll() is not None or (file.exists() and file.stat().st_size > 0), "no capture begins"
            )
            assert process.poll() is None, "the capture does not begin"
            self._send(_SENT[:4])
            out, err = process.communicate(timeout=WAIT)
        return Said("capture", arguments, process.returncode, out, err)

    def _questions(self) -> Iterator[Said]:
        for address in (_BANNED, "203.0.113.9", "192.0.2.9", "233.252.0.5", "16.1.1.1", SERVER4, "2001:db8:bad::7"):
            yield from self._its.both("explain ADDRESS", "explain", address)
        for prefix in ("198.51.100.0/24", "198.51.100.0/22", "203.0.113.128/25", "233.252.0.0/25"):
            yield from self._its.both("explain PREFIX", "explain", prefix)
        yield from self._its.both("explain PORT", "explain", "8080")
        for line in (*dict.fromkeys(_SENT), f"icmp 16.1.1.1 > {SERVER4}"):
            yield from self._its.both("explain PACKET", "explain", line, "--interface", INTERFACE)
        yield from self._its.both("explain PACKET", "explain", _SENT[0], "--interface", "lo")
        yield from self._its.both("explain PACKET", "explain", "--hex", _ARP, "-i", "lo")
        drops, config = str(self._folder / "drops.pcapng"), str(self._folder / "office.toml")
        yield from self._its.both("replay", "replay", drops, "--interface", INTERFACE)
        yield from self._its.both("replay", "replay", drops, "--interface", INTERFACE, "--expect-pass")
        yield from self._its.both("replay", "replay", drops, "--config", config, "--expect-drop")
        (self._folder / "other.toml").write_text('[rules]\nallow = ["198.51.100.0/25"]\n')
        other = str(self._folder / "other.toml")
        yield from self._its.both("replay", "replay", drops, "--config", other, "--diff", "-i", INTERFACE)
        filters = self._folder / "filters.toml"
        filters.write_text('[[filters]]\nname = "web"\nmatch = "tcp dport 80"\naction = "drop"\n')
        yield from self._its.both("replay", "replay", drops, "--config", str(filters), "--expect-pass")

    def _shadows(self) -> Iterator[Said]:
        yield from self._its.both("promote", "promote", "--all", "--dry-run", "--force")
        yield self._its.run("promote", "promote", "233.252.0.0/24", "--list", "new", "--json")
        yield self._its.run("rules", "rules", "--kind", "shadow", "--json")
        yield from self._its.both("lists show", "lists", "show")
        yield self._its.run("unblock", "unblock", "--shadow", "192.0.2.9")
        yield self._its.run("lists remove", "lists", "remove", "botnets")

    def _default(self) -> Iterator[Said]:
        yield self._its.run("default drop", "default", "drop")
        self._send(_SENT)
        yield from self._its.both("default show", "default", "show", loose=True)
        yield self._its.run("default pass", "default", "pass")

    def _filters(self) -> Iterator[Said]:
        add = ("filter", "add")
        yield self._its.run("filter add", *add, "long-dns", "udp sport 53 meta length > 512", "--drop", "--shadow")
        web = ("tcp dport { 80, 443 } tcp flags & (syn | ack) == syn", "--limit", "1000/s", "--per", "source")
        yield self._its.run("filter add", *add, "web", *web, "--for", "1h", "--before", "long-dns", "--reason", "scans")
        yield self._its.run("filter add", *add, "noise", "udp sport 53 ip saddr 203.0.113.0/24", "--drop")
        yield from self._its.both("filter list", "filter", "list")
        yield from self._its.both("filter show", "filter", "show", "web")
        yield from self._its.both("filter show", "filter", "show", "noise")
        for source in ("203.0.113.9", "192.0.2.200"):
            packet = f"udp {source}:53 > {SERVER4}:40000 len=1200"
            yield from self._its.both("filter test", "filter", "test", packet, "--interface", INTERFACE)
        yield self._its.run("filter add", *add, "odd", "udp dport 4242", "--drop", "--reason", "nobody asks that")
        self._send([f"udp 16.1.1.1:4000 > {SERVER4}:4242 len=20"])
        yield from self._its.both("events", "events", "--reason", "filter")
        yield self._its.run("promote", "promote", "--filter", "long-dns", "--json")
        yield self._its.run("filter move", "filter", "move", "web", "--last")
        yield self._its.run("filter remove", "filter", "remove", "web", "noise", "odd", "long-dns")

    def _guard(self) -> Iterator[Said]:
        yield from self._its.both("guard show", "guard", "show")
        yield self._its.run("guard set", "guard", "set", "mode=always", "hold=3s", "exempt_ports=8443")
        yield from self._its.both("guard show", "guard", "show", loose=True)
        yield from self._its.both("explain PACKET", "explain", f"tcp 16.1.1.9:4000 > {SERVER4}:80 A", "-i", INTERFACE)
        yield self._its.run("guard set", "guard", "set", "mode=default")
        yield self._its.run("top --once", "top", "--once", loose=True)
        yield self._its.run("dashboard", "dashboard")

    @contextmanager
    def _connection(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        with entered(self._lab.server):
            listener = socket.create_server((SERVER4, _PORT))
        with listener:
            with entered(self._lab.outside):
                client = socket.create_connection((SERVER4, _PORT), WAIT, (CLIENTS4[0], 0))
            server = listener.accept()[0]
            with client, server:
                yield client, server

    def _talk(self, said: str) -> None:
        """A connection with questions and answers, which ends."""
        del said
        with self._connection() as (client, server):
            for _ in range(20):
                client.sendall(b"?")
                server.sendall(server.recv(1))
                client.recv(1)

    def _tcp(self) -> Iterator[Said]:
        netns = ["--netns", self._lab.server]
        with self._connection():
            for by in ("state", "listener", "remote"):
                yield from self._its.both(f"tcp states --by {by}", "tcp", "states", "--by", by, *netns, loose=True)
        talked = ["trace", "trace --wide", "cwnd", "cwnd --wide", "rtt", "rtt --by remote", "rtt --by local-port"]
        counted = [f"retrans --count --by {by}" for by in ("connection", "listener", "remote")]
        with entered(self._lab.server):
            listener = socket.create_server((SERVER4, _PORT + 1))
        with listener:
            for words, do in ((talked, self._talk), (["retrans", "retrans --wide", *counted], self._lose)):
                commands = {f"tcp {it}": ["tcp", *it.split(), *netns, "--json"] for it in words}
                yield from self._its.beside(do, commands, end=True)

    def _lose(self, said: str) -> None:
        """A SYN whose sender does not exist: its answer is sent again after a second."""
        del said
        before = self._sent_again()
        self._send([f"tcp 16.1.1.7:4000 > {SERVER4}:{_PORT + 1} S options=mss"])
        _wait(lambda: self._sent_again() != before, "the answer to a SYN is not sent again")

    def _sent_again(self) -> int:
        """Segments that the server has retransmitted."""
        with entered(self._lab.server):
            text = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii")
        names, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
        return int(dict(zip(names, values, strict=True))["RetransSegs"])

    def _service(self) -> Iterator[Said]:
        found: list[str] = []
        command = {"metrics": ["run", "--config", str(self._folder / "office.toml")]}
        for said in self._its.beside(
            lambda line: found.append(_metrics(line)), command, ready="metrics: http://", end=True
        ):
            yield said._replace(out="".join(found))

    def _evening(self) -> Iterator[Said]:
        yield self._its.run("disallow", "disallow", "192.0.2.0/25")
        yield self._its.run("unblock", "unblock", _BANNED)
        yield self._its.run("detach", "detach", INTERFACE, "--netns", self._lab.server)
        yield from self._its.both("status", "status")
        yield self._its.run("detach", "detach", "--all")
        for words in (["status"], ["rules"], ["lists", "show"], ["guard", "show"], ["explain", "198.51.100.9"]):
            yield from self._its.both(" ".join(words).replace("198.51.100.9", "ADDRESS"), *words)


def _wait(condition: Callable[[], bool], what: str) -> None:
    """Return when a condition holds. AssertionError with these words when it does not in time."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def _metrics(line: str) -> str:
    """The series that `run` serves where this line of its log says, without their values."""
    found = re.search(r"http://\S+/metrics", line)
    assert found, line
    with urllib.request.urlopen(found[0], timeout=WAIT) as page:
        text = page.read().decode()
    return "".join(f"{row.rsplit(' ', 1)[0]}\n" for row in text.splitlines() if not row.startswith("#"))
