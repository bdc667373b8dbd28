# SPDX-License-Identifier: GPL-2.0
"""Inputs that never end or are too large, and environments that are too small: a sentence each, and nobody waits."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.command import Command
from topology import INTERFACE, Lab


def ended(command: Command, limit: Callable[[], None], *arguments: str) -> tuple[int, str]:
    """Run a command in a process with limits of its own; return its exit code and what it said."""
    done = subprocess.run(
        command.line(*arguments),
        capture_output=True,
        text=True,
        check=False,
        env=command.environment,
        preexec_fn=limit,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [("block", "-"), ("allow", "-"), ("lists", "load", "slow", "-")])
def test_a_slow_pipe_holds_up_nobody(command: Command, arguments: tuple[str, ...]) -> None:
    with subprocess.Popen(
        command.line(*arguments), stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=command.environment
    ) as slow:
        assert slow.stdin is not None
        # More than a pipe and a buffer hold: it reads when all is written.
        slow.stdin.write(b"198.51.100.8\n" * 20_000)
        slow.stdin.flush()
        result = command("block", "203.0.113.5")
        assert (result.code, "waiting" in result.err) == (0, False), result
        slow.stdin.close()
        assert slow.wait(60) == 0


def test_no_file_stops_a_command(command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, words in ((tmp_path / "fifo", "it is a FIFO"), (Path("/dev/zero"), "it is a device")):
        assert words in command.refused(2, "lists", "load", "a", str(path))
        assert words in command.refused(2, "attach", INTERFACE, "--config", str(path))
        assert words in command.refused(2, "replay", os.devnull, "--config", str(path))


def test_an_empty_duration_is_refused(command: Command) -> None:
    for arguments in (("block", "198.51.100.7"), ("allow", "198.51.100.7"), ("tcp", "states")):
        for text in ("", " ", "0s", "-1s", "nan", "1e9s"):
            assert "not a duration" in command.refused(2, *arguments, f"--for={text}")
    assert command.json("rules") == []


def test_too_few_descriptors(command: Command, lab: Lab) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))

    code, said = ended(command, few, "attach", INTERFACE, "--netns", lab.server)
    assert code == 3, said
    assert "may open only 20 files" in said
    assert "ulimit -n" in said
    assert len(said.splitlines()) == 1
    command.ok("attach", INTERFACE, "--netns", lab.server)


def test_too_little_memory(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("".join(f"198.{n >> 16}.{n >> 8 & 255}.{n & 255}\n" for n in range(1 << 18)))

    def limited(size: int) -> Callable[[], None]:
        return lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size))

    results = [ended(command, limited(size << 20), "lists", "load", "a", str(path)) for size in (60, 100, 130, 150)]
    for code, said in results:
        assert "OpenBLAS" not in said
        assert code == 0 or (code == 3 and ("too little memory" in said or "address space" in said)), said
    assert any(code == 3 for code, _ in results)
