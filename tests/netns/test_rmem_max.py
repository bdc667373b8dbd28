# SPDX-License-Identifier: GPL-2.0
"""net.core.rmem_max, which the data plane cannot read: attach and guard set hand it over, and run while it lives."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.command import Command
from support.traffic import eventually
from topology import INTERFACE, Lab

from xdpguard.dataplane.sys import abi, kernel

SYSCTL = Path("/proc/sys/net/core/rmem_max")
PLACE = 2  # in abi.GUARD_POLICY


def known(command: Command) -> int:
    """What the data plane was told."""
    descriptor = kernel.open_pin(str(next(command.pins.glob("v*/guard_policy"))))
    try:
        raw = kernel.lookup(descriptor, bytes(4), abi.GUARD_POLICY.size)
    finally:
        os.close(descriptor)
    assert raw is not None
    return int(abi.GUARD_POLICY.unpack(raw)[PLACE])


@contextlib.contextmanager
def running(command: Command) -> Iterator[None]:
    process = subprocess.Popen(command.line("run"), env=command.environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        assert any("watching" in line for line in process.stderr)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_rmem_max_is_followed(lab: Lab, command: Command) -> None:
    """One page more than it was is less than tcp_rmem allows anyway, so that nobody on this machine notices."""
    before = int(SYSCTL.read_text())
    command.ok("attach", INTERFACE, "--netns", lab.server)
    assert known(command) == before
    try:
        SYSCTL.write_text(str(before + 4096))
        assert known(command) == before, "positive control: nobody has looked"
        command.ok("guard", "set", "hold=6s")
        assert known(command) == before + 4096
        SYSCTL.write_text(str(before + 8192))
        with running(command):
            assert known(command) == before + 8192, "as it begins"
            SYSCTL.write_text(str(before))
            assert eventually(lambda: known(command) == before, 40)
    finally:
        SYSCTL.write_text(str(before))
