# SPDX-License-Identifier: GPL-2.0
"""``xdpguard run`` on real traffic: its log, its bans, the sysctls it raises, and what is left when it dies."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.command import Command, on
from support.guard import sysctls
from support.scans import spoof_scan, touch
from support.service import Run
from support.traffic import eventually, start_flood
from topology import CLIENTS4, CLIENTS6, INTERFACE, SERVER4, SERVER6, Lab

from xdpguard.net.netns import entered
from xdpguard.store.database import Store
from xdpguard.store.offences import offences

PORT = 8000
RAISED = ("tcp_syncookies", "tcp_timestamps")


@pytest.fixture
def attached(lab: Lab, attached: Command) -> Iterator[Command]:
    with sysctls(lab, tcp_syncookies=1, tcp_timestamps=1):
        yield attached


@pytest.fixture
def running(attached: Command) -> Iterator[Run]:
    made = Run(attached)
    try:
        assert made.says("watching eth0"), made.lines
        yield made
    finally:
        made.end()


def values(lab: Lab) -> list[str]:
    """The sysctls that the service may raise."""
    with entered(lab.server):
        return [Path("/proc/sys/net/ipv4", name).read_text().strip() for name in RAISED]


@contextlib.contextmanager
def listening(lab: Lab, port: int = PORT, backlog: int = 64) -> Iterator[None]:
    """Takes connections and closes them when the client does."""
    with entered(lab.server):
        listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=backlog)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def rules(command: Command) -> list[dict[str, object]]:
    found: list[dict[str, object]] = command.json("rules")
    return found


def test_a_flood_from_begin_to_end(lab: Lab, attached: Command, running: Run) -> None:
    """It says when it begins, what it is, what is done about it, and when it is over; then all is as it was."""
    with listening(lab):
        flood = start_flood(lab, "syn", "--port", str(PORT), "--rate", "50000", "--seconds", "4")
        assert running.says("a flood begins")
        assert running.says("SYN backlog")
        evidence = next(line for line in running.lines if "SYN backlog" in line)
        assert re.search(rf"eth0 .*: \[::\]:{PORT}: SYN backlog [1-9]\d*/64.*, accept queue 0/64", evidence)
        assert running.says("tcp_syncookies 1 -> 2")
        assert running.says("tcp_timestamps 1 -> 2")
        assert values(lab) == ["2", "2"]
        assert attached.json("guard", "show")["sysctls"][lab.server]["net.ipv4.tcp_syncookies"] == ["1", "2"]
        assert running.says("spoofed sources: 0 of")
        judged = next(line for line in running.lines if "spoofed sources" in line)
        assert f"to port {PORT}" in judged
        assert re.search(r"top sources of a sample: (1[6-9]|2[0-9]|3[01])\.", judged), "of 16.0.0.0/4"
        assert touch(lab, SERVER4, PORT)
        flood.communicate(timeout=60)
        assert running.says("the flood is over after", 20)
        assert running.says("restored: net.ipv4.tcp_timestamps 2 -> 1", 30)
    assert values(lab) == ["1", "1"]
    said = [re.search(r"([\d,]+) cookies sent", line) for line in running.lines if "the flood is over" in line]
    sent = on(attached.json("stats"), INTERFACE)["reasons"]["cookie_sent"]["packets"]
    assert sum(int(number[1].replace(",", "")) for number in said if number) == sent
    assert rules(attached) == []


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL and run", "SIGKILL and detach"])
def test_sysctls_are_restored(lab: Lab, attached: Command, how: str) -> None:
    run = Run(attached)
    try:
        assert run.says("watching")
        flood = start_flood(lab, "syn", "--port", "9", "--rate", "50000", "--seconds", "20")
        try:
            assert run.says("tcp_timestamps 1 -> 2")
            assert values(lab) == ["2", "2"]
            assert run.end(signal.SIGTERM if how == "SIGTERM" else signal.SIGKILL) == (0 if how == "SIGTERM" else -9)
        finally:
            flood.kill()
            flood.communicate()
        if how == "SIGTERM":
            assert "the data plane keeps working" in run.lines[-1]
        else:
            assert values(lab) == ["2", "2"], "nobody was left to do it"
        if how == "SIGKILL and run":
            again = Run(attached)
            assert again.says("restored after an unclean exit: net.ipv4.tcp_syncookies 2 -> 1")
            again.end()
        if how == "SIGKILL and detach":
            assert "put back net.ipv4.tcp_syncookies 2 -> 1" in attached.ok("detach", "--all")
        assert values(lab) == ["1", "1"]
    finally:
        run.end(signal.SIGKILL)


def test_what_somebody_else_has_set_stays(lab: Lab, attached: Command) -> None:
    attached.ok("guard", "set", "mode=always")
    run = Run(attached)
    try:
        assert run.says("tcp_timestamps 1 -> 2")
        with entered(lab.server):
            Path("/proc/sys/net/ipv4/tcp_timestamps").write_text("0")
    finally:
        run.end()
    assert values(lab) == ["1", "0"]


@pytest.mark.parametrize(("address", "client"), [(SERVER4, CLIENTS4[2]), (SERVER6, CLIENTS6[2])])
@pytest.mark.usefixtures("running")
def test_a_scanner_that_proves_itself_is_banned(lab: Lab, attached: Command, address: str, client: str) -> None:
    for port in range(2000, 2040):
        touch(lab, address, port, client)
    assert eventually(lambda: bool(rules(attached)))
    (rule,) = rules(attached)
    assert (rule["kind"], rule["target"], rule["source"]) == ("block", client, "guard"), (
        "not its /64: that is ours, too"
    )
    assert "port scan" in str(rule["reason"])
    assert not touch(lab, address, 2050, client)


def test_a_few_closed_ports_ban_nobody(lab: Lab, attached: Command, running: Run) -> None:
    for port in range(2000, 2010):
        touch(lab, SERVER4, port, CLIENTS4[2])
    with listening(lab):
        for _ in range(50):
            assert touch(lab, SERVER4, PORT, CLIENTS4[2])
    assert running.end() == 0, "whatever it would have said is said"
    assert rules(attached) == []


def test_spoofing_gets_nobody_banned(lab: Lab, attached: Command, running: Run) -> None:
    """SYNs, ACKs and RSTs to open and closed ports in a client's name: it goes on working, and is not banned."""
    victim = CLIENTS4[4]
    attached.ok("guard", "set", "ban_connections=50", "scan_ports=5")
    with listening(lab):
        assert touch(lab, SERVER4, PORT, victim), "it has proved itself before"
        for kind in ("syn", "ack", "rst"):
            flood = start_flood(lab, kind, "--source", victim, "--port", str(PORT), "--rate", "50000", "--seconds", "2")
            while flood.poll() is None:
                assert touch(lab, SERVER4, PORT, victim)
                threading.Event().wait(0.05)
            flood.communicate()
        spoof_scan(lab, victim)
        assert touch(lab, SERVER4, PORT, victim)
    assert running.end() == 0
    assert rules(attached) == []
    assert not any("banned" in line for line in running.lines)


def test_a_configuration_put_in_force_by_another_command_holds(
    lab: Lab, attached: Command, running: Run, tmp_path: Path
) -> None:
    """The service reads it, too: it neither drops its lists nor forgets to follow them."""
    (tmp_path / "list.txt").write_text("203.0.113.7\n")
    config = tmp_path / "new.toml"
    config.write_text('[guard]\nhold = "9s"\n[lists.new]\nfile = "list.txt"\nevery = "10s"\n')
    attached.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(config))
    assert running.says("guard: hold=9s")
    assert [it["name"] for it in attached.json("lists", "show")] == ["new"]
    (tmp_path / "list.txt").write_text("203.0.113.7\n203.0.113.9\n")
    assert running.says("list new loaded: 2 entries, had 1", 40)


def test_many_connections_ban_their_source(lab: Lab, attached: Command, running: Run) -> None:
    attached.ok("guard", "set", "ban_connections=20")
    assert running.says("guard: ban_connections=20")
    with listening(lab):
        busy, calm = CLIENTS4[6], CLIENTS4[7]
        end = time.monotonic() + 30
        while touch(lab, SERVER4, PORT, busy) and time.monotonic() < end:
            pass
        assert running.says(f"banned {busy} for 10m")
        (rule,) = rules(attached)
        assert "completed connections a second (limit 20)" in str(rule["reason"])
        assert touch(lab, SERVER4, PORT, calm)
        assert rule["target"] == busy


def test_bans_grow_survive_and_go(lab: Lab, attached: Command) -> None:
    """Longer each time, also by another run; in force when nothing runs; gone with unblock and with their time."""
    client = CLIENTS4[3]
    attached.ok("guard", "set", "bans=3s,10m,24h")

    def offend() -> dict[str, object]:
        def scan() -> bool:
            for port in range(2000, 2030):
                touch(lab, SERVER4, port, client)
                if rules(attached):
                    return True
            return bool(rules(attached))

        assert eventually(scan, 90)
        return rules(attached)[0]

    first = Run(attached)
    try:
        assert first.says("watching")
        offend()
        assert first.says("for 3s")
    finally:
        first.end()
    with listening(lab):
        assert eventually(lambda: touch(lab, SERVER4, PORT, client)), "it ends by itself"
        second = Run(attached)
        try:
            assert second.says("watching")
            rule = offend()
            assert second.says("for 10m")
        finally:
            second.end()
        assert 500 < float(str(rule["expires"])) - float(str(rule["created"])) <= 601
        assert not touch(lab, SERVER4, PORT, client)
        attached.ok("detach", "--all")
        attached.ok("attach", INTERFACE, "--netns", lab.server)
        assert not touch(lab, SERVER4, PORT, client), "it survives a restart"
        attached.ok("unblock", client)
        assert touch(lab, SERVER4, PORT, client)
    with Store(attached.store, read_only=True) as store:
        assert offences(store, client)[0] == 2


@pytest.mark.parametrize("how", ["allowed", "gateway"])
def test_who_is_never_banned(lab: Lab, attached: Command, running: Run, how: str) -> None:
    client = CLIENTS4[8] if how == "allowed" else "198.18.0.2"
    if how == "allowed":
        attached.ok("allow", "198.18.0.16/28", "--reason", "partners")
        with listening(lab):
            attached.ok("guard", "set", "ban_connections=20")
            end = time.monotonic() + 4
            while time.monotonic() < end:
                assert touch(lab, SERVER4, PORT, client)
        assert running.says("is not banned because it is allow-listed")
    else:
        for port in range(2000, 2040):
            touch(lab, SERVER4, port, client)
        assert running.says("is not banned because it is this host's gateway")
    assert [rule for rule in rules(attached) if rule["kind"] == "block"] == []


def test_reading_the_configuration_again(lab: Lab, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "guard.toml"
    file.write_text('[guard]\nmode = "observe"\n[rules]\nblock = ["203.0.113.1"]\n')
    command.ok("attach", INTERFACE, "--netns", lab.server, "--config", str(file))
    run = Run(command, "--config", str(file))
    try:
        assert run.says("guard observe")
        file.write_text('[guard]\nmode = "off"\n[rules]\nblock = ["203.0.113.2"]\n')
        run.process.send_signal(signal.SIGHUP)
        assert run.says("reloaded; guard off")
        assert [rule["target"] for rule in rules(command)] == ["203.0.113.2"]
        file.write_text('[guard]\nmode = "maybe"\n')
        run.process.send_signal(signal.SIGHUP)
        assert run.says("guard.toml:2: guard.mode")
        assert [rule["target"] for rule in rules(command)] == ["203.0.113.2"]
        assert run.process.poll() is None
    finally:
        assert run.end() == 0


def test_systemd_is_told(lab: Lab, attached: Command, tmp_path: Path) -> None:
    del lab
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(path))
        link.settimeout(15)
        run = Run(attached, NOTIFY_SOCKET=str(path))
        try:

            def told(word: str) -> bool:
                return any(word in link.recv(4096).decode() for _ in range(20))

            assert told("READY=1")
            assert told("WATCHDOG=1")
            run.process.send_signal(signal.SIGHUP)
            assert told("RELOADING=1\nMONOTONIC_USEC=")
            assert told("READY=1")
            run.process.send_signal(signal.SIGTERM)
            assert told("STOPPING=1")
        finally:
            assert run.end() == 0


def test_nothing_attached(command: Command, lab: Lab, tmp_path: Path) -> None:
    """Refused to a user; a service waits, or systemd would start it again and again."""
    assert "attach an interface first" in command.refused(1, "run")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        path = tmp_path / "notify"
        link.bind(str(path))
        link.settimeout(60)
        run = Run(command, NOTIFY_SOCKET=str(path))
        try:
            assert run.says("nothing is attached; waiting for xdpguard attach"), run.lines
            assert "READY=1" in link.recv(4096).decode()
            command.ok("attach", INTERFACE, "--netns", lab.server)
            assert run.says("watching eth0"), run.lines
        finally:
            assert run.end() == 0


def test_one_at_a_time(attached: Command, running: Run, tmp_path: Path) -> None:
    """The second is refused and changes nothing; one that was killed is in nobody's way."""
    file = tmp_path / "guard.toml"
    file.write_text('[guard]\nmode = "off"\n')
    said = attached.refused(1, "run", "--config", str(file))
    assert f"process {running.process.pid} already runs as the service of instance '{attached.instance}'" in said
    assert running.process.poll() is None
    running.end(signal.SIGKILL)
    again = Run(attached)
    try:
        assert again.says("watching eth0"), again.lines
        assert again.says("guard auto")
    finally:
        assert again.end() == 0


def test_interfaces_come_and_go(lab: Lab, attached: Command, running: Run) -> None:
    """Detached and attached again by another command: it finds the new maps, and sees the next flood."""
    attached.ok("detach", "--all")
    assert running.says("nothing is attached anymore; waiting", 20)
    count = len(running.lines)
    attached.ok("attach", INTERFACE, "--netns", lab.server)
    assert eventually(lambda: any("watching eth0" in line for line in running.lines[count:]), 20)
    flood = start_flood(lab, "syn", "--port", "9", "--rate", "50000", "--seconds", "30")
    try:
        assert running.says("a flood begins", 30), running.lines
    finally:
        flood.kill()
        flood.communicate(timeout=60)


def test_an_interface_that_goes_and_comes_back(lab: Lab, attached: Command) -> None:
    """Also one that is not there at the start, though nothing else is attached."""

    def make() -> None:
        subprocess.run(["ip", "-n", lab.server, "link", "add", "late0", "type", "veth", "peer", "late1"], check=True)

    def remove() -> None:
        subprocess.run(["ip", "-n", lab.server, "link", "del", "late0"], check=True)

    def shaken() -> None:
        """Something to look at before ten seconds have gone."""
        attached.ok("block", "203.0.113.1")
        attached.ok("unblock", "203.0.113.1")

    place = f"late0 (in {lab.server})"
    make()
    attached.ok("attach", "late0", "--netns", lab.server, "--observe")
    attached.ok("detach", INTERFACE, "--netns", lab.server)
    remove()
    run = Run(attached)
    try:
        assert run.says(f"{place} does not exist; it will be attached again when it returns"), run.lines
        for _ in range(2):
            count = len(run.lines)
            make()
            shaken()
            back = f"attached to {place} again, in generic mode"  # its peer carries no program
            assert eventually(lambda at=count, what=back: any(what in it for it in run.lines[at:]), 40), run.lines  # type: ignore[misc]
            (found,) = attached.json("status")["interfaces"]
            assert (found["name"], found["state"], found["observe"]) == ("late0", "attached", True)
            count = len(run.lines)
            remove()
            shaken()
            assert eventually(lambda at=count: any("does not exist" in it for it in run.lines[at:]), 40), run.lines  # type: ignore[misc]
    finally:
        assert run.end() == 0
        attached.ok("detach", "--all")


def test_the_unit_names_capabilities_that_are_enough(lab: Lab, attached: Command) -> None:
    """It runs, and bans, with nothing but what the unit allows."""
    unit = attached.ok("run", "--print-unit")
    assert f"--instance {attached.instance} run" in unit
    line = next(line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet="))
    kept = [f"+{name.removeprefix('CAP_').lower()}" for name in line.partition("=")[2].split()]
    assert len(kept) == 6
    run = Run(attached, before=("setpriv", f"--bounding-set=-all,{','.join(kept)}", "--no-new-privs"))
    try:
        assert run.says("watching eth0"), run.lines
        for port in range(2000, 2040):
            touch(lab, SERVER4, port, CLIENTS4[1])
        assert run.says(f"banned {CLIENTS4[1]}"), run.lines
        flood = start_flood(lab, "syn", "--port", "9", "--rate", "50000", "--seconds", "6")
        assert run.says("tcp_syncookies 1 -> 2"), run.lines
        flood.communicate(timeout=60)
        assert not any(line.startswith("no ") for line in run.lines), "handshakes and SYN-ACKs can be counted"
        assert not any("CAP_" in line for line in run.lines), "links of other namespaces are heard of"
    finally:
        assert run.end() == 0
    assert os.getuid() == 0
