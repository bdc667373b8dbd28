# SPDX-License-Identifier: GPL-2.0
"""Who is started to undo a change: a timer of systemd, or a process that waits."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from xdpguard.cli import arming


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The processes that were started to wait."""
    found: list[list[str]] = []

    def start(line: list[str], **options: object) -> None:
        assert options["start_new_session"], "it would end with the terminal"
        assert {options[name] for name in ("stdin", "stdout", "stderr")} == {subprocess.DEVNULL}
        found.append(line)

    monkeypatch.setattr(subprocess, "Popen", start)
    return found


@pytest.mark.parametrize(
    ("booted", "code", "wanted"), [(True, 0, "timer"), (True, 1, "process"), (False, 0, "process")]
)
def test_a_timer_or_a_process(
    booted: bool,
    code: int,
    wanted: str,
    started: list[list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    timers: list[list[str]] = []

    def run(line: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        timers.append(line)
        return subprocess.CompletedProcess(line, code, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(arming, "_BOOTED", tmp_path if booted else tmp_path / "none")
    monkeypatch.setenv("XDPGUARD_STATE_DIR", "/elsewhere")
    arming.arm("web", 60)
    hold = [sys.executable, "-P", "-m", "xdpguard.cli.hold", "web"]
    assert started == ([hold] if wanted == "process" else [])
    assert len(timers) == booted
    if booted:
        words = timers[0]
        assert words[0] == "systemd-run"
        assert "--on-active=60s" in words
        assert "--setenv=XDPGUARD_STATE_DIR=/elsewhere" in words
        assert words[words.index("--") + 1 :] == hold, shlex.join(words)


def test_without_systemd_run(started: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(line: list[str], **_: object) -> None:
        raise FileNotFoundError(line[0])

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(arming, "_BOOTED", tmp_path)
    arming.arm("web", 60)
    assert len(started) == 1
