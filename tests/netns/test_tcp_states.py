# SPDX-License-Identifier: GPL-2.0
"""tcp states against `ss -tan` at the same moment: many connections, every state, and amid constant changes."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from support.command import Command
from support.patience import patient
from support.tcp import Running, connected, listener, python, ss, states
from support.traffic import eventually
from topology import CLIENTS4, INTERFACE, OUTSIDE4, OUTSIDE_MAC, SERVER4, SERVER_MAC, Lab

from xdpguard.net.netns import entered

_MANY = 10_000
# Connects so often from several addresses, and keeps the connections.
_HOLDER = """
import resource, socket, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
address, port, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
held = []
for i in range(number):
    held.append(socket.socket())
    held[-1].bind((sys.argv[4 + i % (len(sys.argv) - 4)], 0))
    held[-1].connect((address, port))
print("held", flush=True)
sys.stdin.readline()
"""
# Accepts all and keeps them.
_ACCEPTOR = """
import resource, socket, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind((sys.argv[1], 0))
listener.listen(4096)
print(listener.getsockname()[1], flush=True)
held = []
for _ in range(int(sys.argv[2])):
    held.append(listener.accept()[0])
print("accepted", flush=True)
sys.stdin.readline()
"""
# Accepts, answers and closes; connects, reads to the end and closes, as fast as it can.
_CLOSER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 0), backlog=4096)
print(listener.getsockname()[1], flush=True)
while True:
    with listener.accept()[0] as connection:
        connection.recv(1)
        connection.send(b"!")
"""
_CHURN = """
import itertools, socket, sys, time
for number in itertools.count():
    with socket.socket() as client:
        client.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        client.bind((sys.argv[3 + number % (len(sys.argv) - 3)], 0))
        client.connect((sys.argv[1], int(sys.argv[2])))
        client.send(b"?")
        while client.recv(10):
            pass
    if not number:
        print("began", flush=True)
"""


@contextlib.contextmanager
def _process(lab: Lab, namespace: str, program: str, *arguments: object) -> Iterator[tuple[Any, str]]:
    """A program and the first line it says."""
    made = python(lab, namespace, program, *arguments)
    try:
        yield made, made.stdout.readline().strip()  # type: ignore[union-attr]
    finally:
        made.kill()
        made.wait(patient(60))
        for pipe in (made.stdin, made.stdout):
            if pipe:
                pipe.close()


def test_ten_thousand_connections(lab: Lab, command: Command) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert most > _MANY, "the hard limit of open files is too low for this test"
    with (
        _process(lab, lab.server, _ACCEPTOR, SERVER4, _MANY) as (server, port),
        _process(lab, lab.outside, _HOLDER, SERVER4, port, _MANY, *CLIENTS4) as (_, held),
    ):
        assert held == "held"
        assert server.stdout.readline() == "accepted\n"
        document = command.json("tcp", "states")
        for namespace in (lab.server, lab.outside):
            # What connections before it have left in TIME_WAIT ends between the two.
            seen, there = states(document, namespace), ss(lab, namespace)
            seen["TIME_WAIT"] = there["TIME_WAIT"] = 0
            assert seen == there
            assert seen["ESTABLISHED"] >= _MANY
        remotes = command.json("tcp", "states", "--by", "remote", "--netns", lab.server, "--prefix4", "29")
        found = {it["prefix"]: it["sockets"] for it in remotes["namespaces"][0]["remotes"]}
        # .10 to .15, and .16 to .19: a tenth each.
        assert found["198.18.0.8/29"] == _MANY * 6 // 10
        assert found["198.18.0.16/29"] == _MANY * 4 // 10
        (its,) = [it for it in document["namespaces"] if it["netns"] == lab.server]
        (mine,) = [it for it in its["listeners"] if it["port"] == int(port)]
        assert mine["connections"] == _MANY
        assert mine["pid"] == server.pid
        assert mine["accept_limit"] == 4096


def test_every_state_that_can_be_held(lab: Lab, command: Command) -> None:
    # A small machine keeps few connections that are nearly over, and the tests before may have left thousands.
    lab.run(lab.outside, ["sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=262144"])
    with listener(lab) as to:
        ends = [connected(lab, to) for _ in range(6)]
        try:
            ends[0][0].shutdown(socket.SHUT_WR)  # FIN_WAIT2, CLOSE_WAIT
            ends[1][1].shutdown(socket.SHUT_WR)
            ends[2][0].close()  # FIN_WAIT2 of a small socket
            ends[3][0].close()
            assert ends[3][1].recv(1) == b""
            ends[3][1].close()  # TIME_WAIT
            assert ends[2][1].recv(1) == b""
            assert eventually(lambda: ss(lab, lab.outside)["FIN_WAIT2"] == 2)
            for namespace in (lab.server, lab.outside):
                assert states(command.json("tcp", "states", "--netns", namespace), namespace) == ss(lab, namespace)
            text = command.ok("tcp", "states", "--netns", lab.outside)
            assert "FIN_WAIT2" in text
            assert "TIME_WAIT" in text
        finally:
            for pair in ends:
                for end in pair:
                    end.close()


def _now(running: Running, namespace: str, number: int) -> Any:
    """The first line after so many."""
    assert eventually(lambda: len(running.objects()) > number, 60)
    return states(running.objects()[number], namespace)


def test_watch_keeps_current(lab: Lab, command: Command, tmp_path: Path) -> None:
    watch = ["states", "--json", "--watch", "0.2", "--netns", lab.server]
    with listener(lab, backlog=512) as to, Running(command, tmp_path, *watch) as it:
        before = _now(it, lab.server, 0)
        ends = [connected(lab, to) for _ in range(200)]
        try:
            seen = len(it.objects())
            after = _now(it, lab.server, seen + 1)
            assert after["ESTABLISHED"] - before["ESTABLISHED"] == 200
            for client, _ in ends[:50]:
                client.shutdown(socket.SHUT_WR)
            assert eventually(lambda: ss(lab, lab.server)["CLOSE_WAIT"] == 50)
            now = _now(it, lab.server, len(it.objects()) + 1)
            assert (now["ESTABLISHED"] - before["ESTABLISHED"], now["CLOSE_WAIT"]) == (150, 50)
            assert now == ss(lab, lab.server)
            found = sum(
                change["count"]
                for line in it.objects()
                for change in line["namespaces"][0]["transitions"]
                if (change["old"], change["new"]) == ("SYN_RECV", "ESTABLISHED")
            )
            assert found == 200
        finally:
            for pair in ends:
                for end in pair:
                    end.close()
        it.stop()


def test_under_churn_it_stays_with_ss(lab: Lab, command: Command, tmp_path: Path) -> None:
    """While connections come and go by the thousand, and after: nothing has drifted."""
    with (
        _process(lab, lab.server, _CLOSER, SERVER4) as (_, port),
        Running(command, tmp_path, "states", "--json", "--watch", "0.2") as it,
    ):
        with _process(lab, lab.outside, _CHURN, SERVER4, port, *CLIENTS4) as (_, began):
            assert began == "began"
            for _ in range(5):
                seen = len(it.objects())
                assert eventually(lambda seen=seen: len(it.objects()) > seen + 2, 60)  # type: ignore[misc]
                first = ss(lab, lab.server)
                live = states(it.objects()[-1], lab.server)
                once = states(command.json("tcp", "states", "--netns", lab.server), lab.server)
                second = ss(lab, lab.server)
                # What lies between two answers of ss, and as much again for the moments before and after.
                room = 2 * (second["TIME_WAIT"] - first["TIME_WAIT"]) + 1000
                for found in (live, once):
                    assert first["TIME_WAIT"] - room <= found["TIME_WAIT"] <= second["TIME_WAIT"] + room
                    assert found["LISTEN"] == 1
                    assert found["ESTABLISHED"] <= 10
            assert ss(lab, lab.server)["TIME_WAIT"] > 500, "there was no churn"
        # A snapshot taken amidst changes may be off by one or two; the next one is not.
        assert eventually(lambda: states(it.objects()[-1], lab.server) == ss(lab, lab.server), 60)
        it.stop()


def test_those_left_out_are_said_to_be(lab: Lab, command: Command) -> None:
    with listener(lab), listener(lab), listener(lab):
        arguments = ["tcp", "states", "--by", "listener", "--netns", lab.server]
        assert "and 1 more; --top 0 shows all" in command.ok(*arguments, "--top", "2")
        assert "more" not in command.ok(*arguments, "--top", "3")
        (found,) = command.json(*arguments, "--top", "2")["namespaces"]
        assert len(found["listeners"]) == 2


def test_the_namespace_of_a_process(lab: Lab, command: Command) -> None:
    with python(lab, lab.server, "import sys; print('ready', flush=True); sys.stdin.read()") as its:
        assert its.stdout is not None
        its.stdout.readline()
        with listener(lab) as to:
            (found,) = command.json("tcp", "states", "--by", "listener", "--netns", f"pid {its.pid}")["namespaces"]
            assert found["netns"] == lab.server, "it has a name"
            assert to.getsockname()[1] in [it["port"] for it in found["listeners"]]
        its.communicate()


def test_queues_of_a_listener(lab: Lab, command: Command) -> None:
    with listener(lab, backlog=8) as to:
        port = to.getsockname()[1]
        clients = []
        with entered(lab.outside):
            for _ in range(7):
                clients.append(socket.create_connection(to.getsockname(), timeout=patient(30)))
        try:
            found = command.json("tcp", "states", "--by", "listener", "--netns", lab.server)["namespaces"][0]
            (mine,) = [it for it in found["listeners"] if it["port"] == port]
            assert (mine["accept_queue"], mine["accept_limit"]) == (7, 8)
            (hint,) = [it for it in found["hints"] if it["kind"] == "accept_queue"]
            assert hint["port"] == port
            assert hint["pid"] == os.getpid()
            text = command.ok("tcp", "states", "--by", "listener", "--netns", lab.server)
            assert "7/8" in text
            assert "does not keep up" in " ".join(text.split())
        finally:
            for client in clients:
                client.close()


def test_a_syn_flood_is_told_as_one(lab: Lab, command: Command) -> None:
    with listener(lab, backlog=256) as to:
        port = to.getsockname()[1]
        with entered(lab.outside):
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with sender:
            sender.bind((INTERFACE, 0))
            for number in range(100):
                sender.send(
                    bytes(
                        Ether(src=OUTSIDE_MAC, dst=SERVER_MAC)
                        / IP(src=f"16.1.0.{number + 1}", dst=SERVER4)
                        / TCP(sport=4000, dport=port, flags="S", options=[("MSS", 1460)])
                    )
                )
        assert eventually(lambda: ss(lab, lab.server)["SYN_RECV"] == 100)
        document = command.json("tcp", "states", "--netns", lab.server)
        found = document["namespaces"][0]
        assert states(document, lab.server)["SYN_RECV"] == 100
        (mine,) = [it for it in found["listeners"] if it["port"] == port]
        assert (mine["syn_backlog"], mine["syn_limit"]) == (100, 256)
        (hint,) = [it for it in found["hints"] if it["kind"] == "syn_recv"]
        assert (hint["port"], hint["half_open"], hint["sources"]) == (port, 100, 100)


def test_an_application_that_does_not_close(lab: Lab, command: Command) -> None:
    with listener(lab) as to:
        ends = [connected(lab, to) for _ in range(60)]
        try:
            for client, _ in ends:
                client.close()
            assert eventually(lambda: ss(lab, lab.server)["CLOSE_WAIT"] == 60)
            found = command.json("tcp", "states", "--netns", lab.server)["namespaces"][0]
            (hint,) = [it for it in found["hints"] if it["kind"] == "close_wait"]
            assert (hint["sockets"], hint["pid"]) == (60, os.getpid())
        finally:
            for _, its in ends:
                its.close()


def test_namespaces_are_told_apart(lab: Lab, command: Command) -> None:
    with listener(lab) as to:
        client, its = connected(lab, to)
        with client, its:
            document = command.json("tcp", "states")
            named = [it["netns"] for it in document["namespaces"]]
            assert {lab.server, lab.outside, ""} <= set(named)
            assert len(set(named)) == len(named)
            only = command.json("tcp", "states", "--netns", lab.outside)
            assert [it["netns"] for it in only["namespaces"]] == [lab.outside]
            own = command.json("tcp", "states", "--netns", ".")
            assert [it["netns"] for it in own["namespaces"]] == [""]
            assert OUTSIDE4 in command.ok("tcp", "states", "--by", "remote", "--netns", lab.server)


@pytest.mark.parametrize("arguments", [[], ["--by", "listener"], ["--by", "remote"]])
def test_nothing_is_an_answer(command: Command, lab: Lab, arguments: list[str]) -> None:
    assert command.ok("tcp", "states", "--netns", lab.outside, *arguments).strip()
