# SPDX-License-Identifier: GPL-2.0
"""The sysctls that the service raises: each is logged once, with its namespace, however many interfaces are there."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest
from support.command import Command
from support.service import Run
from topology import INTERFACE, Lab

from xdpguard.net.netns import entered

RAISED = ("net.ipv4.tcp_syncookies", "net.ipv4.tcp_timestamps")


@pytest.fixture
def own_lab() -> Iterator[Lab]:
    """A lab whose sysctls this test changes, with a further interface in the server's namespace."""
    with Lab(f"xgctl{os.getpid()}", owner=os.getpid()) as made:
        ip = ["ip", "-n", made.server, "link"]
        subprocess.run([*ip, "add", "more0", "type", "veth", "peer", "more1", "netns", made.outside], check=True)
        subprocess.run([*ip, "set", "more0", "up"], check=True)
        for netns in (made.server, made.outside):
            for name in RAISED:
                sysctl(name, netns, "1")
        yield made


def sysctl(name: str, netns: str, value: str = "") -> str:
    """The value of a sysctl, after setting it."""
    with entered(netns):
        its = Path("/proc/sys", name.replace(".", "/"))
        if value:
            its.write_text(value)
        return its.read_text().strip()


def lines(run: Run, mark: str) -> list[str]:
    return sorted(it.split(mark, 1)[1] for it in run.lines if mark in it)


def test_each_is_logged_once_with_its_namespace(own_lab: Lab, command: Command) -> None:
    namespaces = (own_lab.server, own_lab.outside)
    command.ok("attach", INTERFACE, "--netns", own_lab.server)
    command.ok("attach", "more0", "--netns", own_lab.server)
    command.ok("attach", "more1", "--netns", own_lab.outside)
    command.ok("guard", "set", "mode=always")
    raised = sorted(f"{name} 1 -> 2 in {netns}" for name in RAISED for netns in namespaces)
    restored = sorted(f"{name} 2 -> 1 in {netns}" for name in RAISED for netns in namespaces)
    with Run(command) as run:
        assert run.says("while the guard answers: ", times=4), run.lines
        command.ok("block", "192.0.2.99")
        assert run.says("watching"), run.lines
        assert lines(run, "while the guard answers: ") == raised
        run.end(SIGKILL)
    with Run(command) as run:
        assert run.says("while the guard answers: ", times=4), run.lines
        assert lines(run, "restored after an unclean exit: ") == restored
        assert lines(run, "while the guard answers: ") == raised
        assert run.end() == 0
        assert lines(run, "restored: ") == restored
    assert {sysctl(name, netns) for name in RAISED for netns in namespaces} == {"1"}
    with Run(command) as run:
        assert run.says("while the guard answers: ", times=4), run.lines
        said = command.ok("detach", "more1", "--netns", own_lab.outside)
        assert sorted(it.removeprefix("put back ") for it in said.splitlines()[1:]) == [
            it for it in restored if own_lab.outside in it
        ]
        assert run.end() == 0
        assert lines(run, "restored: ") == [it for it in restored if own_lab.server in it]
