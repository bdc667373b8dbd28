# SPDX-License-Identifier: GPL-2.0
"""tcp rtt and tcp cwnd: delay shows up where it belongs, windows are the connection's."""

from __future__ import annotations

import itertools
import os
import socket
import struct
from pathlib import Path
from typing import Any

import pytest
from support import delay
from support.command import Command
from support.patience import patient
from support.tcp import Running, ask, asking, connected, listener, serving, with_addresses
from support.traffic import eventually
from topology import OUTSIDE4, OUTSIDE6, SERVER4, SERVER6, Lab

from xdpguard.net.netns import entered
from xdpguard.tcp.cwnd import living

_DELAY = 0.03  # seconds each way


def _group(document: Any, **wanted: Any) -> Any:
    (found,) = [it for it in document["groups"] if all(it[key] == value for key, value in wanted.items())]
    return found


def test_delay_shows_in_the_histogram_at_the_right_place(lab: Lab, command: Command, tmp_path: Path) -> None:
    with delay.delayed(lab, _DELAY):
        with entered(lab.server):
            to = socket.create_server((delay.SERVER, 0))
        with to, Running(command, tmp_path, "rtt", "--json", "--by", "remote", "--unit", "ms") as it:
            with serving(to, 10):
                for _ in range(3):
                    with asking(lab, (delay.SERVER, to.getsockname()[1]), 5):
                        pass
            it.stop()
            (document,) = it.objects()
    assert document["unit"] == "ms"
    for netns, remote in ((lab.outside, delay.SERVER), (lab.server, delay.OUTSIDE)):
        found = _group(document, netns=netns, remote=remote)
        assert found["count"] >= 15
        assert found["count"] == sum(bucket["count"] for bucket in found["buckets"])
        # Twice the delay, and what a busy machine adds to some; nothing below.
        for name in ("average", "p50", "p90", "p99"):
            assert found[name] >= 2 * _DELAY * 1000 * 0.9, (name, found)
        assert found["p50"] <= 2 * _DELAY * 1000 * 3, found
        assert min(bucket["to"] for bucket in found["buckets"]) > 2 * _DELAY * 1000
        assert found["p50"] <= found["p90"] <= found["p99"] <= max(bucket["to"] for bucket in found["buckets"])


def test_without_delay_it_is_far_less(lab: Lab, command: Command, tmp_path: Path) -> None:
    with listener(lab) as to, listener(lab, 6) as six:
        ports = to.getsockname()[1], six.getsockname()[1]
        with Running(command, tmp_path, "rtt", "--json", "--by", "local-port", "--netns", lab.server) as it:
            with serving(to, 10), serving(six, 10):
                for each in (to, six):
                    with asking(lab, each.getsockname(), 20):
                        pass
            it.stop()
            (document,) = it.objects()
    for port in ports:
        found = _group(document, local_port=port)
        assert found["netns"] == lab.server
        # Each question is a segment that is received, and each answer is acknowledged by the next or the end.
        assert found["count"] >= 20
        assert found["p50"] < _DELAY * 1e6


def test_filters_of_round_trips(lab: Lab, command: Command, tmp_path: Path) -> None:
    with listener(lab) as to, listener(lab, 6) as six:
        cases = {
            "nothing": ["--remote", "203.0.113.0/24"],
            "family": ["--family", "6", "--by", "local"],
            "local": ["--local", SERVER4, "--by", "remote", "--prefix4", "24"],
            "pid": ["--pid", str(os.getpid()), "--by", "local"],
            "other": ["--pid", "1", "--netns", lab.server],
            "longer": ["--longer", "10s", "--netns", lab.server],
            "text": ["--netns", lab.server, "--interval", "200ms"],
        }
        form = {name: [] if name == "text" else ["--json"] for name in cases}
        running = {name: Running(command, tmp_path, "rtt", *its, *form[name]) for name, its in cases.items()}
        try:
            with serving(to, 10), serving(six, 10):
                for each in (to, six):
                    with entered(lab.outside):
                        client = socket.socket(each.family)
                    with client:
                        client.settimeout(patient(60))
                        client.bind((OUTSIDE4 if each is to else OUTSIDE6, 0))
                        client.connect(each.getsockname()[:2])
                        # Long enough that the process's sockets have been looked at.
                        for _ in range(100):
                            ask(client, b"?", 10)
                            assert not eventually(lambda: False, 0.005)
            assert eventually(lambda: any("█" in line for line in running["text"].lines()))
            for it in running.values():
                it.stop()
        finally:
            for it in running.values():
                it.close()
    assert running["nothing"].objects()[0]["groups"] == []
    assert running["other"].objects()[0]["groups"] == []
    assert running["longer"].objects()[0]["groups"] == []
    assert {it["local"] for it in running["family"].objects()[0]["groups"]} >= {SERVER6, OUTSIDE6}
    assert all(":" in it["local"] for it in running["family"].objects()[0]["groups"])
    found = _group(running["local"].objects()[0], netns=lab.server)
    assert found["remote"] == "198.18.0.0/24"
    of_process = {it["local"] for it in running["pid"].objects()[0]["groups"]}
    assert of_process == {SERVER4, SERVER6, OUTSIDE4, OUTSIDE6}


def _info(connection: socket.socket) -> dict[str, int]:
    """struct tcp_info, linux/tcp.h."""
    raw = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    words = struct.unpack_from("=24I", raw, 8)
    return {"srtt_us": words[15], "ssthresh": words[17], "cwnd": words[18]}


def test_windows_are_those_of_the_connection(lab: Lab, command: Command, tmp_path: Path) -> None:
    with listener(lab) as to:
        port = to.getsockname()[1]
        with Running(command, tmp_path, "cwnd", "--json", "--every", "1ms", "--netns", lab.outside) as it:
            client, its = connected(lab, to)
            with client, its:
                for _ in range(30):
                    client.sendall(bytes(200_000))
                    got = 0
                    while got < 200_000:
                        got += len(its.recv(65_536))
                # The program sees a segment before the connection does: one more, so that it tells what now holds.
                assert eventually(lambda: _idle(client))
                wanted = _info(client)
                # Longer than what lies between two samples at least.
                assert not eventually(lambda: False, 0.2)
                number = len(_samples(it, port))
                its.sendall(b"!")
                assert client.recv(1) == b"!"
                assert eventually(lambda: len(_samples(it, port)) > number)
                last = _samples(it, port)[number]
                ends = {(each.local_port, each.remote_port) for each in living()}
                assert {(client.getsockname()[1], port), (port, client.getsockname()[1])} <= ends
                assert last["cwnd"] == wanted["cwnd"]
                assert last["srtt_us"] == wanted["srtt_us"]
            assert eventually(lambda: any(line.get("closed") for line in it.objects()))
            it.stop()
    found = _samples(it, port)
    assert all(sample["send_window"] > 0 and sample["receive_window"] > 0 for sample in found)
    assert all(after["time"] - before["time"] >= 0.00099 for before, after in itertools.pairwise(found))
    assert any(sample["in_flight"] for sample in found)
    assert any(sample["skipped"] for sample in found)
    assert "socket" not in found[0]


def _idle(client: socket.socket) -> bool:
    raw = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return bool(struct.unpack_from("=I", raw, 24)[0] == 0)  # tcpi_unacked


def _samples(running: Running, port: int) -> list[Any]:
    return [it for it in running.objects() if it["remote_port"] == port and not it.get("closed")]


def test_a_table_with_a_sparkline(lab: Lab, command: Command, tmp_path: Path) -> None:
    with (
        listener(lab) as to,
        Running(command, tmp_path, "cwnd", "--every", "1ms", "--interval", "200ms", "--local", OUTSIDE4) as it,
    ):
        client, its = connected(lab, to)
        with client, its, serving_once(its):
            assert eventually(lambda: _drawn(it, client), 60)
        it.stop()
    assert any("ssthresh" in line and "cwnd over time" in line for line in it.lines())


def _drawn(running: Running, client: socket.socket) -> bool:
    ask(client, bytes(50_000), 1)
    end = f"{client.getsockname()[0]}:{client.getsockname()[1]}"
    return any(end in line and sum(line.count(block) for block in "▁▂▃▄▅▆▇█") >= 3 for line in running.lines())


class serving_once:  # noqa: N801 (reads as a context)
    """Answers each 50,000 bytes with one."""

    def __init__(self, connection: socket.socket) -> None:
        import threading

        self._connection = connection
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        got = 0
        while data := self._connection.recv(65_536):
            got += len(data)
            while got >= 50_000:
                got -= 50_000
                self._connection.sendall(b"!")

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._connection.shutdown(socket.SHUT_RD)
        self._thread.join(patient(30))


@pytest.mark.parametrize("name", ["rtt", "retrans", "cwnd"])
def test_no_address_of_the_kernel_without_wide(command: Command, tmp_path: Path, name: str) -> None:
    with Running(command, tmp_path, name) as it:
        assert not with_addresses(it.stop())
