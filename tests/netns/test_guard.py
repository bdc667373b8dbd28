# SPDX-License-Identifier: GPL-2.0
"""The SYN guard between real clients, real listeners and real floods: who is honest does not notice it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command import Command, on
from support.guard import set_sysctl, sysctls
from support.patience import patient
from support.traffic import Family, client_address, eventually, flood_command, lasting, server_address, start_flood
from topology import CLIENTS4, INTERFACE, OUTSIDE4, SERVER4, SERVER6, SERVER_MAC, Lab

from xdpguard.net.netns import entered

DATA = os.urandom(1 << 20)
PORT = 8000


class Server:
    """Sends back the SHA-256 of what it gets, then everything it got. Use as a context manager."""

    def __init__(self, *listeners: socket.socket) -> None:
        self._listeners = listeners
        self._threads = [threading.Thread(target=self._accept, args=(it,), daemon=True) for it in listeners]

    def __enter__(self) -> Server:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for listener in self._listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(patient(20))
            received = bytearray()
            while data := connection.recv(1 << 16):
                received += data
            connection.sendall(hashlib.sha256(received).digest() + received)


def exchange(client: socket.socket, data: bytes = DATA, sent: int = 0) -> bool:
    """Whether data, of which some has been sent already, goes there and back unchanged."""
    with client:
        client.settimeout(patient(20))
        client.sendall(data[sent:])
        client.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while part := client.recv(1 << 16):
            answer += part
    return bytes(answer) == hashlib.sha256(data).digest() + data


def connect(lab: Lab, address: str, port: int = PORT, source: str = "") -> socket.socket:
    """A connection from outside."""
    with entered(lab.outside):
        return socket.create_connection(
            (address, port), timeout=patient(10), source_address=(source, 0) if source else None
        )


def reasons(command: Command) -> dict[str, int]:
    """Packets by reason."""
    found = on(command.json("stats"), INTERFACE)["reasons"]
    return {name: row["packets"] for name, row in found.items()}


@pytest.fixture
def always(lab: Lab, attached: Command) -> Iterator[Command]:
    """The guard in mode always, on a host whose settings let cookies carry every option."""
    with sysctls(lab, tcp_syncookies=2, tcp_timestamps=2):
        attached.ok("guard", "set", "mode=always")
        yield attached


def v4_only(options: Callable[[socket.socket], None] = lambda made: None) -> list[socket.socket]:
    made = socket.socket(socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    options(made)
    made.bind((SERVER4, PORT))
    made.listen(16)
    return [made]


def v6(only: int) -> list[socket.socket]:
    made = socket.socket(socket.AF_INET6)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    made.bind(("::", PORT))
    made.listen(16)
    return [made]


def clamped(size: int) -> Callable[[], list[socket.socket]]:
    return lambda: v4_only(lambda made: made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size))


def window_clamped() -> list[socket.socket]:
    return v4_only(lambda made: made.setsockopt(socket.IPPROTO_TCP, socket.TCP_WINDOW_CLAMP, 100_000))


def reuseport() -> list[socket.socket]:
    def share(made: socket.socket) -> None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    return [made for _ in range(4) for made in v4_only(share)]


LISTENERS: dict[str, tuple[Callable[[], list[socket.socket]], str]] = {
    "IPv4": (v4_only, SERVER4),
    "IPv6 only": (lambda: v6(1), SERVER6),
    "dual-stack, IPv4": (lambda: v6(0), SERVER4),
    "dual-stack, IPv6": (lambda: v6(0), SERVER6),
    "receive buffer of 4 KiB": (clamped(4096), SERVER4),
    "receive buffer of 300 KB": (clamped(300_000), SERVER4),
    "window clamp": (window_clamped, SERVER4),
    "SO_REUSEPORT": (reuseport, SERVER4),
}


def traits(lab: Lab) -> set[str]:
    """What ss shows of the server's end: window scales, MSS, options."""
    text = lab.run(lab.server, ["ss", "-tinH", "state", "established", f"( sport = :{PORT} )"]).stdout
    return set(re.findall(r"\bwscale:\S+|\b(?:mss|advmss):\d+|\bts\b|\bsack\b", text))


@pytest.mark.parametrize("name", LISTENERS)
def test_a_connection_by_cookie_is_like_any_other(lab: Lab, always: Command, name: str) -> None:
    """The same MSS, window scales and options as without a guard, and data that arrive as they were."""
    make, address = LISTENERS[name]
    with entered(lab.server):
        listeners = make()
    with Server(*listeners):
        seen = {}
        for mode in ("off", "always"):
            always.ok("guard", "set", f"mode={mode}")
            before = reasons(always)["cookie_sent"]
            client = connect(lab, address)
            client.sendall(b"x")
            assert eventually(lambda: bool(traits(lab)))
            seen[mode] = traits(lab)
            assert reasons(always)["cookie_sent"] == before + (mode == "always")
            client.close()
            assert eventually(lambda: not traits(lab))
            data = DATA[: 1 << 16] if "4 KiB" in name else DATA
            assert exchange(connect(lab, address), data)
        assert seen["off"] == seen["always"]
        assert any("wscale" in trait for trait in seen["always"])


@pytest.mark.parametrize("timestamps", [1, 2])
def test_hosts_with_other_settings(lab: Lab, always: Command, timestamps: int) -> None:
    """Where the kernel could not recover options none are sent; the data arrive all the same."""
    with entered(lab.server):
        listeners = v6(0)
    with Server(*listeners), sysctls(lab, tcp_timestamps=timestamps):
        for address in (SERVER4, SERVER6):
            for _ in range(5):
                assert exchange(connect(lab, address), DATA[: 1 << 18])
    assert reasons(always)["cookie_sent"] == 10


def test_a_listener_in_another_namespace(lab: Lab, always: Command) -> None:
    """Behind the guarded host, which forwards: not its connections, so not its business."""
    name = f"{lab.name}-behind"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for line in (
            f"ip -n {lab.server} link add behind0 type veth peer name behind1 netns {name}",
            f"ip -n {lab.server} addr add 198.19.0.1/24 dev behind0",
            f"ip -n {lab.server} link set behind0 up",
            f"ip -n {name} addr add 198.19.0.2/24 dev behind1",
            f"ip -n {name} link set behind1 up",
            f"ip -n {name} route add default via 198.19.0.1",
            f"ip -n {lab.outside} route add 198.19.0.0/24 via {SERVER4}",
        ):
            subprocess.run(line.split(), check=True)
        with entered(name):
            listeners = [socket.create_server(("198.19.0.2", PORT))]
        with entered(lab.server):
            listeners += v6(0)  # a wildcard of the host's own, on the same port
        with Server(*listeners), sysctls(lab, ip_forward=1):
            before = reasons(always)["cookie_sent"]
            assert exchange(connect(lab, "198.19.0.2"))
            assert reasons(always)["cookie_sent"] == before
            assert exchange(connect(lab, SERVER4))
            assert reasons(always)["cookie_sent"] == before + 1
    finally:
        subprocess.run(["ip", "-n", lab.outside, "route", "del", "198.19.0.0/24"], check=False)
        subprocess.run(["ip", "-n", lab.server, "link", "del", "behind0"], check=False)
        subprocess.run(["ip", "netns", "del", name], check=True)


def test_what_the_host_itself_opens(lab: Lab, always: Command) -> None:
    """Its SYN-ACKs belong to a socket; those of nobody are dropped."""
    with entered(lab.outside):
        listener = socket.create_server((OUTSIDE4, PORT))
    with Server(listener), entered(lab.server):
        client = socket.create_connection((OUTSIDE4, PORT), timeout=patient(10))
        assert exchange(client)
    assert reasons(always)["ack_unknown"] == 0
    subprocess.check_output(flood_command(lab, "synack", "--count", "5000", "--rate", "50000"))
    assert reasons(always)["ack_unknown"] == 5000


@pytest.mark.usefixtures("always")
def test_tuples_in_time_wait_can_be_used_again(lab: Lab) -> None:
    """The server closed first and remembers the tuple: the client's next SYN from the same port is the kernel's."""
    with entered(lab.server):
        listener = socket.create_server((SERVER4, PORT))

    def once() -> None:
        with entered(lab.outside):
            client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.settimeout(patient(5))
        client.bind((CLIENTS4[0], 45_000))
        client.connect((SERVER4, PORT))
        client.sendall(b"x")
        server, _ = listener.accept()
        assert server.recv(1) == b"x"
        server.close()
        assert client.recv(1) == b""
        client.close()

    with listener:
        once()
        assert eventually(lambda: "45000" in lab.run(lab.server, ["ss", "-tanH", "state", "time-wait"]).stdout)
        once()


FLOODS = {
    "SYN": ["syn", "--port", str(PORT)],
    "SYN, IPv6": ["syn", "-6", "--port", str(PORT)],
    "ACK": ["ack", "--port", str(PORT)],
    "RST": ["rst", "--port", str(PORT)],
    "SYN-ACK": ["synack", "--port", str(PORT)],
    "SYN, closed port": ["syn", "--port", "9"],
    "SYN, one source": ["syn", "--port", str(PORT), "--source", CLIENTS4[5]],
}


def test_a_mixed_flood(lab: Lab, always: Command) -> None:
    """All kinds at once, of both IP versions: clients go on."""
    with entered(lab.server):
        listeners = v6(0)
    kinds = ["syn", "ack", "rst", "synack", "udp"]
    with Server(*listeners):
        floods = [
            start_flood(lab, kind, "--port", str(PORT), "--rate", "20000", "--seconds", lasting(4), *version)
            for kind in kinds
            for version in ([], ["-6"])
        ]
        try:
            assert eventually(lambda: min(reasons(always)[name] for name in ("cookie_sent", "ack_unknown")) > 10_000)
            for number in range(20):
                assert exchange(connect(lab, (SERVER4, SERVER6)[number % 2]), DATA[:20_000])
        finally:
            for flood in floods:
                flood.communicate(timeout=patient(60))
    assert reasons(always)["cookie_bad"] > 10_000


@pytest.mark.parametrize("name", FLOODS)
def test_clients_do_not_notice_a_flood(lab: Lab, attached: Command, name: str) -> None:
    """No controller runs, and the kernel's settings are its own: the guard begins and ends by itself."""
    family: Family = 6 if "IPv6" in name else 4
    address = server_address(family)
    with entered(lab.server):
        listeners = v6(0)
    resets = out_resets(lab)
    with Server(*listeners), sysctls(lab, tcp_syncookies=2), connect(lab, address) as long:
        long.sendall(DATA[:1000])
        flood = start_flood(lab, *FLOODS[name], "--rate", "100000", "--seconds", lasting(4))
        try:
            assert eventually(lambda: is_active(attached), 30)
            for number in range(30):
                source = client_address(family, 5 if "one source" in name else number % 4)
                assert exchange(connect(lab, address, source=source), DATA[:20_000]), number
            long.sendall(DATA[1000:50_000])
        finally:
            sent = json.loads(flood.communicate(timeout=patient(60))[0])["packets"]
        assert exchange(long, DATA[:100_000], sent=50_000), "the connection that was there before"
        assert eventually(lambda: not is_active(attached), 30)
        assert exchange(connect(lab, address), DATA[:20_000])
    counted = reasons(attached)
    if name.startswith("SYN,") or name == "SYN":
        reason = "syn_rate" if "closed" in name else "cookie_sent"
    else:
        reason = "cookie_bad" if name == "ACK" else "ack_unknown"
    assert counted[reason] > sent // patient(4), "what came before it was active, and what a rate limit lets pass"
    assert attached.json("rules") == []
    if "closed" in name:
        assert out_resets(lab) - resets < sent // 8, "positive control: without a bound there would be as many as SYNs"
        assert out_resets(lab) > resets


def is_active(command: Command) -> bool:
    return bool(on(command.json("guard", "show"), INTERFACE)["active"])


def out_resets(lab: Lab) -> int:
    """RSTs the server's stack has sent."""
    with entered(lab.server):
        lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
    names, values = (line.split() for line in lines if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["OutRsts"])


def test_a_flood_at_full_speed(lab: Lab, attached: Command) -> None:
    """A million offered a second: the listener's queue stays usable and the host's memory as it was."""
    with entered(lab.server):
        listeners = v6(0)
    with Server(*listeners), sysctls(lab, tcp_syncookies=2):
        core = lab.split_cores()
        used = memory()
        line = flood_command(lab, "syn", "--port", str(PORT), "--rate", "1000000", "--seconds", lasting(10))
        flood = subprocess.Popen(["taskset", "-c", str(core), *line], stdout=subprocess.PIPE, text=True)
        try:
            assert eventually(lambda: is_active(attached), 30)
            for _ in range(20):
                assert exchange(connect(lab, SERVER4), DATA[:10_000])
            waiting = lab.run(lab.server, ["ss", "-tlnH", f"( sport = :{PORT} )"]).stdout.split()
            assert int(waiting[1]) < int(waiting[2])
            assert memory() - used < 200_000, "kB"
        finally:
            flood.communicate(timeout=patient(60))
    assert reasons(attached)["cookie_sent"] > 1_000_000


def memory() -> int:
    """What the kernel holds in objects such as sockets, kB: other tests beside this one use the rest."""
    text = Path("/proc/meminfo").read_text(encoding="ascii")
    return int(re.search(r"SUnreclaim:\s+(\d+)", text)[1])  # type: ignore[index]


def test_setting_and_showing(lab: Lab, command: Command) -> None:
    shown = command.json("guard", "show")
    assert shown["policy"]["mode"] == "auto"
    assert shown["interfaces"] == {}
    assert "hold = 9s" in command.ok("guard", "set", "hold=9s", "exempt_ports=80,443")
    command.ok("attach", INTERFACE, "--netns", lab.server)
    shown = command.json("guard", "show")
    assert shown["policy"]["hold"] == "9s"
    assert shown["overrides"] == {"hold": "9s", "exempt_ports": ["80", "443"]}
    assert not on(shown, INTERFACE)["active"]
    command.ok("guard", "set", "hold=default")
    assert command.json("guard", "show")["policy"]["hold"] == "5s"
    for words, names in (
        (["mode=on"], "mode"),
        (["hold=0s"], "duration"),
        (["hold=20m"], "hold"),
        (["flood=1"], "flood_rate"),
        (["prefix4=64"], "prefix4"),
        (["mode"], "mode has no value"),
        (["syn_rate=-1"], "syn_rate"),
        (["exempt_ports=0"], "exempt_ports"),
        (["hold=3s", "bans=x"], "bans"),
    ):
        assert names in command.refused(2, "guard", "set", *words)
    assert command.json("guard", "show")["overrides"] == {"exempt_ports": ["80", "443"]}
    assert "syncookies is 1" in command("guard", "set", "mode=always").err
    set_sysctl(lab, "tcp_syncookies", 1)


def test_a_configuration_with_a_guard(lab: Lab, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "guard.toml"
    for text, expected in (
        ('[guard]\nmode = "on"\n', "guard.toml:2: guard.mode"),
        ('[guard]\nmode = "auto"\nhold = "soon"\n', "guard.toml:3: guard.hold"),
        ('[guard]\nbans = [\n  "10m",\n  "often"]\n', "guard.toml:2: guard.bans"),
        ("[guard]\nsyn_flood = 3\n", "guard.toml:2: guard.syn_flood: unknown key"),
        ('[guard]\nexempt_ports = ["no such service"]\n', "guard.exempt_ports"),
    ):
        file.write_text(text)
        assert expected in command.refused(2, "attach", INTERFACE, "--netns", lab.server, "--config", str(file))
    file.write_text('[guard]\nmode = "observe"\nflood_rate = 1000\nwindow = "200ms"\nhold = "1s"\n')
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(file))
    flood = start_flood(lab, "syn", "--rate", "50000", "--seconds", lasting(2), "--port", str(PORT))
    assert eventually(lambda: is_active(command), 30)
    flood.communicate(timeout=patient(60))
    row = on(command.json("stats"), INTERFACE)["reasons"]["syn_rate"]
    assert row["packets"] == 0
    assert row["observed_packets"] > 1000, "a closed port: what it would drop"
    assert eventually(lambda: not is_active(command), 4)


def test_translation_is_found(lab: Lab, command: Command) -> None:
    """Where nftables translates addresses, segments without a socket pass."""
    table = "add table ip t; add chain ip t c { type nat hook postrouting priority 100; }; add rule ip t c masquerade"
    try:
        lab.run(lab.server, ["nft", table])
        command.ok("attach", INTERFACE, "--netns", lab.server)
        assert on(command.json("guard", "show"), INTERFACE)["translated"]
        lab.run(lab.server, ["nft", "flush", "chain", "ip", "t", "c"])
        command.ok("guard", "set", "mode=auto")
        assert not on(command.json("guard", "show"), INTERFACE)["translated"]
        command.ok("guard", "set", "translated=yes")
        assert on(command.json("guard", "show"), INTERFACE)["translated"]
    finally:
        lab.run(lab.server, ["nft", "flush", "ruleset"])


def test_frames_of_a_guest_pass(lab: Lab, always: Command) -> None:
    """The interface's address is in the policy: what is for another one is not touched."""
    link = lab.run(lab.server, ["ip", "-br", "link", "show", INTERFACE]).stdout
    assert SERVER_MAC in link
    lab.run(lab.server, ["ip", "link", "set", INTERFACE, "address", "02:00:00:00:00:77"])
    try:
        flood = flood_command(lab, "ack", "--count", "2000", "--rate", "50000")
        sent = json.loads(subprocess.check_output(flood))
        arrived = sent["packets"] - sent["lost"]
        assert arrived > 0
        assert reasons(always)["ack_unknown"] == arrived, "the old address is still the one that is guarded"
        always.ok("guard", "set", "mode=always")
        sent = json.loads(subprocess.check_output(flood))
        assert reasons(always)["ack_unknown"] == arrived
        assert reasons(always)["pass"] >= sent["packets"] - sent["lost"]
    finally:
        lab.run(lab.server, ["ip", "link", "set", INTERFACE, "address", SERVER_MAC])


def test_time_from_flood_to_guard_and_back(lab: Lab, attached: Command) -> None:
    """Active within a second of the first SYN, idle within ten of the last: as the interface's own counters date it."""
    flood = start_flood(lab, "syn", "--rate", "100000", "--seconds", lasting(3), "--port", str(PORT))
    assert eventually(lambda: is_active(attached), 30)
    counted = reasons(attached)
    assert counted["pass"] < 100_000, "less than a second's worth had passed"
    flood.communicate(timeout=patient(60))
    end = time.monotonic()
    assert eventually(lambda: not is_active(attached), 12)
    assert time.monotonic() - end < patient(10)
