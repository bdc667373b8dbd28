# SPDX-License-Identifier: GPL-2.0
"""A disk that is full, or nearly so: each command is done as a whole or leaves everything as it was, and says so."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import Command
from topology import INTERFACE, Lab

from xdpguard.control.controller import Controller
from xdpguard.dataplane.build.program import KernelDataplane
from xdpguard.dataplane.sys.pins import Pins
from xdpguard.net.links import Links
from xdpguard.store.database import Store

_PAGE = 4096  # bytes, of tmpfs and of SQLite
BPFFS = Path("/sys/fs/bpf")
MANY = "".join(f"10.9.{number // 250}.{number % 250 + 1}\n" for number in range(2000))


class Disk:
    """A small file system that can be filled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def full(self, free: int = 0) -> Iterator[None]:
        """Fills it, but for so many pages."""
        holes = [self.path / f"hole{number}" for number in range(free)]
        for hole in holes:
            hole.write_bytes(bytes(_PAGE))
        ballast = self.path / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(_PAGE))
        for hole in holes:
            hole.unlink()
        try:
            yield
        finally:
            ballast.unlink()


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    path = tmp_path_factory.mktemp("disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], check=True)
    yield Disk(path)
    subprocess.run(["umount", str(path)], check=True)


@pytest.fixture
def guarded(lab: Lab, disk: Disk) -> Iterator[Command]:
    """An attached instance whose state is on it, with entries of each kind."""
    made = Command(disk.path)
    made.ok("attach", INTERFACE, "--netns", lab.server)
    made.ok("block", "192.0.2.3")
    made.ok("block", "192.0.2.4", "--shadow")
    made.ok("lists", "load", "bad", "-", stdin="198.51.100.0/24\n")
    yield made
    made.clean()


def seen(command: Command) -> list[Any]:
    """All that a command might have changed, in the store, in the kernel and on the link."""
    status = command.json("status")
    assert status["degraded"] == []
    assert status["audit"]["ratio"] == 1
    return [status, command.json("rules"), command.json("lists", "show"), command.json("guard", "show")["policy"]]


@pytest.mark.parametrize("free", [0, 5, 12, 30])
def test_a_command_that_lacks_room_changes_nothing(lab: Lab, guarded: Command, disk: Disk, free: int) -> None:
    before = seen(guarded)
    commands: list[tuple[str, ...]] = [
        ("detach", INTERFACE, "--netns", lab.server),
        ("detach", "--all"),
        ("attach", INTERFACE, "--netns", lab.server, "--observe"),
    ]
    if free < 8:
        commands += [
            ("guard", "set", "mode=always"),
            ("allow", "192.0.2.9"),
            ("lists", "remove", "bad"),
            ("unblock", "192.0.2.3"),
            ("lists", "load", "bad", "-"),
        ]
    if free < 20:
        commands.append(("block", "-"))
    with disk.full(free):
        for words in commands:
            line = guarded.refused(3, *words, stdin=MANY if words[-1] == "-" else None)
            assert f"cannot write {disk.path}" in line
            assert seen(guarded) == before, words
    guarded.ok("block", "192.0.2.5")
    assert guarded.json("explain", "udp 192.0.2.5:9 > 192.0.2.2:9")["reason"] == "deny", "it is in force as it says"
    guarded.ok("detach", INTERFACE, "--netns", lab.server)
    assert not guarded.pins.exists()


def test_a_first_attach_that_lacks_room_leaves_nothing(lab: Lab, disk: Disk) -> None:
    command = Command(disk.path)
    command.ok("block", "192.0.2.3")
    for free in (0, 12, 30):
        with disk.full(free):
            assert "cannot write" in command.refused(3, "attach", INTERFACE, "--netns", lab.server)
            assert command.json("status")["interfaces"] == []
        assert not command.pins.exists()
    command.ok("attach", INTERFACE, "--netns", lab.server)
    command.clean()
    with disk.full():
        assert "cannot write" in Command(disk.path).refused(3, "block", "192.0.2.3"), "with no state at all"


@pytest.mark.parametrize("step", ["forget", "detach", "fold in"])
def test_a_detach_that_fails_halfway_is_taken_back(lab: Lab, guarded: Command, step: str) -> None:
    before = seen(guarded)

    def fails(name: str) -> None:
        if name == step:
            raise OSError(28, os.strerror(28))

    with Store(guarded.store) as store:
        session = Controller(store, KernelDataplane(Pins(BPFFS, guarded.instance)), Links(), fails)
        with pytest.raises(OSError, match="No space"):
            session.detach(INTERFACE, lab.server)
    assert seen(guarded) == before
