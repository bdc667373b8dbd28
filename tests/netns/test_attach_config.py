# SPDX-License-Identifier: GPL-2.0
"""A machine set up by a file alone: ``[attach]``, and ``run --attach``."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from support.service import Run
from support.traffic import Echo, eventually, works
from topology import CLIENTS4, INTERFACE, Lab

from xdpguard.net.carried import program_on

BLOCKED, FREE = 3, 4  # numbers of clients


@pytest.fixture
def late(lab: Lab) -> Iterator[str]:
    """The name of an interface that is not there yet; removed at the end."""
    name = f"late{os.getpid() % 100_000}"
    yield name
    subprocess.run(["ip", "-n", lab.server, "link", "del", name], check=False, capture_output=True)


def make(lab: Lab, name: str) -> None:
    subprocess.run(
        ["ip", "-n", lab.server, "link", "add", name, "type", "veth", "peer", "name", f"p{name}"[:15]], check=True
    )


def interfaces(command: Command) -> dict[str, Any]:
    return {it["name"]: it for it in command.json("status")["interfaces"]}


def own_file(command: Command) -> Path:
    """/etc/xdpguard/INSTANCE.toml of this test."""
    folder = command.state / "etc"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{command.instance}.toml"


def test_a_fresh_boot_by_the_file_alone(lab: Lab, command: Command) -> None:
    """Nothing was ever attached: the file names the interface and the block, and `run` does the rest."""
    with Echo(lab):
        assert works(lab, 4, "udp", BLOCKED)
        own_file(command).write_text(
            f'[attach]\ninterfaces = ["{INTERFACE}@{lab.server}"]\n[rules]\nblock = ["{CLIENTS4[BLOCKED]}"]\n'
        )
        missing = command("status")
        assert missing.code == 1
        assert f"eth0 (in {lab.server}) is named in the configuration but not attached" in missing.err
        assert command.json("status")["awaited"] == [{"name": INTERFACE, "netns": lab.server}]
        with Run(command) as run:
            assert run.says(f"attached to eth0 (in {lab.server}), in native mode"), run.lines
            assert run.says("watching eth0"), run.lines
            assert not works(lab, 4, "udp", BLOCKED)
            assert works(lab, 4, "udp", FREE)
            assert command("status").code == 0
            command.ok("detach", INTERFACE, "--netns", lab.server)
            assert run.says("nothing is attached anymore; waiting"), run.lines
            assert works(lab, 4, "udp", BLOCKED), "detached by hand, and left so"
            said = len(run.lines)
            run.process.send_signal(signal.SIGHUP)
            assert run.says(f"attached to eth0 (in {lab.server}), in native mode", after=said), run.lines
            assert eventually(lambda: not works(lab, 4, "udp", BLOCKED))
            assert run.end() == 0


def test_how_it_is_attached_and_what_comes_later(lab: Lab, command: Command, late: str, tmp_path: Path) -> None:
    """A table says how; an interface that is not there is waited for; a list that cannot be read stops nothing."""
    config = tmp_path / "guard.toml"
    tables = f'[attach.{INTERFACE}]\nnetns = "{lab.server}"\nmode = "generic"\nobserve = true\n'
    config.write_text(f'{tables}[attach."{late}@{lab.server}"]\n[lists.absent]\nfile = "absent.txt"\n')
    with Run(command, "--config", str(config)) as run:
        assert run.says(f"attached to eth0 (in {lab.server}), in generic mode"), run.lines
        assert run.says("absent.txt"), "the list is named"
        assert run.says(f"{late} (in {lab.server}) does not exist; it will be attached when it appears"), run.lines
        assert (interfaces(command)[INTERFACE]["mode"], interfaces(command)[INTERFACE]["observe"]) == ("generic", True)
        assert command("status").code == 1
        make(lab, late)
        assert run.says(f"attached to {late} (in {lab.server}), in"), run.lines
        assert interfaces(command)[late]["observe"] is False
        assert command("status").code == 0
        # Another file: one is added to observe, the other has gone from it.
        config.write_text(f'[attach."{late}@{lab.server}"]\nobserve = true\n')
        run.process.send_signal(signal.SIGHUP)
        assert run.says(f"eth0 (in {lab.server}) is no longer in the configuration, but stays attached"), run.lines
        assert eventually(lambda: interfaces(command)[late]["observe"] is True)
        assert program_on(INTERFACE, lab.server)
        config.write_text("[attach]\ninterfaces = 1\n")
        run.process.send_signal(signal.SIGHUP)
        assert run.says("guard.toml:2: attach.interfaces: expected a list of names"), run.lines
        assert interfaces(command)[late]["state"] == "attached"
        assert run.end() == 0


def test_named_on_the_command_line(lab: Lab, command: Command, late: str) -> None:
    """With @NETNS or --netns; a namespace that is not there yet is waited for as well."""
    other = f"xglate{os.getpid()}"
    arguments = ("--attach", f"{INTERFACE}@{lab.server}", "--attach", late, "--netns", other)
    try:
        with Run(command, *arguments) as run:
            assert run.says(f"attached to eth0 (in {lab.server})"), run.lines
            assert run.says(f"{late} (in {other}) does not exist; it will be attached when it appears"), run.lines
            subprocess.run(["ip", "netns", "add", other], check=True)
            subprocess.run(
                ["ip", "-n", other, "link", "add", late, "type", "veth", "peer", "name", "peer0"], check=True
            )
            assert run.says(f"attached to {late} (in {other})"), run.lines
            assert run.end() == 0
    finally:
        command.ok("detach", "--all")
        subprocess.run(["ip", "netns", "del", other], check=False, capture_output=True)


def test_what_cannot_be_attached_to_stops_nothing(lab: Lab, command: Command, late: str) -> None:
    """One interface carries somebody else's program: the other one is attached, and the refusal is said."""
    make(lab, late)
    command.ok("--instance", f"{command.instance}-b", "attach", late, "--netns", lab.server)
    try:
        with Run(command, "--attach", late, "--attach", INTERFACE, "--netns", lab.server) as run:
            assert run.says(f"{late} (in {lab.server}) was not attached: "), run.lines
            assert run.says("already carries an XDP program"), run.lines
            assert run.says("watching eth0"), run.lines
            assert run.end() == 0
        command.ok("detach", "--all")
        found = command.refused(1, "run", "--attach", late, "--netns", lab.server)
        assert "already carries an XDP program" in found.splitlines()[-1]
    finally:
        command.ok("--instance", f"{command.instance}-b", "detach", "--all")


def test_wrong_names(command: Command) -> None:
    assert "not an interface: 'a/b'" in command.refused(2, "run", "--attach", "a/b")
    assert "--netns" in command.refused(2, "run", "--netns", "web")
