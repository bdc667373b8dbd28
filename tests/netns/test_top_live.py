# SPDX-License-Identifier: GPL-2.0
"""`xdpguard top` in a terminal, on real traffic: its figures, its keys, and the terminal afterwards."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.command import Command, on
from support.guard import sysctls
from support.tcp import half_open, listener
from support.terminal import Terminal
from support.traffic import PORT, Echo, client_address, eventually, flood_command, start_flood, works
from topology import INTERFACE, SERVER4, Lab

from xdpguard.tui.draw import scaled

COLOURS = re.compile(r"\x1b\[(?:[0-9]*;)*(?:3[0-7]|4[0-7]|9[0-7]|10[0-7]|[34]8[;:])[0-9;:]*m")


def screen(command: Command, *arguments: str, **environment: str) -> Terminal:
    """The screen in a terminal."""
    kept = {key: value for key, value in command.environment.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    usual = {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    return Terminal(command.line("top", *arguments), kept | usual | environment)


def flood(lab: Lab, *arguments: str) -> int:
    """Sends a flood to its end; returns how many packets have arrived."""
    sent = json.loads(subprocess.check_output(flood_command(lab, *arguments), text=True))
    return int(sent["packets"] - sent["lost"])


def test_figures_are_those_of_stats_and_a_block_takes_effect(lab: Lab, attached: Command) -> None:
    source, other = client_address(4), client_address(4, 1)
    attached.ok("block", other)
    with Echo(lab), screen(attached, "--interval", "0.3") as top:
        top.sees("idle, watching")
        assert works(lab, 4, "tcp")
        arrived = flood(lab, "syn", "--source", source, "--count", "3000", "--rate", "3000", "--port", "9")
        flood(lab, "udp", "--source", other, "--count", "12345", "--rate", "20000")
        stats = on(attached.json("stats"), INTERFACE)
        assert stats["reasons"]["deny"]["packets"] > 0
        for name in ("pass", "deny"):
            count = scaled(stats["reasons"][name]["packets"])
            top.until(lambda name=name, count=count: _row(top, name)[3:4] == [count], f"{name} {count}")  # type: ignore[misc]
        dropped = scaled(stats["dropped"])
        top.until(lambda: top.line("drop")[2:3] == [dropped], dropped)
        top.send("2")
        rows = {row["source"]: row["syns"] for row in attached.json("syns", "--by", "source")}
        assert rows[source] >= arrived // 2
        top.until(lambda: top.line(source)[2:3] == [scaled(rows[source])], f"{source} {rows[source]}")
        denied = scaled(stats["reasons"]["deny"]["packets"])
        top.until(lambda: top.line(other)[4:5] == [denied], f"{other} lost {denied}")
        top.send("4")
        ports = {row["destination_port"]: row["syns"] for row in attached.json("syns", "--by", "port")}
        top.until(lambda: top.line(f"{SERVER4} ")[1:2] == ["9"], "port 9")
        assert top.line(f"{SERVER4} ")[3] == scaled(ports[9])
        top.send("5")
        rule = next(row for row in attached.json("rules") if row["target"] == other)
        top.until(lambda: top.line(f"block  {other}")[3:4] == [scaled(rule["packets"])], other)

        assert works(lab, 4, "tcp")
        top.send("2")
        top.until(lambda: bool(top.line(source)), source)
        top.send("b")
        top.sees(f"block {source} for 10m?")
        assert attached.json("rules")[-1]["target"] == other, "nothing is done before it is answered"
        top.send("y")
        top.sees(f"blocked {source} for 10m")
        assert not works(lab, 4, "tcp")
        made = next(row for row in attached.json("rules") if row["target"] == source)
        assert 590 <= made["expires"] - made["created"] <= 601
        top.send("u")
        top.sees(f"unblock {source}?")
        top.send("y")
        top.sees(f"unblocked {source}")
        assert eventually(lambda: works(lab, 4, "tcp"))

        top.resize(160, 48)
        top.sees("3 destinations SYNs not dropped")
        assert top.end("q") == 0
        top.restored()


def test_a_shadow_list_and_what_it_counts(lab: Lab, attached: Command) -> None:
    source = client_address(4, 1)
    attached.ok("lists", "load", "trial", "-", "--shadow", stdin=f"{source}\n")
    with screen(attached, "--interval", "0.3") as top:
        top.sees("idle, watching")
        top.send("6")
        top.until(lambda: top.line("shadow")[1:2] == ["trial"], "the list")
        arrived = flood(lab, "udp", "--source", source, "--count", "500", "--rate", "5000")
        top.until(lambda: top.line("shadow")[3:4] == [scaled(arrived)], f"trial {arrived}")
        assert top.end("q") == 0
        top.restored()


def test_a_flood_is_seen_and_what_is_read_stays_bounded(lab: Lab, attached: Command) -> None:
    attached.ok("guard", "set", "flood_rate=2000")  # a busy machine sends no more
    with screen(attached) as top:
        top.sees("idle, watching")
        top.sees("backlog no listeners")
        with listener(lab, backlog=16) as to:
            port = to.getsockname()[1]
            top.sees(f"{SERVER4}:{port} half-open 0/16; accept queue 0/16")
            half_open(lab, port, 5)
            top.sees(f"{SERVER4}:{port} half-open 5/16")
        flood(lab, "syn", "--rate", "60000", "--count", "120000")
        top.until(lambda: "ACTIVE" in top.text() or "floods so far: 1" in top.text(), "the flood")
        stats = on(attached.json("stats"), INTERFACE)
        top.until(lambda: top.line("drop")[2:3] == [scaled(stats["dropped"])], "what was dropped")
        assert top.end("\x03") == 0
        top.restored()


def test_the_banner_of_a_flood_counts_the_clients_as_stats_does(lab: Lab, attached: Command) -> None:
    attached.ok("guard", "set", "flood_rate=2000")
    with Echo(lab), sysctls(lab, tcp_syncookies=2, tcp_timestamps=2), screen(attached, "--interval", "0.3") as top:
        top.resize(120, 40)
        top.sees("idle, watching")
        assert "FLOOD" not in top.text()
        assert works(lab, 4, "tcp"), "positive control"
        before = on(attached.json("stats"), INTERFACE)["cookies_valid"]
        sending = start_flood(lab, "syn", "--rate", "10000", "--seconds", "25", "--port", str(PORT))
        try:
            top.sees(f"FLOOD on {INTERFACE} (in {lab.server}) for")
            assert [works(lab, 4, "tcp", wait=10) for _ in range(12)] == [True] * 12
            valid = on(attached.json("stats"), INTERFACE)["cookies_valid"] - before
            assert valid > 0
            top.sees(f"real clients got through {valid} of {valid}")
            top.sees("SPOOFED FLOOD")
            top.sees("others, \u22644 SYNs each")
        finally:
            sending.terminate()
            sending.communicate()
        top.until(lambda: "FLOOD" not in top.text(), "the end of the flood")
        assert top.end("q") == 0
        top.restored()


def test_one_interface_of_two_is_asked_for(lab: Lab, attached: Command) -> None:
    subprocess.run(["ip", "-n", lab.server, "link", "add", "other0", "type", "veth", "peer", "other1"], check=True)
    try:
        attached.ok("attach", "other0", "--netns", lab.server)
        arrived = flood(lab, "udp", "--count", "700", "--rate", "5000")
        size = {"COLUMNS": "120", "LINES": "30"}
        together = attached.ok("top", "--once", "--interval", "0.2", **size).splitlines()
        assert "all 2 interfaces" in together[0]
        rows = [line.split()[0] for line in together if line.strip().startswith((INTERFACE, "other0"))]
        assert rows == [INTERFACE, "other0"]
        alone = attached.ok("top", "--once", "--interval", "0.2", "--interface", "other0", **size).splitlines()
        assert f"other0 in {lab.server}" in alone[0]
        passed = [next(line.split()[2] for line in lines if line.startswith(" pass ")) for lines in (together, alone)]
        stats = attached.json("stats")
        sums = sum(its["reasons"]["pass"]["packets"] for its in stats["interfaces"].values())
        assert passed[0] == scaled(sums) and sums >= arrived
        assert passed[1] == scaled(on(stats, "other0")["reasons"]["pass"]["packets"])
        assert "is not attached" in attached.refused(2, "top", "--once", "--interface", "nosuch0")
    finally:
        attached.ok("detach", "other0", "--netns", lab.server)
        subprocess.run(["ip", "-n", lab.server, "link", "del", "other0"], check=True)


def test_stats_are_redrawn_in_place(lab: Lab, attached: Command) -> None:
    kept = {key: value for key, value in attached.environment.items() if key not in ("COLUMNS", "LINES")}
    line = attached.line("stats", "--watch", "0.3")
    with Terminal(line, kept | {"TERM": "xterm", "LC_ALL": "C.UTF-8"}, columns=120, lines=40) as terminal:
        terminal.sees("packets/s")
        flood(lab, "udp", "--count", "500", "--rate", "5000")
        passed = on(attached.json("stats"), INTERFACE)["reasons"]["pass"]["packets"]
        terminal.until(lambda: terminal.line("pass")[1:2] == [f"{passed:,}"], f"pass {passed}")
        assert terminal.text().count(f"{INTERFACE}@{lab.server}:") == 1
        terminal.send("\x03")


def test_figures_that_stop_are_stale_and_go_on(lab: Lab, attached: Command) -> None:
    with screen(attached, "--interval", "0.2") as top:
        top.sees("idle, watching")
        attached.ok("detach", INTERFACE, "--netns", lab.server)
        top.sees("STALE")
        top.sees("nothing is attached")
        attached.ok("attach", INTERFACE, "--netns", lab.server)
        top.until(lambda: "STALE" not in top.text(), "fresh figures")
        subprocess.run(["ip", "-n", lab.server, "link", "add", "gone0", "type", "veth", "peer", "gone1"], check=True)
        try:
            attached.ok("attach", "gone0", "--netns", lab.server)
            top.send("7")
            top.until(lambda: bool(top.line("gone0")), "gone0")
            top.sees("all 2 interfaces")
            top.send("ii")
            top.sees(f"gone0 in {lab.server}")
        finally:
            subprocess.run(["ip", "-n", lab.server, "link", "del", "gone0"], check=True)
        top.sees("the interface no longer exists")
        attached.ok("detach", "gone0", "--netns", lab.server)
        top.until(lambda: "STALE" not in top.text(), "fresh figures")
        assert top.end("q") == 0
        top.restored()


def test_a_lock_that_somebody_holds(lab: Lab, attached: Command) -> None:
    flood(lab, "syn", "--source", client_address(4), "--count", "50", "--rate", "1000")
    descriptor = os.open(attached.state / attached.instance / "lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with screen(attached, "--interval", "0.2") as top:
            top.sees("idle, watching")
            top.send("2")
            top.until(lambda: bool(top.line(client_address(4))), "the source")
            top.send("b")
            top.sees("for 10m?")
            top.send("y")
            top.sees("waiting for another xdpguard command")
            assert top.end("q") == 0, "it does not wait for the lock"
            top.restored()
    finally:
        os.close(descriptor)
    assert attached.json("rules") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_leaves_the_terminal_as_it_was(attached: Command, number: int) -> None:
    with screen(attached) as top:
        top.sees("idle, watching")
        os.kill(top.pid, number)
        assert top.end() == 0
        top.restored()


@pytest.mark.parametrize("numbers", [(signal.SIGSTOP,), (), (signal.SIGTSTP,)], ids=["stop", "nothing", "ask"])
def test_going_on_draws_everything_again_and_leaves_the_terminal_as_it_was(
    attached: Command, numbers: tuple[int, ...]
) -> None:
    with screen(attached, "--interval", "60") as top:
        top.sees("idle, watching")
        for number in numbers:
            os.kill(top.pid, number)
            top.stopped()
        top.forget()
        assert "idle, watching" not in top.text(), "positive control: only what is drawn from here on is seen"
        os.kill(top.pid, signal.SIGCONT)
        top.sees("idle, watching")
        top.send("?")
        top.until(lambda: "idle, watching" not in top.text(), "the help: keys are heard as before")
        assert top.end("qq") == 0
        top.restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_continuing_after_the_signal_to_end(attached: Command, number: int) -> None:
    with screen(attached) as top:
        top.sees("idle, watching")
        os.kill(top.pid, number)
        os.kill(top.pid, signal.SIGCONT)
        assert top.end() == 0
        top.restored()


def test_it_ends_with_its_terminal_also_without_a_signal(attached: Command) -> None:
    with screen(attached) as top:
        top.sees("idle, watching")
        top.vanish()


def test_an_error_of_its_own_is_one_line_and_the_terminal_as_it_was(attached: Command, tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(
        "import sys\n"
        "from xdpguard.tui import view\n"
        "def broken(self): raise RuntimeError('broken on purpose')\n"
        "view.View.next_interface = broken\n"
        "from xdpguard.cli.app import run\n"
        "sys.exit(run(['top']))\n"
    )
    environment = attached.environment | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    with Terminal([sys.executable, str(script)], environment) as top:
        top.sees("idle, watching")
        assert top.end("i") == 1
        top.restored()
        assert "xdpguard: unexpected: RuntimeError: broken on purpose" in top.output
        assert "Traceback" not in top.output


def test_settings_left_changed_are_restored(attached: Command, tmp_path: Path) -> None:
    script = tmp_path / "raw.py"
    script.write_text(
        "import sys, tty\n"
        "from xdpguard.tui.driver import Driver\n"
        "Driver.close = lambda self: (super(Driver, self).close(), tty.setraw(0))\n"
        "from xdpguard.cli.app import run\n"
        "sys.exit(run(['top']))\n"
    )
    environment = attached.environment | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    with Terminal([sys.executable, str(script)], environment) as top:
        top.sees("idle, watching")
        assert top.end("q") == 0
        top.restored()


@pytest.mark.parametrize(
    ("environment", "colours", "ascii_only"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"TERM": "vt100"}, False, True),
        ({"TERM": "dumb"}, False, True),
        ({"LC_ALL": "C"}, True, True),
    ],
)
def test_without_colour_and_without_unicode(
    lab: Lab, attached: Command, environment: dict[str, str], colours: bool, ascii_only: bool
) -> None:
    with screen(attached, "--interval", "0.2", **environment) as top:
        top.sees("idle, watching")
        flood(lab, "udp", "--count", "2000", "--rate", "5000")
        top.until(lambda: top.line("pass")[2:3] not in ([], ["0"]) and top.line("pass")[2].endswith("k"), "the packets")
        top.send("5")
        top.sees("ends in")
        assert bool(COLOURS.search(top.output)) is colours
        assert top.output.isascii() is ascii_only
        assert top.end("q") == 0
        top.restored()


def test_one_frame_as_text(lab: Lab, attached: Command) -> None:
    arrived = flood(lab, "udp", "--count", "2000", "--rate", "20000")
    lines = attached.ok("top", "--once", "--interval", "0.2", COLUMNS="100", LINES="30").splitlines()
    assert f"{INTERFACE} in {lab.server}" in lines[0]
    assert "\x1b" not in "".join(lines)
    row = next(line.split() for line in lines if line.startswith(" pass "))
    assert row[2] == scaled(on(attached.json("stats"), INTERFACE)["reasons"]["pass"]["packets"])
    assert arrived > 0


def test_a_picture_of_it(attached: Command, tmp_path: Path) -> None:
    file = tmp_path / "top.svg"
    attached.ok("top", "--screenshot", str(file), "--interval", "0.1", COLUMNS="100", LINES="30")
    assert "url(http" not in file.read_text(), "it needs nothing of the network"
    root = ElementTree.parse(file).getroot()
    text = " ".join("".join(root.itertext()).replace("\xa0", " ").split())
    assert "idle, watching" in text


def test_what_it_refuses(lab: Lab, command: Command) -> None:
    assert "nothing is attached" in command.refused(1, "top", "--once")
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert "needs a terminal" in command.refused(2, "top")
    assert "--interval" in command.refused(2, "top", "--interval", "0")
    assert "cannot be combined" in command.refused(2, "top", "--once", "--screenshot", "a.svg")
    assert "--updates" in command.refused(2, "top", "--screenshot", "a.svg", "--updates", "0")
    assert "cannot write" in command.refused(1, "top", "--screenshot", "/no/such/folder/a.svg", "--interval", "0.1")


def _row(top: Terminal, reason: str) -> list[str]:
    """The row of a reason, not that of the verdict of the same name."""
    rows = [row.split() for row in top.text().splitlines() if row.strip().startswith(reason)]
    return next((row for row in rows if row[1:2] in (["pass"], ["drop"], ["answer"])), [])
