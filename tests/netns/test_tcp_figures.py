# SPDX-License-Identifier: GPL-2.0
"""TCP figures as a service reads them, evidence of floods, and records lost when a ring is full."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.tcp import asking, connected, half_open, kernel_counts, listener, serving, ss
from support.traffic import eventually
from topology import Lab

from xdpguard.dataplane.sys import kernel
from xdpguard.net import netns
from xdpguard.net.netns import entered
from xdpguard.tcp import program, trace
from xdpguard.tcp.cwnd import Sample, Windows
from xdpguard.tcp.evidence import Evidence
from xdpguard.tcp.figures import Figures, Parts
from xdpguard.tcp.filters import Filter
from xdpguard.tcp.resent import Counter as Resent
from xdpguard.tcp.rtt import RoundTrips


def test_every_figure(lab: Lab) -> None:
    with listener(lab) as to, Figures(Parts()) as figures:
        figures.read()
        port = to.getsockname()[1]
        with serving(to, 10), asking(lab, to.getsockname(), 20):
            assert eventually(lambda: figures.read().states.get((lab.server, "ESTABLISHED"), 0) >= 1)
            found = figures.read()
        assert found.states[lab.server, "LISTEN"] >= 1
        assert found.transitions[lab.server, "SYN_RECV", "ESTABLISHED"] == 1
        assert found.transitions[lab.outside, "CLOSE", "SYN_SENT"] == 1
        assert found.rtt[lab.server].count >= 20
        assert found.rtt[lab.outside].count >= 20
        assert [it.port for it in found.backlog[lab.server]] == [port]


def test_parts_that_are_left_out_are_empty() -> None:
    with Figures(Parts(False, False, False, False, False)) as figures:
        found = figures.read()
    assert (found.states, found.transitions, found.retransmissions, found.synacks) == ({}, {}, {}, {})
    assert (found.backlog, found.rtt) == ({}, {})


def test_retransmissions_are_those_of_the_kernel(lab: Lab) -> None:
    with listener(lab, backlog=128) as to, Figures(Parts(False, False, True, False, False)) as figures:
        port = to.getsockname()[1]
        before = kernel_counts(lab, lab.server)
        half_open(lab, port, 10)
        assert eventually(lambda: figures.read().synacks.get((lab.server, port), 0) >= 10, 60)
        assert eventually(
            lambda: (
                (kernel_counts(lab, lab.server) - before)["TcpExtTCPSynRetrans"]
                == figures.read().retransmissions[lab.server, "syn-ack"]
            ),
            30,
        )


def test_a_namespace_that_goes_meanwhile_is_no_error(lab: Lab) -> None:
    """`ip netns del` leaves the file behind for a moment, which leads nowhere then."""
    file = netns.FOLDER / f"{lab.server}-going"
    with Figures(Parts(states=True)) as figures:
        file.touch()
        try:
            assert (lab.server, "LISTEN") not in figures.read().states
            with listener(lab):
                assert figures.read().states[lab.server, "LISTEN"] >= 1
        finally:
            file.unlink()


def test_evidence_of_a_flood(lab: Lab) -> None:
    place = netns.find(lab.server)
    with listener(lab, backlog=128) as to, Resent() as counter:
        port = to.getsockname()[1]
        evidence = Evidence(counter)
        (quiet,) = evidence.read(place)
        assert (quiet.listener.port, quiet.listener.syn.length, quiet.synacks_per_second) == (port, 0, 0.0)
        half_open(lab, port, 40)
        assert eventually(lambda: ss(lab, lab.server)["SYN_RECV"] == 40)
        (begun,) = evidence.read(place)
        assert (begun.listener.syn.length, begun.listener.syn.limit) == (40, 128)
        rates = []

        def repeated() -> bool:
            (now,) = evidence.read(place)
            rates.append(now.synacks_per_second)
            return now.synacks_per_second > 0

        assert eventually(repeated, 60)
        assert evidence.read(place)[0].listener.syn_retransmitted > 0


def test_what_does_not_fit_into_a_ring_is_counted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring of one page takes 39 changes; twelve connections make 60."""
    monkeypatch.setattr(trace, "_RING_PAGES", 1)
    chosen = Filter(netns=netns.find(lab.server).inode)
    with listener(lab) as to, trace.Trace(chosen) as running:
        for _ in range(2):
            lost = running.lost()
            for _ in range(12):
                client, its = connected(lab, to)
                its.close()
                assert client.recv(1) == b""
                client.close()
            assert eventually(lambda: not set(ss(lab, lab.server)) - {"LISTEN", "TIME_WAIT"})
            found = list(running.read())
            assert 30 < len(found) < 40
            assert running.lost() - lost == 60 - len(found)
            assert [it.at for it in found] == sorted(it.at for it in found)
            # With room again it goes on, round the ring's end.


@pytest.fixture
def one_processor() -> Iterator[None]:
    """What this process does next runs on one: its packets as well."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_processor")
def test_kernels_that_do_not_tell_the_socket(lab: Lab) -> None:
    """Their tracepoint tells its cookie; a program that gets the socket itself adds it, also where others are before.

    On one processor the two ends of a connection take turns, so that the socket of the event before is the wrong one.
    """
    mine, other = (netns.find(it).inode for it in (lab.outside, lab.server))
    with listener(lab) as to, serving(to, 10):
        port = to.getsockname()[1]
        client = Filter(remote_ports=(port, port))
        with RoundTrips(client) as told, pytest.MonkeyPatch.context() as it:
            it.setattr(program, "tells_socket", lambda: False)
            with (
                RoundTrips(client) as trips,
                RoundTrips(Filter(netns=other)) as theirs,
                Windows(client, 0.001) as windows,
            ):
                with asking(lab, to.getsockname(), 20):
                    pass
                samples: list[Sample] = []

                def ended() -> bool:
                    samples.extend(windows.read())
                    return any(it.closed for it in samples)

                assert eventually(ended)
                ((group, found),) = trips.read().items()
                assert told.read()[group].count - 1 <= found.count
                assert found.count >= 20
                assert {it.netns for it in theirs.read()} == {other}
    assert group.netns == mine
    assert len({it.sk for it in samples}) == 1
    assert {it.netns for it in samples} == {mine}


def test_the_second_program_does_the_work_of_one_that_is_left_out(lab: Lab) -> None:
    """While the first runs it is left out; here it never runs, and is said to."""
    chosen = Filter(netns=netns.find(lab.server).inode)
    switches = {"SOCKETS": 1024, "RING_PAGES": 16}
    raw = {"xg_second": "inet_sock_set_state"}
    with listener(lab) as to, program.load("trace", trace.TRACEPOINTS, chosen, switches, 0, raw) as loaded:
        ring = program.Records(loaded, trace._TRANSITION)
        for says, wanted in ((1, 5), (0, 0)):
            kernel.update(loaded.map_fd("running"), bytes(4), says.to_bytes(8, "little") * kernel.possible_cpus())
            client, its = connected(lab, to)
            its.close()
            assert client.recv(1) == b""
            client.close()
            assert eventually(lambda: not set(ss(lab, lab.server)) - {"LISTEN", "TIME_WAIT"})
            assert ring.read().size == wanted
        assert kernel.sum_over_cpus(loaded.map_fd("stood_in")) >= 5
        ring.close()


def test_the_next_namespace_inherits_nothing() -> None:
    """The kernel gives the number of one that has gone to the next, at once unless others make some, too."""
    parts = Parts(retransmissions=False, backlog=False, rtt=False)
    name = f"xgnext{os.getpid()}"
    seen = set()
    with Figures(parts, lambda: [netns.find(name)]) as figures:
        for turn in range(100):
            count = turn % 3 + 1
            subprocess.run(["ip", "netns", "add", name], check=True)
            try:
                seen.add(netns.find(name).inode)
                first = figures.read()
                assert (first.counted, first.states, first.transitions) == ({name}, {}, {})
                with ExitStack() as stack, entered(name):
                    for _ in range(count):
                        stack.enter_context(socket.create_server(("127.0.0.1", 0)))
                    found = figures.read()
                assert found.states == {(name, "LISTEN"): count}
                assert found.transitions == {(name, "CLOSE", "LISTEN"): count}
            finally:
                subprocess.run(["ip", "netns", "del", name], check=True)
            if turn >= 5 and len(seen) <= turn:
                break
        else:
            pytest.fail("positive control: no number was given again")


def test_deleted_namespaces_are_forgotten() -> None:
    with Figures(Parts(False, False, False, False, True)) as figures:
        with Lab(f"xggone{os.getpid()}", owner=os.getpid()) as other, listener(other) as to, serving(to, 10):
            with asking(other, to.getsockname(), 5):
                pass
            assert {other.server, other.outside} <= set(figures.read().rtt)
        # The last socket in TIME_WAIT holds no namespace.
        rtt = figures._rtt.its
        assert rtt is not None

        def forgotten() -> bool:
            figures.read()
            return {group.netns for group in rtt.read()} <= {place.inode for place in netns.all_places()}

        assert eventually(forgotten)
        assert not {other.server, other.outside} & set(figures.read().rtt)
