# SPDX-License-Identifier: GPL-2.0
"""The lab itself: idempotent, removed after its owner, and a flood that stays inside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.traffic import flood_command
from topology import INTERFACE, Lab, is_lab_end, remove_orphans

from xdpguard.net import netns

LAB = Path(__file__).parents[2] / "netns-lab"


def test_up_is_idempotent_and_completes_a_half_made_lab() -> None:
    lab = Lab(f"xghalf{os.getpid()}", owner=os.getpid())
    try:
        lab.up()
        lab.up()
        assert lab.is_up()
        subprocess.run(["ip", "-n", lab.server, "link", "del", INTERFACE], check=True)
        assert not lab.is_up()
        lab.up()
        assert lab.is_up()
    finally:
        lab.down()
    assert not lab.is_up()
    assert not set(netns.names()) & {lab.server, lab.outside}


def test_a_killed_owner_leaves_nothing_for_long() -> None:
    name = f"xgkill{os.getpid()}"
    code = (
        f"import os, sys; sys.path.insert(0, {str(LAB)!r}); from topology import Lab; "
        f"Lab({name!r}, owner=os.getpid()).up(); print('up', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        assert Lab(name).is_up()
        owner.send_signal(signal.SIGKILL)
        owner.wait(10)
    remove_orphans()
    assert not set(netns.names()) & {f"{name}-server", f"{name}-outside"}


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_lab_up_ended_half_way_removes_what_it_made(signal_number: int) -> None:
    name = f"xgterm{os.getpid()}"
    code = (
        f"import os, sys; sys.path.insert(0, {str(LAB)!r}); sys.argv = ['lab', '--name', {name!r}, 'up']; "
        "import signal, topology, lab; signal.signal(signal.SIGINT, signal.default_int_handler); "
        f"topology.Lab._neighbours = lambda self: os.kill(os.getpid(), {int(signal_number)}); sys.exit(lab.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode != 0
    assert not set(netns.names()) & {f"{name}-server", f"{name}-outside"}


def test_a_flood_leaves_only_from_the_lab(lab: Lab) -> None:
    other = f"{lab.name}-other"
    subprocess.run(["ip", "netns", "add", other], check=True)
    try:
        subprocess.run(["ip", "-n", other, "link", "add", INTERFACE, "type", "veth", "peer", "name", "v1"], check=True)
        assert is_lab_end(lab.outside, INTERFACE)
        assert not is_lab_end(other, INTERFACE)
        assert not is_lab_end(lab.outside, "lo")
        for arguments in (["--netns", other], ["--interface", "lo"], ["--netns", "nosuch"]):
            done = subprocess.run(
                [*flood_command(lab, "udp", "--count", "10"), *arguments], capture_output=True, text=True, check=False
            )
            assert done.returncode != 0
            assert "is not a veth end that the lab created" in done.stderr
    finally:
        subprocess.run(["ip", "netns", "del", other], check=True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seconds", "61"],
        ["--count", "100000001"],
        ["--source", "nonsense"],
        ["--to", "2001:db8::1"],
        ["--size", "9000"],
    ],
)
def test_a_flood_is_bounded(lab: Lab, arguments: list[str]) -> None:
    done = subprocess.run(flood_command(lab, "udp", *arguments), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
