# SPDX-License-Identifier: GPL-2.0
"""TCP metrics of ``xdpguard run``: they agree with the commands and the kernel, part by part."""

from __future__ import annotations

import math
import signal
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.command import Command
from support.scrape import Scrape, watched
from support.tcp import ask, asking, connected, half_open, kernel_counts, listener, loaded, programs_of, serving, ss
from support.traffic import eventually
from topology import SERVER4, Lab

pytestmark = pytest.mark.timeout(300)
ON = 'listen = "127.0.0.1:0"\ntcp.rtt = true\n'
PARTS = {
    "states": {"xdpguard_tcp_sockets"},
    "transitions": {"xdpguard_tcp_transitions_total"},
    "retransmissions": {"xdpguard_tcp_retransmissions_total", "xdpguard_tcp_synack_retransmissions_total"},
    "backlog": {f"xdpguard_tcp_{queue}{end}" for queue in ("accept_queue", "syn_backlog") for end in ("", "_limit")},
    "rtt": {f"xdpguard_tcp_rtt_seconds_{part}" for part in ("bucket", "count", "sum")},
}


def told(scrape: Scrape) -> set[str]:
    return {name for name, _ in scrape.values if name.startswith("xdpguard_tcp_") and "flags" not in name}


def test_figures_of_connections(lab: Lab, attached: Command, tmp_path: Path) -> None:
    with listener(lab, backlog=16) as to, watched(attached, tmp_path, ON) as its, ExitStack() as stack:
        port = to.getsockname()[1]
        first = its.scrape()
        assert first("xdpguard_scrape_collector_success", collector="tcp") == 1
        assert first("xdpguard_tcp_transitions_total", netns=lab.server) == -1
        for _ in range(3):
            client, server = connected(lab, to)
            stack.enter_context(client)
            stack.enter_context(server)
            for _ in range(20):
                ask(client, b"?", 0)
                assert server.recv(1)
                server.sendall(b"!")
                assert client.recv(1)
        found = its.scrape()
        wanted = ss(lab, lab.server)
        states = {
            dict(has)["state"]: number
            for (name, has), number in found.values.items()
            if name == "xdpguard_tcp_sockets" and dict(has)["netns"] == lab.server
        }
        assert len(states) == 10, "those that no socket is in are told, as 0"
        # Another test's connections may still be in this one.
        del states["TIME_WAIT"], wanted["TIME_WAIT"]
        assert +Counter(states) == wanted == {"LISTEN": 1, "ESTABLISHED": 3}
        changes = {
            (old, new): found("xdpguard_tcp_transitions_total", netns=lab.server, old=old, new=new)
            for old, new in (("LISTEN", "SYN_RECV"), ("SYN_RECV", "ESTABLISHED"), ("ESTABLISHED", "CLOSE_WAIT"))
        }
        assert changes["SYN_RECV", "ESTABLISHED"] == 3
        assert changes["ESTABLISHED", "CLOSE_WAIT"] == -1
        queue = {"netns": lab.server, "address": SERVER4, "port": str(port)}
        assert found("xdpguard_tcp_accept_queue", **queue) == 0
        assert found("xdpguard_tcp_accept_queue_limit", **queue) == 16
        labels = {"netns": lab.server}
        received = found("xdpguard_tcp_rtt_seconds_count", **labels)
        assert received >= 60
        buckets = sorted(
            (float(dict(has)["le"]), number)
            for (name, has), number in found.values.items()
            if name == "xdpguard_tcp_rtt_seconds_bucket" and dict(has)["netns"] == lab.server
        )
        assert buckets[-1] == (math.inf, received)
        assert [number for _, number in buckets] == sorted(number for _, number in buckets)
        assert buckets[0][0] == 64e-6
        average = found("xdpguard_tcp_rtt_seconds_sum", **labels) / received
        assert 0 < average < 1, "seconds"
        # Neither the clients' namespace nor any other that has no interface attached.
        namespaces = {dict(has)["netns"] for (name, has) in found.values if name in told(found)}
        assert namespaces == {"", lab.server}


def test_backlog_and_retransmitted_syn_acks(lab: Lab, attached: Command, tmp_path: Path) -> None:
    """Of two listeners the fuller one is named, where one may be."""
    with (
        listener(lab, backlog=64) as idle,
        listener(lab, backlog=8) as to,
        watched(attached, tmp_path, ON + "top = 1\n") as its,
    ):
        port, other = to.getsockname()[1], idle.getsockname()[1]
        assert told(its.scrape()) >= PARTS["retransmissions"], "before there is one"
        before = kernel_counts(lab, lab.server)
        half_open(lab, port, 5)
        assert eventually(lambda: ss(lab, lab.server)["SYN_RECV"] == 5)
        found = its.scrape()
        assert found.labels("xdpguard_tcp_syn_backlog", "port") == {str(port): 5}
        assert found.labels("xdpguard_tcp_syn_backlog_limit", "port") == {str(port): 8}

        def again() -> bool:
            scrape = its.scrape()
            sent = scrape("xdpguard_tcp_synack_retransmissions_total", netns=lab.server, port=str(port))
            kernel = (kernel_counts(lab, lab.server) - before)["TcpExtTCPSynRetrans"]
            return 5 <= scrape("xdpguard_tcp_retransmissions_total", netns=lab.server, kind="syn-ack") == sent == kernel

        assert eventually(again, 60)
        assert other not in its.scrape().labels("xdpguard_tcp_accept_queue", "port")


def test_each_part_can_be_switched_off(lab: Lab, attached: Command, tmp_path: Path) -> None:
    """Nobody pays for what nobody has asked for: the programs come with the first scrape, and go with the part."""
    with listener(lab) as to, serving(to, 1), watched(attached, tmp_path, ON) as its:
        mine = programs_of(its.service.pid)

        def set_to(text: str) -> None:
            before = sum("configuration reloaded" in line for line in its.service.lines)
            its.file.write_text(f"[metrics]\n{text}")
            its.service.signal(signal.SIGHUP)
            assert eventually(
                lambda: sum("configuration reloaded" in line for line in its.service.lines) > before, 30
            ), its.service.lines

        def families() -> set[str]:
            """What is told when there has been a connection since the programs are there."""
            its.scrape()
            with asking(lab, to.getsockname(), 1, 1):
                pass
            return told(its.scrape())

        assert families() == set().union(*PARTS.values())
        with_all = programs_of(its.service.pid) - mine
        assert len(with_all) == 4, "of states, retransmissions (two kinds), round-trip times"
        for part, names in PARTS.items():
            set_to(f"{ON}tcp.{part} = false\n" if part != "rtt" else ON.replace("true", "false"))
            found = families()
            # Ports of which no SYN-ACK was sent again are told for the listeners that are named.
            quiet = {"xdpguard_tcp_synack_retransmissions_total"} if part == "backlog" else set()
            assert found == set().union(*PARTS.values()) - names - quiet, part
        set_to(ON)
        families()
        count = its.scrape()("xdpguard_tcp_transitions_total", netns=lab.server, old="SYN_RECV", new="ESTABLISHED")
        set_to(ON.replace("true", "false"))
        families()
        now = its.scrape()("xdpguard_tcp_transitions_total", netns=lab.server, old="SYN_RECV", new="ESTABLISHED")
        assert now == count + 1, "those of the parts that stay go on"
        set_to('listen = "127.0.0.1:0"\n' + "".join(f"tcp.{part} = false\n" for part in PARTS))
        assert not families()
        assert programs_of(its.service.pid) == mine
        assert not with_all & loaded()
        set_to(ON)
        families()
        assert programs_of(its.service.pid) > mine
        set_to('listen = "off"\n')
        assert eventually(lambda: programs_of(its.service.pid) == mine, 30), "nobody can ask"
