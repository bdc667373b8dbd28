# SPDX-License-Identifier: GPL-2.0
"""Bridges as systemd sees them: what they report to it, and units that it accepts."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from support.command import Command
from support.service import Run


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text("secret")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize("name", ["bgp", "crowdsec"])
def test_systemd_is_told(command: Command, tmp_path: Path, key: Path, name: str) -> None:
    """The other system does not answer: the bridge is up all the same, and goes on asking."""
    words = {
        "bgp": ("--gobgp", "127.0.0.1:1"),
        "crowdsec": ("--url", "http://127.0.0.1:1", "--key-file", str(key)),
    }[name]
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(path))
        link.settimeout(60)
        with Run(command, *words, words=("bridge", name), NOTIFY_SOCKET=str(path)) as bridge:

            def told(word: str) -> bool:
                return any(word in link.recv(4096).decode() for _ in range(20))

            assert told("READY=1\nSTATUS=connecting to ")
            assert told("WATCHDOG=1")
            assert told(f"STATUS={name}: not connected to ")
            assert told("WATCHDOG=1")
            assert bridge.end() == 0
            assert told("STOPPING=1")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not there")
@pytest.mark.parametrize("words", [("run",), ("bridge", "bgp"), ("bridge", "crowdsec")], ids=" ".join)
def test_systemd_accepts_the_unit(command: Command, tmp_path: Path, words: tuple[str, ...]) -> None:
    unit = tmp_path / "xdpguard-test.service"
    text = command.ok(*words, "--print-unit")
    for line in ("Type=notify", "NotifyAccess=main", "WatchdogSec="):
        assert line in text

    def said() -> str:
        done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    unit.write_text(text)
    assert said() == ""
    unit.write_text(text.replace("WatchdogSec=", "WatchdogSecs="))
    assert "WatchdogSecs" in said(), "it reads the file"
