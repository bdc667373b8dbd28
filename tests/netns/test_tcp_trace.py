# SPDX-License-Identifier: GPL-2.0
"""tcp trace on real connections: exactly the transitions that TCP prescribes, attributed to the right process."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from support.patience import patient
from support.tcp import Running, ask, connected, listener, loaded, programs_of, python, rows, with_addresses
from support.traffic import Family, eventually
from topology import OUTSIDE4, OUTSIDE6, SERVER4, SERVER6, Lab

from xdpguard.net.netns import entered

_BODY = 300_000
_OPENS = ("CLOSE>SYN_SENT", "SYN_SENT>ESTABLISHED")
_ACCEPTED = ("LISTEN>SYN_RECV", "SYN_RECV>ESTABLISHED")
# RFC 9293, figure 5; the end that closes first, and the other.
_FIRST = ("ESTABLISHED>FIN_WAIT1", "FIN_WAIT1>FIN_WAIT2", "FIN_WAIT2>TIME_WAIT")
_SECOND = ("ESTABLISHED>CLOSE_WAIT", "CLOSE_WAIT>LAST_ACK", "LAST_ACK>CLOSE")

_CLIENT = """
import socket, sys
client = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=60)
print("connected", flush=True)
sys.stdin.readline()
client.close()
print("closed", flush=True)
sys.stdin.readline()
"""


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(_BODY))
        self.end_headers()
        self.wfile.write(bytes(_BODY))

    def log_message(self, *_: Any) -> None:
        pass


class _Server6(HTTPServer):
    address_family = socket.AF_INET6


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


def _changes(found: list[Any], **wanted: Any) -> list[Any]:
    return [it for it in found if all(it[key] == value for key, value in wanted.items())]


def _named(found: list[Any]) -> tuple[str, ...]:
    return tuple(f"{it['old']}>{it['new']}" for it in found)


def _of(running: Running, port: int) -> list[Any]:
    return [it for it in running.objects() if port in (it["local_port"], it["remote_port"])]


def _sent_again(client: socket.socket) -> int:
    """How many segments it has retransmitted: tcpi_total_retrans of struct tcp_info, linux/tcp.h."""
    return int.from_bytes(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)[100:], sys.byteorder)


def _without_second_syns(found: list[Any]) -> list[Any]:
    """Leaves out requests of the same connection that came to nothing, as a SYN that came twice makes one more."""
    gone = ("LISTEN>SYN_RECV", "SYN_RECV>CLOSE")
    pairs = [at for at in range(len(found)) if _named(found[at : at + 2]) == gone]
    return [it for at, it in enumerate(found) if at not in pairs and at - 1 not in pairs]


def _closed(running: Running, number: int) -> bool:
    return sum(it["new"] in ("CLOSE", "TIME_WAIT") for it in running.objects()) >= number


@pytest.fixture
def http(lab: Lab, family: Family) -> Iterator[tuple[str, int]]:
    address = SERVER4 if family == 4 else SERVER6
    with entered(lab.server):
        server = (HTTPServer if family == 4 else _Server6)((address, 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield address, server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_http_transfer_makes_exactly_the_changes_that_tcp_prescribes(
    lab: Lab, command: Command, tmp_path: Path, http: tuple[str, int], family: Family
) -> None:
    address, port = http
    with Running(command, tmp_path, "trace", "--json", "--remote-port", str(port)) as out:
        with Running(command, tmp_path, "trace", "--json", "--netns", lab.server, "--local-port", str(port)) as server:
            with entered(lab.outside):
                client = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
            begun = time.monotonic()
            with client:
                client.settimeout(patient(60))
                client.connect((address, port))
                own = client.getsockname()[1]
                client.sendall(b"GET / HTTP/1.0\r\n\r\n")
                received = 0
                while data := client.recv(65_536):
                    received += len(data)
                again = _sent_again(client)
            lived = time.monotonic() - begun
            assert received > _BODY
            assert eventually(lambda: _closed(server, 1) and _closed(out, 1))
            its = [it for it in server.objects() if it["remote_port"] == own]
            its = _without_second_syns(its) if again else its  # on a machine so slow that the client did not wait
            server.stop()
        mine = out.objects()
        out.stop()
    # The server has sent all and closes first.
    assert _named(its) == (*_ACCEPTED, *_FIRST)
    assert _named(mine) == (*_OPENS, *_SECOND)
    for found, ends in ((its, (address, None)), (mine, (None, address))):
        times = [it["time"] for it in found]
        assert times == sorted(times)
        # Each duration is the time since the change before; together they are the connection's life.
        for before, now in itertools.pairwise(found):
            assert now["ms"] == pytest.approx((now["time"] - before["time"]) * 1000, abs=0.01)
        total = sum(it["ms"] for it in found if it["ms"] is not None)
        assert total == pytest.approx((times[-1] - times[0]) * 1000, abs=0.05)
        assert total < (lived + 30) * 1000
        for it in found:
            assert ends[0] in (None, it["local"])
            assert ends[1] in (None, it["remote"])
    assert {it["netns"] for it in its} == {lab.server}
    assert {it["netns"] for it in mine} == {lab.outside}
    # The local port is known from the second change on, at the latest.
    assert {it["local_port"] for it in mine[1:]} == {own}
    held = mine[-1]["time"] - mine[1]["time"]
    assert 0 < held <= lived + 0.1


def test_the_client_closes_first(lab: Lab, command: Command, tmp_path: Path) -> None:
    with listener(lab) as to:
        port = str(to.getsockname()[1])
        with Running(command, tmp_path, "trace", "--csv", "--local-port", port) as server:
            client, its = connected(lab, to)
            ask_thread = threading.Thread(target=lambda: its.sendall(its.recv(5)), daemon=True)
            ask_thread.start()
            ask(client, b"hello", 5)
            ask_thread.join()
            client.close()
            assert its.recv(1) == b""
            its.close()
            assert eventually(lambda: any("LAST_ACK,CLOSE" in line for line in server.lines()))
            found = rows(server.stop())
    assert _named(found) == (*_ACCEPTED, *_SECOND)


def test_a_process_is_named_only_where_it_is_right(lab: Lab, command: Command, tmp_path: Path) -> None:
    """The server is this process, the client another; most changes happen in a softirq of whoever runs."""
    with listener(lab) as to:
        port = to.getsockname()[1]
        with Running(command, tmp_path, "trace", "--json") as out:
            client = python(lab, lab.outside, _CLIENT, SERVER4, port)
            assert client.stdin is not None
            assert client.stdout is not None
            try:
                assert client.stdout.readline() == "connected\n"
                its, _ = to.accept()
                client.stdin.write("\n")
                client.stdin.flush()
                assert client.stdout.readline() == "closed\n"
                its.settimeout(patient(30))
                assert its.recv(1) == b""
                its.close()
                child = client.pid  # `ip netns exec` becomes the program
                assert eventually(lambda: {"LAST_ACK", "FIN_WAIT2"} <= {it["old"] for it in _of(out, port)})
            finally:
                client.stdin.close()
                client.wait(patient(30))
                client.stdout.close()
            found = _of(out, port)
            out.stop()
    mine, others = _changes(found, local_port=port), _changes(found, remote_port=port)
    assert {it["pid"] for it in mine} <= {None, os.getpid()}
    assert {it["pid"] for it in others} <= {None, child}
    certain = {_named([it])[0]: it["pid"] for it in found}
    assert certain["CLOSE>SYN_SENT"] == child
    assert certain["SYN_SENT>ESTABLISHED"] == child
    assert certain["ESTABLISHED>FIN_WAIT1"] == child
    assert certain["CLOSE_WAIT>LAST_ACK"] == os.getpid()
    assert certain["SYN_RECV>ESTABLISHED"] in (None, os.getpid())


def test_filters(lab: Lab, command: Command, tmp_path: Path) -> None:
    with listener(lab) as four, listener(lab, 6) as six:
        ports = {4: four.getsockname()[1], 6: six.getsockname()[1]}
        wanted: dict[str, tuple[list[str], Any]] = {
            "family": (["--family", "6", "--netns", lab.server], lambda it: it["local"] == SERVER6),
            "remote": (["--remote", f"{OUTSIDE4}/31", "--netns", lab.server], lambda it: it["remote"] == OUTSIDE4),
            "local": (["--local", "2001:2:0:18::/64", "--netns", lab.outside], lambda it: it["local"] == OUTSIDE6),
            "port": (["--remote-port", f"{ports[4]}-{ports[4]}"], lambda it: it["remote_port"] == ports[4]),
            "state": (["--state", "close-wait", "--netns", lab.server], lambda it: "CLOSE_WAIT" in _named([it])[0]),
            "longer": (["--longer", "200ms", "--netns", lab.server], lambda it: it["ms"] >= 200),
            "netns": (["--netns", lab.outside], lambda it: it["netns"] == lab.outside),
            "pid": (["--pid", str(os.getpid())], lambda it: it["pid"] == os.getpid()),
        }
        running = {name: Running(command, tmp_path, "trace", "--json", *its) for name, (its, _) in wanted.items()}
        try:
            for to in (four, six):
                client, its = connected(lab, to)
                # This is the time that is asked for, and nothing that is waited for.
                threading.Event().wait(0.3)
                client.close()
                assert its.recv(1) == b""
                its.close()
            for name, it in running.items():
                assert eventually(lambda it=it: bool(it.objects())), name  # type: ignore[misc]
            assert eventually(lambda: _closed(running["netns"], 2))
            for name, it in running.items():
                found = it.objects()
                it.stop()
                assert found, name
                assert all(wanted[name][1](change) for change in found), (name, found)
        finally:
            for it in running.values():
                it.close()
    assert _named(running["state"].objects()) == (
        "ESTABLISHED>CLOSE_WAIT",
        "CLOSE_WAIT>LAST_ACK",
        "ESTABLISHED>CLOSE_WAIT",
        "CLOSE_WAIT>LAST_ACK",
    )
    # The first change has no port yet, and is told all the same.
    assert _named(running["port"].objects())[:2] == _OPENS


def test_addresses_of_the_kernel_are_shown_only_when_asked_for(lab: Lab, command: Command, tmp_path: Path) -> None:
    with listener(lab) as to:
        plain = [Running(command, tmp_path, "trace", *form) for form in ([], ["--json"], ["--csv"])]
        wide = [Running(command, tmp_path, "trace", "--wide", *form) for form in ([], ["--json"], ["--csv"])]
        try:
            for end in connected(lab, to):
                end.close()
            for it in plain + wide:
                assert eventually(lambda it=it: any("FIN_WAIT1" in line for line in it.lines()))  # type: ignore[misc]
                it.stop()
        finally:
            for it in plain + wide:
                it.close()
    for it in plain:
        assert not with_addresses(it.lines())
    for it in wide:
        assert with_addresses(it.lines())


@pytest.mark.parametrize("name", ["trace", "rtt", "retrans", "cwnd", "states"])
def test_programs_go_with_the_command_however_it_ends(command: Command, tmp_path: Path, name: str) -> None:
    more = ["--watch", "1"] if name == "states" else []
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        with Running(command, tmp_path, name, *more) as it:
            programs = programs_of(it.process.pid)
            assert programs
            it.process.send_signal(number)
            code = it.process.wait(patient(60))
            assert code == (-number if number == signal.SIGKILL else 0)
        assert eventually(lambda held=programs: not held & loaded())  # type: ignore[misc]


def test_a_reader_that_has_enough_ends_it(lab: Lab, command: Command) -> None:
    """`| head`, also when nothing happens any more."""
    with listener(lab) as to:
        line = " ".join(command.line("tcp", "trace", "--json"))
        shell = subprocess.Popen(
            ["bash", "-c", f"set -o pipefail; {line} | head -1; echo ended ${{PIPESTATUS[0]}}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=command.environment,
        )
        assert shell.stderr is not None
        assert "tracing" in shell.stderr.readline()
        for end in connected(lab, to):
            end.close()
        out, errors = shell.communicate(timeout=patient(60))
        assert "ended 0" in out
        assert not errors
