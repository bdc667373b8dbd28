# SPDX-License-Identifier: GPL-2.0
"""A veth whose peer has no XDP program, like a container's: the SYN guard never sends answers that cannot arrive."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Command, on
from support.guard import sysctls
from support.scrape import watched
from support.traffic import PORT, Echo, eventually, start_flood, works
from topology import INTERFACE, OUTSIDE_MAC, SERVER_MAC, Lab

from xdpguard.bench.ends import XDP_PASS, attach_own, insn
from xdpguard.dataplane.sys import kernel
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.dataplane.tables import guard
from xdpguard.net.answers import egress
from xdpguard.net.links import Links, Mode
from xdpguard.net.netns import entered, entered_path

PEER = f"{INTERFACE}-srv"  # the server's, in the namespace between


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Lab]:
    """A lab whose server has an ordinary peer."""
    with Lab(f"xgord{os.getpid()}", owner=os.getpid(), ordinary=True) as made:
        yield made


@pytest.fixture(autouse=True)
def bare(ordinary: Lab) -> Iterator[None]:
    """Whatever a test puts on the peer is gone at its end."""
    yield
    bare_peer(ordinary)


@pytest.fixture
def serving(ordinary: Lab) -> Iterator[None]:
    """An echo on the server, whose settings let every SYN be answered with a cookie."""
    with Echo(ordinary), sysctls(ordinary, tcp_syncookies=2):
        yield


@contextlib.contextmanager
def veth(namespace: str, name: str, other: str, where: str = "") -> Iterator[None]:
    """A veth pair, the second end in a namespace by name or process."""
    line = f"ip -n {namespace} link add {name} type veth peer name {other} {f'netns {where}' if where else ''}"
    subprocess.run(line.split(), check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "-n", namespace, "link", "del", name], check=True)


def put_on_peer(lab: Lab, mode: Mode) -> None:
    """Puts a program on the server's peer that passes everything."""
    program = kernel.load_xdp(XDP_PASS, "test_peer")
    Links().attach(Links().get(PEER, lab.between), program, mode, None)
    os.close(program)


def bare_peer(lab: Lab) -> None:
    """Takes it off, whatever mode it is in."""
    for mode in ("xdpdrv", "xdpgeneric"):
        subprocess.run(["ip", "-n", lab.between, "link", "set", PEER, mode, "off"], check=True)


def clients(lab: Lab) -> list[bool]:
    """Whether clients get what they ask for, IPv4 and IPv6 in turn."""
    return [works(lab, family, "tcp", number) for number in (0, 1) for family in (4, 6)]


ALL = [True] * 4


def cookies(command: Command) -> int:
    """SYNs answered with a cookie so far."""
    return int(on(command.json("stats"), INTERFACE)["reasons"]["cookie_sent"]["packets"])


def answers(command: Command) -> Any:
    """What guard show says of them."""
    return on(command.json("guard", "show"), INTERFACE)["answers"]


def mute(command: Command, lab: Lab) -> int:
    """``xg_guard.mute`` of the server's interface."""
    return guard.read(Pins(Path("/sys/fs/bpf"), command.instance), INTERFACE, lab.server).mute


# The kernel.

_EVERYTHING = 3  # ETH_P_ALL
ETHERTYPE = 0x88B5  # for experiments on this link alone
# Sends such frames back as they are.
_SEND_BACK = b"".join(
    (
        insn(0x61, 0x12, 0),  # r2 = ctx->data
        insn(0x61, 0x13, 4),  # r3 = ctx->data_end
        insn(0xB7, 0x00, 0, 2),  # r0 = XDP_PASS
        insn(0xBF, 0x24),  # r4 = r2
        insn(0x07, 0x04, 0, 14),  # r4 += 14
        insn(0x2D, 0x34, 3),  # if r4 > r3: exit
        insn(0x69, 0x25, 12),  # r5 = EtherType
        insn(0x55, 0x05, 1, 0xB588),  # if it is another: exit
        insn(0xB7, 0x00, 0, 3),  # r0 = XDP_TX
        insn(0x95),  # exit
    )
)


def came_back(lab: Lab) -> bool:
    """Whether a frame that the peer sends comes back to it."""
    kind = ETHERTYPE.to_bytes(2, "big")
    with entered(lab.between), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((PEER, _EVERYTHING))  # a bridge takes its ports' frames before those who ask for one kind
        wire.send(bytes.fromhex(f"{SERVER_MAC}{OUTSIDE_MAC}".replace(":", "")) + kind + bytes(46))
        end = time.monotonic() + 0.5
        while (left := end - time.monotonic()) > 0:
            wire.settimeout(left)
            with contextlib.suppress(TimeoutError):
                frame, (_, _, direction, *_) = wire.recvfrom(128)
                if frame[12:14] == kind and direction != socket.PACKET_OUTGOING:
                    return True
    return False


_CARRIES: tuple[tuple[str, Mode | None], ...] = (
    ("nothing", None),
    ("gro", None),
    ("a program in generic mode", "generic"),
    ("a program in native mode", "native"),
)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_what_is_said_is_what_happens(ordinary: Lab, mode: Mode) -> None:
    """A frame that is sent back arrives where egress says so, and nowhere else."""
    links, program = Links(), kernel.load_xdp(_SEND_BACK, "test_send_back")
    try:
        links.attach(links.get(INTERFACE, ordinary.server), program, mode, None)
        for carries, as_mode in _CARRIES:
            bare_peer(ordinary)
            ordinary.run(ordinary.between, ["ethtool", "-K", PEER, "gro", "on" if carries == "gro" else "off"])
            if as_mode:
                put_on_peer(ordinary, as_mode)
            wanted = mode == "generic" or as_mode == "native"
            if carries != "gro":  # with GRO it waits in a ring, and comes when something else wakes the peer
                assert came_back(ordinary) is wanted, carries
            assert egress(links.get(INTERFACE, ordinary.server)).leaves is wanted, carries
    finally:
        ordinary.run(ordinary.between, ["ethtool", "-K", PEER, "gro", "off"])
        links.detach(links.get(INTERFACE, ordinary.server), mode, program)
        os.close(program)


def test_a_peer_in_the_same_namespace(ordinary: Lab) -> None:
    """And a bridge's port as the one that is guarded: no id of a namespace is told then."""
    with veth(ordinary.server, "pair0", "pair1"):
        links = Links()
        out = egress(links.get("pair0", ordinary.server), "native")
        assert out.leaves is False
        assert "its veth peer pair1 carries no XDP program" in out.why
        attach_own(ordinary.server, "pair1", XDP_PASS, "test_peer")
        assert egress(links.get("pair0", ordinary.server), "native").leaves is True


def test_a_peer_in_a_namespace_without_a_name(ordinary: Lab) -> None:
    """As a container's, of which only a process tells."""
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo made; read end"], stdin=-1, stdout=-1, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "made\n"
        with veth(ordinary.server, "pod0", "pod1", str(holder.pid)):
            link = Links().get("pod0", ordinary.server)
            out = egress(link, "native")
            assert out.leaves is False
            assert "pod1 in another network namespace carries no XDP program" in out.why
            with entered_path(Path(f"/proc/{holder.pid}/ns/net")):
                attach_own("", "pod1", XDP_PASS, "test_peer")
            assert egress(link, "native").leaves is True
    finally:
        holder.communicate("end\n", timeout=20)


def test_a_removed_interface_sends_nothing(ordinary: Lab) -> None:
    with veth(ordinary.server, "pair0", "pair1"):
        link = Links().get("pair0", ordinary.server)
    assert egress(link, "native").leaves is False
    assert egress(link._replace(netns="nosuch"), "native").leaves is False


# attach.


@pytest.mark.usefixtures("serving")
def test_auto_takes_a_mode_in_which_answers_leave(ordinary: Lab, command: Command) -> None:
    done = command("attach", INTERFACE, "--netns", ordinary.server)
    assert "in generic mode (program" in done.out, done
    assert f"no answer would arrive: its veth peer {PEER}" in done.err
    command.ok("guard", "set", "mode=always")
    before = cookies(command)
    assert clients(ordinary) == ALL
    assert cookies(command) == before + 4
    assert "every SYN is answered with a cookie" in command.ok("guard", "show")
    assert answers(command) == {"arrive": True, "muted": False, "by": "", "why": "", "remedy": ""}
    assert command("status").code == 0
    again = command("attach", INTERFACE, "--netns", ordinary.server)
    assert "in generic mode" in again.out
    assert again.err == "", "said once"


@pytest.mark.usefixtures("serving")
def test_a_prepared_peer_keeps_native_mode(ordinary: Lab, command: Command) -> None:
    put_on_peer(ordinary, "native")
    done = command("attach", INTERFACE, "--netns", ordinary.server)
    assert "in native mode" in done.out
    assert done.err == ""
    command.ok("guard", "set", "mode=always")
    before = cookies(command)
    assert clients(ordinary) == ALL
    assert cookies(command) == before + 4, "positive control: answers sent in native mode arrive"


@pytest.mark.usefixtures("serving")
def test_native_mode_that_is_asked_for_leaves_clients_to_the_kernel(ordinary: Lab, command: Command) -> None:
    done = command("attach", INTERFACE, "--netns", ordinary.server, "--mode", "native")
    assert "in native mode" in done.out
    assert "does not answer SYNs: its veth peer" in done.err
    assert "--mode generic" in done.err
    command.ok("guard", "set", "mode=always")
    assert mute(command, ordinary) == guard.MUTE_TOLD
    assert clients(ordinary) == ALL
    assert cookies(command) == 0


def test_everybody_says_that_no_answer_leaves(ordinary: Lab, command: Command) -> None:
    command.ok("attach", INTERFACE, "--netns", ordinary.server, "--mode", "native")
    why = f"its veth peer {PEER} in another network namespace carries no XDP program"
    result = command("status")
    assert result.code == 1
    assert f"{INTERFACE} (in {ordinary.server}) does not answer SYNs" in result.err
    assert why in result.err
    result = command("status", "--json")
    assert result.code == 1
    told = json.loads(result.out)["interfaces"][0]["answers"]
    assert not told["arrive"]
    assert told["muted"]
    assert why in told["why"]
    assert "--mode generic" in told["remedy"]
    assert answers(command) == told
    assert "idle, watching; the guard does not answer SYNs" in command.ok("guard", "show")
    set_now = command("guard", "set", "mode=always")
    assert why in set_now.err
    shown = command.ok("guard", "show")
    assert "every SYN" not in shown
    assert why in shown
    assert why in command.ok("doctor")
    again = command("attach", INTERFACE, "--netns", ordinary.server)
    assert "in native mode" in again.out, "a swap keeps its mode"
    assert why in again.err


@pytest.mark.parametrize("mode", ["off", "observe"])
def test_a_guard_that_does_not_answer_anyway(ordinary: Lab, command: Command, mode: str) -> None:
    command.ok("guard", "set", f"mode={mode}")
    done = command("attach", INTERFACE, "--netns", ordinary.server, "--mode", "native")
    assert "it could not answer either: its veth peer" in done.err
    assert command("status").code == 0
    assert f"the SYN guard is in mode {mode}" in command.ok("doctor")
    if mode == "off":
        command.ok("detach", INTERFACE, "--netns", ordinary.server)
        assert "in native mode" in command.ok("attach", INTERFACE, "--netns", ordinary.server)
        assert "the guard is off, and could not answer" in command.ok("guard", "show")


# Changes while it is attached.


@pytest.mark.usefixtures("serving")
def test_run_follows_the_peer(ordinary: Lab, command: Command, tmp_path: Path) -> None:
    put_on_peer(ordinary, "native")
    command.ok("attach", INTERFACE, "--netns", ordinary.server)
    command.ok("guard", "set", "mode=always")
    with watched(command, tmp_path) as running:
        assert clients(ordinary) == ALL
        assert cookies(command) == 4
        assert running.scrape()("xdpguard_guard_muted", interface=INTERFACE) == 0
        bare_peer(ordinary)
        assert running.service.says("the guard does not answer SYNs")
        assert mute(command, ordinary) in (guard.MUTE_TOLD, guard.MUTE_FOUND)
        before = cookies(command)
        assert clients(ordinary) == ALL, "the kernel serves them"
        assert cookies(command) == before
        assert running.scrape()("xdpguard_guard_muted", interface=INTERFACE) == 1
        put_on_peer(ordinary, "native")
        assert running.service.says("the guard's answers leave again")
        assert mute(command, ordinary) == guard.MUTE_NOT
        assert clients(ordinary) == ALL
        assert cookies(command) == before + 4


@pytest.mark.usefixtures("serving")
def test_the_data_plane_follows_the_peer(ordinary: Lab, command: Command) -> None:
    """The same without a controller: it looks at the peer itself, once a second while it is active."""
    put_on_peer(ordinary, "native")
    command.ok("attach", INTERFACE, "--netns", ordinary.server)
    command.ok("guard", "set", "mode=always")
    assert clients(ordinary) == ALL
    before = cookies(command)
    assert before == 4, "positive control: it answers"
    bare_peer(ordinary)
    assert eventually(lambda: works(ordinary, 4, "tcp"), 10), "the kernel serves them"
    assert mute(command, ordinary) == guard.MUTE_FOUND
    sent = cookies(command)
    assert clients(ordinary) == ALL
    assert cookies(command) == sent
    told = answers(command)
    assert told["by"] == "data plane"
    assert f"its veth peer {PEER}" in told["why"]
    assert command("status").code == 1
    command.ok("guard", "set", "hold=6s")
    assert mute(command, ordinary) == guard.MUTE_FOUND, "what it has found is not lost"
    put_on_peer(ordinary, "native")
    assert eventually(lambda: works(ordinary, 4, "tcp") and cookies(command) > sent, 10)
    assert mute(command, ordinary) == guard.MUTE_NOT
    assert command("status").code == 0


@pytest.mark.usefixtures("serving")
def test_a_stale_word_of_the_controller_is_told(ordinary: Lab, command: Command) -> None:
    """Without run nobody tells the guard that its peer has a program now: status says that, and how to mend it."""
    command.ok("attach", INTERFACE, "--netns", ordinary.server, "--mode", "native")
    put_on_peer(ordinary, "native")
    result = command("status")
    assert result.code == 1
    assert "answers would arrive now" in result.err
    command.ok("guard", "set", "mode=always")
    assert command("status").code == 0
    assert clients(ordinary) == ALL
    assert cookies(command) == 4


# A flood.


@pytest.mark.usefixtures("serving")
def test_a_flood_on_an_ordinary_peer(ordinary: Lab, command: Command) -> None:
    """No controller runs: the guard begins by itself, and every client gets its answer."""
    command.ok("attach", INTERFACE, "--netns", ordinary.server)
    command.ok("guard", "set", "flood_rate=2000")
    flood = start_flood(ordinary, "syn", "--port", str(PORT), "--rate", "50000", "--seconds", "20")
    try:
        assert eventually(lambda: bool(on(command.json("guard", "show"), INTERFACE)["active"]), 30)
        assert [works(ordinary, 4, "tcp", number, wait=5.0) for number in range(8)] == [True] * 8
        assert eventually(lambda: cookies(command) > 10_000, 20)
    finally:
        flood.terminate()
        flood.communicate()
