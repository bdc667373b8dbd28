# SPDX-License-Identifier: GPL-2.0
"""Rules on real traffic: what is blocked stops, what is not goes on, and it comes back when the rule goes."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from support.command import Command, on
from support.patience import PATIENCE, patient
from support.traffic import Echo, Family, Protocol, client_address, eventually, flood_command, start_flood, works
from topology import INTERFACE, SERVER4, Lab

from xdpguard.net.netns import entered


@pytest.fixture(params=["native", "generic"])
def in_mode(request: pytest.FixtureRequest, lab: Lab, command: Command) -> Command:
    command.ok("attach", INTERFACE, "--netns", lab.server, "--mode", request.param)
    assert command.json("status")["interfaces"][0]["mode"] == request.param
    return command


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("family", [4, 6])
def test_block_and_unblock(in_mode: Command, echo: Echo, lab: Lab, family: Family, protocol: Protocol) -> None:
    del echo
    address = client_address(family)
    assert works(lab, family, protocol)
    in_mode.ok("block", address, "--reason", "test")
    assert not works(lab, family, protocol)
    assert works(lab, family, protocol, client=1), "another client must not notice"
    stats = on(in_mode.json("stats"), INTERFACE)
    rule = in_mode.json("rules")[0]
    assert rule["packets"] == stats["reasons"]["deny"]["packets"] > 0
    assert rule["bytes"] == stats["reasons"]["deny"]["bytes"] > 0
    in_mode.ok("unblock", address)
    assert works(lab, family, protocol)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("family", [4, 6])
def test_closed_port(in_mode: Command, echo: Echo, lab: Lab, family: Family, protocol: Protocol) -> None:
    del echo
    assert works(lab, family, protocol)
    in_mode.ok("block", "--port", f"7000/{protocol}")
    assert not works(lab, family, protocol)
    other: Protocol = "udp" if protocol == "tcp" else "tcp"
    assert works(lab, family, other), "the other protocol's port stays open"
    in_mode.ok("unblock", "--port", f"7000/{protocol}")
    assert works(lab, family, protocol)


@pytest.mark.parametrize("family", [4, 6])
def test_allow_inside_a_blocked_prefix(in_mode: Command, echo: Echo, lab: Lab, family: Family) -> None:
    del echo
    prefix = "198.18.0.0/24" if family == 4 else "2001:2:0:18::/64"
    in_mode.ok("block", prefix, "--force")  # it holds the server's own address
    assert not works(lab, family, "tcp")
    in_mode.ok("allow", client_address(family))
    assert works(lab, family, "tcp")
    assert not works(lab, family, "tcp", client=1)
    in_mode.ok("disallow", client_address(family))
    assert not works(lab, family, "tcp")


def test_a_ban_ends_by_itself(lab: Lab, attached: Command, echo: Echo) -> None:
    del echo
    begin, length = time.time(), round(patient(2))
    attached.ok("block", client_address(4), "--for", f"{length}s")
    assert not works(lab, 4, "tcp")
    assert attached.json("rules")[0]["expires"] >= begin + length
    assert eventually(lambda: works(lab, 4, "tcp"), 6)
    assert time.time() - begin >= length
    assert attached.json("rules") == []
    assert attached.json("status")["rules"]["block"] == 0


def test_observe_drops_nothing(lab: Lab, command: Command, echo: Echo) -> None:
    del echo
    command.ok("block", client_address(4), stdin=None)
    command.ok("attach", INTERFACE, "--netns", lab.server, "--observe")
    assert works(lab, 4, "tcp")
    deny = on(command.json("stats"), INTERFACE)["reasons"]["deny"]
    assert deny["observed_packets"] > 0
    assert deny["packets"] == 0
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert not works(lab, 4, "tcp")
    assert command.json("status")["interfaces"][0]["observe"] is False


def test_a_transfer_survives_a_swap_and_is_counted(lab: Lab, command: Command) -> None:
    """Half of a page before the program is swapped, half after it: the client gets it whole."""
    page = bytes(range(256)) * 4096
    swapped = threading.Event()

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page[: len(page) // 2])
            assert swapped.wait(patient(30))
            self.wfile.write(page[len(page) // 2 :])

        def log_message(self, format: str, *args: object) -> None:
            pass

    command.ok("attach", INTERFACE, "--netns", lab.server)
    with entered(lab.server):
        server = http.server.HTTPServer((SERVER4, 8080), Page)
    with server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with (
            entered(lab.outside),
            contextlib.closing(http.client.HTTPConnection(SERVER4, 8080, timeout=patient(30))) as client,
        ):
            client.connect()
            client.request("GET", "/")
            with client.getresponse() as answer:
                first = answer.read(len(page) // 4)
                command.ok("attach", INTERFACE, "--netns", lab.server)
                swapped.set()
                assert first + answer.read() == page
        thread.join()
    flags = on(command.json("stats"), INTERFACE)["flags"]
    assert flags["syn"] == 1
    assert flags["fin"] == 1
    assert [row["syns"] for row in command.json("syns")] == [1]


_STRAY = 3  # packets of the namespaces' own: neighbour discovery, group memberships


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("kind", "reason"), [("udp", "pass"), ("malformed", "malformed"), ("rst", "pass")])
def test_counters_agree_with_what_a_flood_sent(
    lab: Lab, attached: Command, family: Family, kind: str, reason: str
) -> None:
    attached.ok("guard", "set", "mode=off")  # RSTs of nobody would be a flood to it
    arguments = [kind, "--count", "50000", *(["-6"] if family == 6 else [])]
    sent = json.loads(subprocess.check_output(flood_command(lab, *arguments), text=True))
    assert sent["packets"] == 50_000
    stats = on(attached.json("stats"), INTERFACE)
    # A stray neighbour's or multicast packet may pass beside them.
    counted = stats["protocols"]["udp"] if kind == "udp" else stats["reasons"][reason]["packets"]
    # Nor is every frame that the ring could not take one of the flood's.
    assert 0 <= counted - (sent["packets"] - sent["lost"]) <= _STRAY
    assert stats["reasons"][reason]["packets"] >= counted
    if kind == "rst":
        assert 0 <= stats["flags"]["rst"] - (sent["packets"] - sent["lost"]) <= _STRAY


def received(lab: Lab) -> int:
    """UDP datagrams that reached the server's stack."""
    with entered(lab.server):
        text = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii")
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    row = dict(zip(names[1:], values[1:], strict=True))
    return int(row["InDatagrams"]) + int(row["NoPorts"]) + int(row["InErrors"])


def test_swapping_under_a_flood_lets_nothing_through(lab: Lab, command: Command) -> None:
    """Up to a million packets from a blocked source, while the program is swapped ten times: not one passes."""
    command.ok("attach", INTERFACE, "--netns", lab.server)
    source = client_address(4)
    before = received(lab)
    flood = ["udp", "--port", "9", "--source", source]
    subprocess.check_output(flood_command(lab, *flood, "--count", "1000"))
    assert received(lab) > before, "positive control: the flood arrives when nothing blocks it"
    command.ok("block", source)
    before = received(lab)
    passed = on(command.json("stats"), INTERFACE)["reasons"]["pass"]["packets"]
    running = start_flood(lab, *flood, "--count", "1000000", "--rate", str(round(40_000 / PATIENCE)), "--seconds", "55")
    swaps, wanted = 0, max(1, round(10 / PATIENCE))
    while swaps < wanted and running.poll() is None:
        command.ok("attach", INTERFACE, "--netns", lab.server)
        swaps += 1
    assert running.poll() is None, f"{swaps} swaps took longer than the flood"
    sent = json.loads(running.communicate(timeout=patient(60))[0])
    assert swaps == wanted
    assert sent["packets"] > 100_000, "a busy machine sends fewer in that time"
    assert received(lab) == before
    stats = on(command.json("stats"), INTERFACE)["reasons"]
    assert stats["deny"]["packets"] == sent["packets"] - sent["lost"]
    assert stats["pass"]["packets"] == passed
    assert command.json("rules")[0]["packets"] == stats["deny"]["packets"]


def test_watching(lab: Lab, attached: Command) -> None:
    with subprocess.Popen(
        attached.line("stats", "--watch", "0.2", "--json"),
        env=attached.environment,
        stdout=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background has made them deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as watching:
        assert watching.stdout is not None
        first = on(json.loads(watching.stdout.readline()), INTERFACE)
        subprocess.check_output(flood_command(lab, "udp", "--count", "1000", "--rate", "20000"))
        assert eventually(
            lambda: (
                on(json.loads(watching.stdout.readline()), INTERFACE)["protocols"]["udp"]  # type: ignore[union-attr]
                == first["protocols"]["udp"] + 1000
            )
        )
        watching.send_signal(signal.SIGINT)
        assert watching.wait(patient(10)) == 0


def test_segments_that_the_kernel_put_together_beyond_64_kib(lab: Lab, command: Command) -> None:
    """BIG TCP: frames whose length does not fit its field, seen in generic mode. They pass, and arrive whole."""
    page = bytes(range(256)) * 80_000
    size = "200000"
    pair = f"{lab.name}-big"
    subprocess.run(["ip", "netns", "add", pair], check=True)
    try:
        run = [
            f"ip -n {lab.server} link add big0 type veth peer name big1 netns {pair}",
            f"ip -n {lab.server} addr add 2001:2:0:19::1/64 dev big0 nodad",
            f"ip -n {pair} addr add 2001:2:0:19::2/64 dev big1 nodad",
            f"ip -n {lab.server} link set big0 up gso_max_size {size} gro_max_size {size}",
            f"ip -n {pair} link set big1 up gso_max_size {size} gro_max_size {size}",
        ]
        for line in run:
            subprocess.run(line.split(), check=True)
        command.ok("attach", "big0", "--netns", lab.server, "--mode", "generic")
        with entered(lab.server):
            listener = socket.create_server(("2001:2:0:19::1", 9000), family=socket.AF_INET6)
        received = bytearray()

        def receive() -> None:
            connection, _ = listener.accept()
            with connection:
                while data := connection.recv(1 << 20):
                    received.extend(data)

        thread = threading.Thread(target=receive)
        thread.start()
        with listener, entered(pair), socket.create_connection(("2001:2:0:19::1", 9000), timeout=patient(20)) as client:
            client.sendall(page)
        thread.join(patient(30))
        assert bytes(received) == page
        stats = on(command.json("stats"), "big0")
        assert stats["reasons"]["malformed"]["packets"] == 0
        assert stats["bytes"] / stats["packets"] > 10_000, "positive control: the frames were big"
    finally:
        command("detach", "--all")
        subprocess.run(["ip", "netns", "del", pair], check=True)
