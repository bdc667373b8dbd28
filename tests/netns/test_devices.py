# SPDX-License-Identifier: GPL-2.0
"""Stacked devices, names of interfaces and namespaces, MTUs, and the kernel's own reasons."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.command import Command
from support.service import Service
from support.traffic import eventually

from xdpguard.dataplane.sys import kernel
from xdpguard.net import netns
from xdpguard.net.links import Links
from xdpguard.net.netns import entered
from xdpguard.store.database import Store

XDP_PASS = struct.pack("<BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0)
HERE4, THERE4 = "198.18.7.1", "198.18.7.2"
_NUMBERS = itertools.count(1)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def namespace() -> Iterator[str]:
    name = f"xgdev{os.getpid()}-{next(_NUMBERS)}"
    ip("netns", "add", name)
    try:
        yield name
    finally:
        ip("netns", "del", name)


@dataclass
class Pair:
    """A veth pair: ``low0`` in the namespace ``here``, its peer ``far0`` in ``there``, with addresses."""

    here: str
    there: str

    def ip(self, *words: str) -> None:
        ip("-n", self.here, *words)

    def program(self, name: str) -> int | None:
        xdp = Links().get(name, self.here).xdp
        return xdp.prog_id if xdp else None

    def put(self, name: str, mode: str = "native") -> int:
        """Attaches a program of somebody else's; returns its descriptor, which the caller closes."""
        descriptor = kernel.load_xdp(XDP_PASS, "somebodys")
        links = Links()
        links.attach(links.get(name, self.here), descriptor, "generic" if mode == "generic" else "native", None)
        return descriptor

    def ping(self, size: int = 20) -> bool:
        """Whether a datagram of so many bytes arrives, sent in one frame."""
        with entered(self.here), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as to:
            to.bind((HERE4, 0))
            to.settimeout(0.5)
            with entered(self.there), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as by:
                by.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: never in fragments
                by.bind((THERE4, 0))
                by.sendto(b"x" * size, to.getsockname())
            try:
                return len(to.recv(65535)) == size
            except TimeoutError:
                return False


@pytest.fixture
def pair(command: Command) -> Iterator[Pair]:
    """Removed at the end, after whatever is attached there."""
    with namespace() as here, namespace() as there:
        ip("-n", here, "link", "add", "low0", "type", "veth", "peer", "name", "far0", "netns", there)
        made = Pair(here, there)
        # With the guard on, attach would take generic mode: the peers carry no program, so no answer would arrive.
        command.ok("guard", "set", "mode=off")
        made.ip("link", "set", "low0", "up")
        ip("-n", there, "link", "set", "far0", "up")
        try:
            yield made
        finally:
            command("detach", "--all")


def addressed(pair: Pair, name: str = "low0") -> None:
    pair.ip("address", "add", f"{HERE4}/24", "dev", name)
    ip("-n", pair.there, "address", "add", f"{THERE4}/24", "dev", "far0")
    assert eventually(pair.ping), "the pair carries nothing"


def stand(pair: Pair, kind: str) -> str:
    """Puts a device above ``low0``; returns its name."""
    if kind == "bridge":
        pair.ip("link", "add", "up0", "type", "bridge")
        pair.ip("link", "set", "low0", "master", "up0")
    else:
        pair.ip("link", "add", "up0", "link", "low0", "type", kind, "mode", "bridge")
    pair.ip("link", "set", "up0", "up")
    return "up0"


@pytest.mark.parametrize("kind", ["bridge", "macvlan"])
@pytest.mark.parametrize("order", [("low0", "up0"), ("up0", "low0")])
def test_an_upper_and_a_lower_device(command: Command, pair: Pair, kind: str, order: tuple[str, str]) -> None:
    upper = stand(pair, kind)
    for name in order:
        result = command("attach", name, "--netns", pair.here)
        assert result.code == 0, result
        moved = f"{upper} (in {pair.here}): the program was detached for a moment and is attached again"
        assert (moved in result.err) == (order[0] == upper and name == "low0")
    before = pair.program("low0"), pair.program(upper)
    assert None not in before
    off = ["ip", "-n", pair.here, "link", "set", "low0", "xdp", "off"]
    assert subprocess.run(off, check=False, capture_output=True).returncode != 0, "the kernel lets it"
    command.ok("attach", "low0", "--netns", pair.here)
    assert pair.program("low0") not in (None, before[0]), "swapped"
    assert pair.program(upper) == before[1], "back as it was"
    assert {it["state"] for it in command.json("status")["interfaces"]} == {"attached"}
    assert "detached from up0" in command.ok("detach", "--all").splitlines()[0], "from the top down"
    assert (pair.program("low0"), pair.program(upper)) == (None, None)
    assert command.json("status")["interfaces"] == []
    assert not command.pins.exists()


def test_the_lower_device_alone_is_detached(command: Command, pair: Pair) -> None:
    upper = stand(pair, "bridge")
    command.ok("attach", "low0", "--netns", pair.here)
    command.ok("attach", upper, "--netns", pair.here)
    program = pair.program(upper)
    result = command("detach", "low0", "--netns", pair.here)
    assert result.code == 0, result
    assert "detached for a moment" in result.err
    assert "detached from low0" in result.out
    assert (pair.program("low0"), pair.program(upper)) == (None, program)


def test_an_upper_device_in_another_namespace(command: Command, pair: Pair) -> None:
    """A macvlan in a container, its parent outside."""
    pair.ip("link", "add", "up0", "link", "low0", "netns", pair.there, "type", "macvlan", "mode", "bridge")
    command.ok("attach", "low0", "--netns", pair.here)
    command.ok("attach", "up0", "--netns", pair.there)
    program = pair.program("low0")
    command.ok("attach", "low0", "--netns", pair.here)
    assert pair.program("low0") not in (None, program)
    assert {it["state"] for it in command.json("status")["interfaces"]} == {"attached"}
    command.ok("detach", "--all")
    assert pair.program("low0") is None


def test_a_program_of_anothers_above_is_left_alone(command: Command, pair: Pair) -> None:
    """What cannot be detached keeps none of the others, and is told at the end."""
    upper = stand(pair, "bridge")
    pair.ip("link", "add", "spare0", "type", "veth", "peer", "name", "spare1")
    command.ok("attach", "low0", "--netns", pair.here)
    command.ok("attach", "spare0", "--netns", pair.here)
    program = pair.program("low0")
    other = pair.put(upper, "generic")
    try:
        for line in (
            command.refused(1, "attach", "low0", "--netns", pair.here),
            command.refused(1, "detach", "low0", "--netns", pair.here),
        ):
            assert "upper device already has a program" in line
            assert f"detach the program from {upper} (in {pair.here}) first" in line
        assert pair.program("low0") == program
        result = command("detach", "--all")
        assert result.code == 1, result
        assert "cannot detach from low0" in result.err
        assert "detached from spare0" in result.out
        assert (pair.program("low0"), pair.program("spare0")) == (program, None)
        assert [it["name"] for it in command.json("status")["interfaces"]] == ["low0"]
        pair.ip("link", "set", upper, "xdpgeneric", "off")
        command.ok("detach", "--all")
        assert pair.program("low0") is None
    finally:
        os.close(other)


def test_the_kernels_own_reason(command: Command, pair: Pair) -> None:
    pair.ip(
        "link", "add", "few0", "numrxqueues", "1", "numtxqueues", "1", "type", "veth",
        "peer", "name", "many0", "numrxqueues", "4", "numtxqueues", "4",
    )  # fmt: skip
    line = command.refused(1, "attach", "few0", "--netns", pair.here, "--mode", "native")
    assert "cannot attach to few0 in native mode: veth: XDP expects number of rx queues" in line
    assert "ethtool -L" in line
    result = command("attach", "few0", "--netns", pair.here)
    assert result.code == 0
    assert "XDP expects number of rx queues" in result.err
    assert "generic mode" in result.err
    command.ok("attach", "many0", "--netns", pair.here, "--mode", "native")


def test_alternative_names(command: Command, pair: Pair) -> None:
    addressed(pair)
    long = "an-alternative-name-of-many-characters"
    pair.ip("link", "property", "add", "dev", "low0", "altname", "wan", "altname", long)
    assert "attached to low0 " in command.ok("attach", "wan", "--netns", pair.here)
    (found,) = command.json("status", "-i", "wan")["interfaces"]
    assert found["name"] == "low0"
    command.ok("block", THERE4)
    assert not pair.ping()
    command.ok("events", "-i", long)
    packet = f"udp {THERE4}:9 > {HERE4}:9"
    assert command.json("explain", packet, "--interface", long)["interface"] == "low0"
    assert "wan0 is not attached" in command.refused(2, "status", "-i", "wan0")
    command.refused(2, "explain", packet, "-i", "wan0")
    assert "detached from low0" in command.ok("detach", long, "--netns", pair.here)
    assert pair.ping()


def test_rules_are_in_force_on_a_renamed_interface(command: Command, pair: Pair) -> None:
    """The program goes with the interface, and what is said of rules is so."""
    addressed(pair)
    command.ok("attach", "low0", "--netns", pair.here)
    pair.ip("link", "set", "low0", "down")
    pair.ip("link", "set", "low0", "name", "wan0")
    pair.ip("link", "set", "wan0", "up")
    assert eventually(pair.ping), "nothing is blocked yet"
    said = command("block", THERE4)
    assert not pair.ping()
    place = f"wan0 (in {pair.here})"
    assert f"in force on {place}" in said.err
    assert f"is now {place}, and carries the program there" in said.err
    assert "its packets are dropped" in command.ok("explain", THERE4)
    stats = command("stats")
    assert "nothing is inspected" not in stats.err
    assert f"is now {place}" in stats.err
    assert next(iter(command.json("stats")["interfaces"].values()))["attached"] is True
    command.ok("unblock", THERE4)
    assert pair.ping()
    command.ok("lists", "load", "bad", "-", stdin=THERE4 + "\n")
    assert not pair.ping()
    assert command.json("lists", "show")[0]["in_force"] is True


def test_names_as_other_programs_show_them(command: Command, pair: Pair) -> None:
    line = command.refused(2, "attach", "low0@if7", "--netns", pair.here)
    assert "ip link shows the other end after the @; the name is low0" in line
    assert "write low0" in command.refused(2, "attach", "LOW0 ", "--netns", pair.here)
    assert "there are: " in command.refused(2, "attach", "nosuch@if7", "--netns", pair.here)
    assert "--netns is empty; name one" in command.refused(2, "attach", "low0", "--netns", "")
    assert "--interface is empty" in command.refused(2, "status", "-i", "")


@contextmanager
def unnamed() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A namespace that only a process holds, as a container's; with an interface that is called c0."""
    held = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"], stdin=-1, stdout=-1)
    assert held.stdin is not None
    assert held.stdout is not None
    held.stdout.readline()
    try:
        with netns.entered_path(netns.find(f"pid {held.pid}").path):
            ip("link", "add", "c0", "type", "veth", "peer", "name", "c1")
        yield held, f"pid {held.pid}"
    finally:
        held.stdin.close()
        held.stdout.close()
        held.kill()
        held.wait()


def test_the_namespace_of_a_process(command: Command) -> None:
    with unnamed() as (held, name):
        path = f"/proc/{held.pid}/ns/net"
        command.ok("attach", "c0", "--netns", name)
        (found,) = command.json("status")["interfaces"]
        assert (found["name"], found["netns"], found["state"]) == ("c0", name, "attached")
        for words in (name, path):
            assert len(command.json("status", "--netns", words)["interfaces"]) == 1
            told = command.json("explain", "udp 203.0.113.9:9 > 203.0.113.1:9", "--netns", words)
            assert told["netns"] == name
            command.ok("events", "--netns", words)
        command.ok("attach", "c0", "--netns", path)
        assert len(command.json("status")["interfaces"]) == 1, "one interface, whatever its namespace was called"
        command.refused(2, "status", "--netns", ".")
        command.ok("detach", "c0", "--netns", path)
        assert command.json("status")["interfaces"] == []


def test_a_namespace_by_a_path(command: Command, pair: Pair, tmp_path: Path) -> None:
    """A path where a container runtime keeps them; one that is below /run/netns has a name."""
    file = str(tmp_path / "kept")
    with unnamed() as (held, _):
        Path(file).touch()
        subprocess.run(["mount", "--bind", f"/proc/{held.pid}/ns/net", file], check=True)
    try:
        command.ok("attach", "c0", "--netns", file)
        (found,) = command.json("status")["interfaces"]
        assert (found["netns"], found["state"]) == (file, "attached")
        (tmp_path / "other").symlink_to(file)
        other = str(tmp_path / "other")
        command.ok("attach", "c0", "--netns", other)
        assert len(command.json("status", "--netns", other)["interfaces"]) == 1
        assert "detached" in command.ok("detach", "c0", "--netns", other)
        assert command.json("status")["interfaces"] == []
    finally:
        subprocess.run(["umount", file], check=True)
    command.ok("attach", "low0", "--netns", f"/run/netns/{pair.here}")
    assert command.json("status")["interfaces"][0]["netns"] == pair.here
    line = command.refused(2, "attach", "low0", "--netns", file)
    assert "cannot enter network namespace" in line
    command.refused(2, "attach", "low0", "--netns", "/nowhere")


def test_the_process_of_a_namespace_ends(command: Command) -> None:
    """As long as another process holds it, what is attached there is found again; then it is gone."""
    with unnamed() as (held, name):
        enter = ["nsenter", "--net", "-t", str(held.pid), "sh", "-c", "echo; exec cat"]
        other = subprocess.Popen(enter, stdin=-1, stdout=-1)
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        command.ok("attach", "c0", "--netns", name)
    try:
        (found,) = command.json("status")["interfaces"]
        assert (found["netns"], found["state"]) == (name, "attached")
    finally:
        other.communicate()
    assert eventually(lambda: command.json("status")["interfaces"][0]["state"] == "gone")
    command.ok("detach", "c0", "--netns", name)
    assert command.json("status")["interfaces"] == []


def test_a_process_number_that_is_anothers_now(command: Command) -> None:
    """What is recorded of a namespace is not told, or done, in another that came to have its name."""
    with unnamed() as (_, first), unnamed() as (second_process, second):
        command.ok("attach", "c0", "--netns", first)
        assert command.json("status")["interfaces"][0]["state"] == "attached"
        # As if the number of the first process had been given again, to the second.
        with Store(command.store) as store:
            for table, column in (("interfaces", "netns"), ("namespaces", "name")):
                store.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (second, first))
            store.execute("UPDATE namespaces SET cookie = '1'")
        assert command.json("status")["interfaces"][0]["state"] == "gone"
        with netns.entered_path(netns.find(f"pid {second_process.pid}").path):
            links = {link.name: link for link in Links().all()}
        assert links["c0"].xdp is None
        command.ok("attach", "c0", "--netns", second)
        (found,) = command.json("status")["interfaces"]
        assert (found["netns"], found["state"]) == (second, "attached")
        command.ok("detach", "--all")


def test_the_mtu_of_an_attached_interface(command: Command, pair: Pair) -> None:
    addressed(pair)
    command.ok("attach", "low0", "--netns", pair.here, "--mode", "native")
    assert "--mtu-any" in command("status").err
    grow = ["ip", "-n", pair.there, "link", "set", "far0", "mtu", "9000"]
    assert subprocess.run(grow, check=False, capture_output=True).returncode != 0, (
        "the kernel lets it, with the program"
    )
    assert "a larger MTU (for a veth, of its peer) may be refused" in command("status").err
    pair.ip("link", "set", "low0", "mtu", "9000")
    assert subprocess.run(grow, check=False, capture_output=True).returncode != 0, "its own MTU does not lift that"
    assert "a larger MTU (for a veth, of its peer) may be refused" in command("status").err
    assert "detach and attach again" in command("attach", "low0", "--netns", pair.here, "--mtu-any").err
    assert subprocess.run(grow, check=False, capture_output=True).returncode != 0, "nor does another program"
    assert "a larger MTU (for a veth, of its peer) may be refused" in command("status").err
    assert [it["may_fix_mtu"] for it in command.json("status")["interfaces"]] == [True]
    command.ok("detach", "low0", "--netns", pair.here)
    pair.ip("link", "set", "low0", "mtu", "1500")
    result = command("attach", "low0", "--netns", pair.here, "--mtu-any")
    assert result.code == 0, result
    assert "any MTU" in result.out
    assert "refuse" not in result.err
    assert "larger MTU" not in command("status").err
    subprocess.run(grow, check=True)
    pair.ip("link", "set", "low0", "mtu", "9000")
    (found,) = command.json("status")["interfaces"]
    assert (found["mode"], found["any_mtu"], found["mtu"], found["may_fix_mtu"]) == ("native", True, 9000, False)
    assert eventually(lambda: pair.ping(8000)), "a jumbo frame passes"
    command.ok("block", THERE4)
    assert not pair.ping(8000)
    assert command.json("rules")[0]["packets"] > 0
    command.ok("unblock", THERE4)
    assert pair.ping(8000)


def test_an_mtu_of_the_other_end_that_is_too_large(command: Command, pair: Pair) -> None:
    ip("-n", pair.there, "link", "set", "far0", "mtu", "9000")
    line = command.refused(1, "attach", "low0", "--netns", pair.here, "--mode", "native")
    assert "MTU is too large" in line
    assert "--mtu-any" in line
    command.ok("attach", "low0", "--netns", pair.here, "--mode", "native", "--mtu-any")


def test_a_driver_without_frames_in_several_buffers(command: Command, pair: Pair) -> None:
    pair.ip("tuntap", "add", "dev", "tap0", "mode", "tap")
    line = command.refused(1, "attach", "tap0", "--netns", pair.here, "--mode", "native", "--mtu-any")
    assert "the driver does not support multi-buffer frames" in line
    assert "--mode generic" in line
    result = command("attach", "tap0", "--netns", pair.here, "--mtu-any")
    assert result.code == 0
    assert "multi-buffer frames: attached in generic mode" in result.err
    command.ok("attach", "tap0", "--netns", pair.here, "--mtu-any")
    command.ok("detach", "--all")
    command.ok("attach", "tap0", "--netns", pair.here, "--mode", "native")
    assert "detach it first" in command.refused(1, "attach", "tap0", "--netns", pair.here, "--mtu-any")


def test_run_attaches_again_as_it_was(command: Command, pair: Pair) -> None:
    """What a restart takes off comes back for any MTU; also in a namespace that has no name."""
    command.ok("attach", "low0", "--netns", pair.here, "--mtu-any")
    with unnamed() as (_, name):
        command.ok("attach", "c0", "--netns", name)
        pair.ip("link", "set", "low0", "xdp", "off")
        with netns.entered_path(netns.find(name).path):
            ip("link", "set", "c0", "xdp", "off")
        assert {it["state"] for it in command.json("status")["interfaces"]} == {"detached"}
        with Service(command) as service:
            assert service.says("watching"), service.lines
            assert service.count("again, in") == 2, service.lines
            found = {it["name"]: it for it in command.json("status")["interfaces"]}
            assert {it["state"] for it in found.values()} == {"attached"}
            assert (found["low0"]["any_mtu"], found["c0"]["any_mtu"]) == (True, False)
            ip("-n", pair.there, "link", "set", "far0", "mtu", "9000")
            command.ok("guard", "show")
        assert not [line for line in service.lines if "; continuing" in line], service.lines


def test_killed_while_the_upper_program_is_off(command: Command, pair: Pair) -> None:
    upper = stand(pair, "bridge")
    command.ok("attach", "low0", "--netns", pair.here)
    command.ok("attach", upper, "--netns", pair.here)
    program = pair.program("low0")
    result = command("attach", "low0", "--netns", pair.here, kill_at="lifted")
    assert result.code == -signal.SIGKILL
    assert (pair.program("low0"), pair.program(upper)) == (program, None)
    states = {it["name"]: it["state"] for it in command.json("status")["interfaces"]}
    assert states == {"low0": "attached", upper: "detached"}
    command.ok("attach", upper, "--netns", pair.here)
    command.ok("attach", "low0", "--netns", pair.here)
    command.ok("detach", "--all")
    assert not command.pins.exists()
