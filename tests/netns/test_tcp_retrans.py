# SPDX-License-Identifier: GPL-2.0
"""tcp retrans counts what the kernel's own counters count."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from support.command import Command
from support.tcp import Running, ask, kernel_counts, listener, losing, serving
from support.traffic import eventually
from topology import INTERFACE, OUTSIDE4, OUTSIDE_MAC, SERVER4, SERVER_MAC, Lab

from xdpguard.net.netns import entered

_CONNECTIONS, _QUESTIONS = 12, 12
_QUESTION = bytes(30_000)


def _talk(lab: Lab, address: tuple[str, int]) -> None:
    for _ in range(_CONNECTIONS):
        with entered(lab.outside):
            client = socket.socket()
        with client:
            client.settimeout(90)
            client.connect(address)
            for _ in range(_QUESTIONS):
                ask(client, _QUESTION, 1)


def _quiet(lab: Lab) -> bool:
    """Whether nothing is on its way any more: no connection is left that could send again."""
    for namespace in (lab.server, lab.outside):
        if lab.run(namespace, ["ss", "-tanH", "state", "connected", "exclude", "time-wait"]).stdout.strip():
            return False
    return True


def _with_loss(lab: Lab, command: Command, tmp_path: Path) -> tuple[list[Running], Counter[str]]:
    """The commands while segments are lost, and what the kernel has counted meanwhile."""
    with listener(lab) as to:
        each = [Running(command, tmp_path, "retrans", "--json", "--netns", it) for it in (lab.server, lab.outside)]
        counted = Running(command, tmp_path, "retrans", "--count", "--by", "remote", "--json", "--top", "0")
        listeners = Running(command, tmp_path, "retrans", "--count", "--by", "listener", "--json", "--top", "0")
        everything = [*each, counted, listeners]
        try:
            before = kernel_counts(lab, lab.server, lab.outside)
            with losing(lab, 25):
                server = threading.Thread(target=_serve_counting, args=(to,), daemon=True)
                server.start()
                _talk(lab, to.getsockname())
            to.shutdown(socket.SHUT_RDWR)
            server.join(60)
            assert eventually(lambda: _quiet(lab), 90)
            grown = kernel_counts(lab, lab.server, lab.outside) - before
            for it in everything:
                it.stop()
        finally:
            for it in everything:
                it.close()
    return everything, grown


def test_loss_gives_what_the_kernel_counts(lab: Lab, command: Command, tmp_path: Path) -> None:
    for _ in range(4):
        (*each, counted, listeners), grown = _with_loss(lab, command, tmp_path)
        # On a busy machine an event may meet another tracing program on its CPU; it is said to be lost then.
        if not any("were lost" in it.notes for it in (*each, counted, listeners)):
            break
    found = [line for it in each for line in it.objects()]
    kinds: Counter[str] = Counter()
    for it in found:
        kinds[it["kind"]] += it["segments"]
    assert grown["TcpRetransSegs"] > 20
    assert kinds.total() == grown["TcpRetransSegs"]
    assert kinds["syn"] + kinds["syn-ack"] == grown["TcpExtTCPSynRetrans"]
    assert kinds["fast"] == grown["TcpExtTCPFastRetrans"]
    # Lost once more: a segment that the kernel marks so is sent again, unless what is on its way turns out to do.
    again = sum(it["segments"] for it in found if it["again"])
    assert again <= grown["TcpExtTCPLostRetransmit"] + kinds["loss-probe"] + kinds["timeout"]
    assert grown["TcpExtTCPLostRetransmit"] - again <= max(5, grown["TcpExtTCPLostRetransmit"] // 3)
    _check_counts(lab, counted.objects()[0], kinds, grown)
    _check_listeners(lab, listeners.objects()[0])


def _check_counts(lab: Lab, document: Any, kinds: Counter[str], grown: Counter[str]) -> None:
    groups = {it["netns"]: it for it in document["groups"] if it["netns"] in (lab.server, lab.outside)}
    assert groups[lab.outside]["remote"] == SERVER4
    assert groups[lab.server]["remote"] == OUTSIDE4
    assert sum(it["retransmitted"] for it in groups.values()) == kinds.total()
    total = Counter[str]()
    for it in groups.values():
        total += Counter(it["kinds"])
    assert total == kinds
    # TcpOutSegs has no segments that are sent again, but what no connection sends: SYN-ACKs, RSTs, and answers in
    # TIME_WAIT to a FIN that was sent again.
    sent = sum(it["sent"] for it in groups.values())
    resets, handshakes = grown["TcpOutRsts"], _CONNECTIONS
    answered = kinds["timeout"] + kinds["loss-probe"]
    assert abs(sent - grown["TcpOutSegs"] - kinds.total()) <= resets + handshakes + kinds["syn-ack"] + answered
    for it in groups.values():
        ratio = (it["retransmitted"] - it["kinds"]["syn-ack"]) / it["sent"]
        assert abs(it["ratio"] - ratio) < 1e-5


def _check_listeners(lab: Lab, document: Any) -> None:
    (its,) = [it for it in document["groups"] if it["netns"] == lab.server]
    assert its["listener"].startswith(f"{SERVER4}:")
    assert its["sent"] > 0
    (outgoing,) = [it for it in document["groups"] if it["netns"] == lab.outside]
    assert outgoing["listener"] == "none"


def _serve_counting(to: socket.socket) -> None:
    """Answers each question, whole, with one byte."""

    def serve(connection: socket.socket) -> None:
        got = 0
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65_536):
                got += len(data)
                if got >= len(_QUESTION):
                    got -= len(_QUESTION)
                    connection.sendall(b"!")

    to.settimeout(None)
    with contextlib.suppress(OSError):
        while True:
            connection, _ = to.accept()
            connection.settimeout(90)
            threading.Thread(target=serve, args=(connection,), daemon=True).start()


def test_a_namespace_that_comes_while_it_is_counted(command: Command, tmp_path: Path) -> None:
    name = f"xglate{os.getpid()}"
    with Running(command, tmp_path, "retrans", "--count", "--by", "remote", "--json", "--top", "0") as counted:
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
            with (
                entered(name),
                socket.create_server(("127.0.0.1", 0)) as to,
                socket.create_connection(to.getsockname(), timeout=30) as client,
            ):
                server, _ = to.accept()
                with server:
                    client.sendall(b"hello")
                    assert server.recv(5) == b"hello"
                    counted.stop()
        finally:
            subprocess.run(["ip", "netns", "del", name], check=True)
    (its,) = [it for it in counted.objects()[0]["groups"] if it["netns"] == name]
    assert its["remote"] == "127.0.0.1"
    assert its["sent"] >= 4, "SYN, ACK, five bytes, their ACK"


def test_a_blocked_source_retransmits_its_syn(lab: Lab, attached: Command, tmp_path: Path) -> None:
    """What a rule drops shows as kind syn, as often as the kernel counts it."""
    attached.ok("block", OUTSIDE4, "--force")  # it is the server's gateway
    with listener(lab) as to, Running(attached, tmp_path, "retrans", "--json", "--netns", lab.outside) as it:
        before = kernel_counts(lab, lab.outside)
        with entered(lab.outside):
            client = socket.socket()
        with client:
            client.setblocking(False)
            assert client.connect_ex(to.getsockname()) != 0
            assert eventually(lambda: len(it.objects()) >= 2, 60)
        grown = kernel_counts(lab, lab.outside) - before
        it.stop()
    assert {line["kind"] for line in it.objects()} == {"syn"}
    assert len(it.objects()) == grown["TcpExtTCPSynRetrans"] == grown["TcpRetransSegs"]
    assert [line["again"] for line in it.objects()][:2] == [False, True]
    assert {line["state"] for line in it.objects()} == {"SYN_SENT"}


def _unanswered(lab: Lab, command: Command, tmp_path: Path) -> tuple[list[Any], int]:
    """The lines of handshakes that nobody completes, as many as the kernel has counted, and the listener's port."""
    with listener(lab, backlog=256) as to, Running(command, tmp_path, "retrans", "--json", "--netns", lab.server) as it:
        port = to.getsockname()[1]
        before = kernel_counts(lab, lab.server)
        frames = [
            bytes(
                Ether(src=OUTSIDE_MAC, dst=SERVER_MAC)
                / IP(src=f"16.0.0.{number}", dst=SERVER4)
                / TCP(sport=4000, dport=port, flags="S", options=[("MSS", 1460)])
            )
            for number in range(1, 21)
        ]
        with entered(lab.outside):
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with sender:
            sender.bind((INTERFACE, 0))
            for frame in frames:
                sender.send(frame)

        def counted() -> int:
            return (kernel_counts(lab, lab.server) - before)["TcpExtTCPSynRetrans"]

        # Asked between two rounds of them, which are a second and more apart.
        assert eventually(lambda: counted() >= len(frames), 60)
        eventually(lambda: counted() == len(it.objects()), 10)
        found, grown = it.objects(), counted()
        it.stop()
        # An event may meet another tracing program on its CPU; it is said to be lost then.
        if len(found) != grown:
            assert "were lost" in it.notes, (len(found), grown)
            return _unanswered(lab, command, tmp_path)
        return found, port


def test_handshakes_that_nobody_completes_repeat_their_syn_ack(lab: Lab, command: Command, tmp_path: Path) -> None:
    found, port = _unanswered(lab, command, tmp_path)
    assert {(line["kind"], line["state"], line["local_port"]) for line in found} == {("syn-ack", "SYN_RECV", port)}
    assert {line["remote"] for line in found} == {f"16.0.0.{number}" for number in range(1, 21)}


def test_a_quiet_network_retransmits_nothing(lab: Lab, command: Command, tmp_path: Path) -> None:
    """The other half of the control: without loss there is nothing. What was sent before is not counted."""
    with listener(lab) as to, serving(to, 10):
        port = to.getsockname()[1]
        with entered(lab.outside):
            client = socket.socket()
        with client:
            client.settimeout(60)
            client.connect((SERVER4, port))
            for _ in range(100):
                ask(client, b"?", 10)
            counting = [
                Running(command, tmp_path, "retrans", "--count", "--json", "--remote-port", str(port), *more)
                for more in 2 * ([], ["--pid", str(os.getpid())])
            ]
            try:
                for _ in range(20):
                    ask(client, b"?", 10)
                # Two end while the connection lives, two after it.
                for it in counting[:2]:
                    it.stop()
                client.close()
                assert eventually(lambda: _quiet(lab), 60)
                for it in counting[2:]:
                    it.stop()
            finally:
                for it in counting:
                    it.close()
    for it in counting:
        (document,) = it.objects()
        assert document["total"]["retransmitted"] == 0
        # 20 questions, and acknowledgements; not the hundred before.
        assert 20 <= document["total"]["sent"] <= 45
        assert document["total"]["ratio"] == 0
