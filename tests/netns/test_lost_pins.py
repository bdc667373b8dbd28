# SPDX-License-Identifier: GPL-2.0
"""Pinned maps that somebody removed, and those that a killed attach has left."""

from __future__ import annotations

import subprocess

from support.command import Command
from topology import INTERFACE, Lab

from xdpguard.dataplane.sys import kernel

BLOCKED = "203.0.113.7"


def test_each_lost_pin_is_restored_with_the_map_in_use(lab: Lab, command: Command) -> None:
    """The map is the one that the program uses, with what was in it."""
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.ok("block", BLOCKED)
    pins = sorted(path for path in command.pins.rglob("*") if path.is_file() and "programs" not in path.name)
    before = {path: kernel.pin_id(path) for path in pins}
    for path in pins:
        path.unlink()
        said = command("rules", "--json")
        assert said.code == 0, (path, said)
        assert BLOCKED in said.out, (path, said)
        assert f"were missing and are restored: {path.name}\n" in said.err, (path, said)
    assert {path: kernel.pin_id(path) for path in pins} == before
    assert command.json("status")["degraded"] == []


def test_lost_programs_are_told_until_attached_again(lab: Lab, command: Command) -> None:
    """The kernel empties a map of programs with its last pin."""
    attach = ("attach", INTERFACE, "--netns", lab.server)
    command.ok(*attach)
    next(command.pins.rglob("programs-*")).unlink()
    for _ in range(2):
        said = command("block", BLOCKED)
        assert said.code == 0, said
        assert f"attach again: xdpguard {' '.join(attach)}" in said.err
    command.ok(*attach)
    assert command("rules").err == ""


def test_several_lost_pins_and_a_change(lab: Lab, command: Command) -> None:
    """A change repairs first, and reaches the program's own maps."""
    command.ok("attach", INTERFACE, "--netns", lab.server)
    for name in ("settings", "deny4", "deny4_nets", "list_index"):
        next(command.pins.rglob(name)).unlink()
    command.ok("block", BLOCKED)
    assert "its packets are dropped" in command.ok("explain", BLOCKED)
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert "its packets are dropped" in command.ok("explain", BLOCKED)


def test_incomplete_pins_without_a_program(lab: Lab, command: Command) -> None:
    """As an attach leaves them that is killed while it makes maps: every command works, and attach starts anew."""
    command.ok("attach", INTERFACE, "--netns", lab.server)
    subprocess.run(["ip", "-n", lab.server, "link", "set", INTERFACE, "xdp", "off"], check=True)
    for name in ("list_index", "hits", "deny4"):
        next(command.pins.rglob(name)).unlink()
    said = command("rules")
    assert said.code == 0
    assert "removed the incomplete maps" in said.err
    command.ok("block", BLOCKED)
    assert command("status").code == 1
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert "its packets are dropped" in command.ok("explain", BLOCKED)
