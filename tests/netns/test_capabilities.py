# SPDX-License-Identifier: GPL-2.0
"""Another user than root, with the capabilities that `xdpguard help security` names, has what the commands need."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support.command import Command
from topology import INTERFACE, Lab

import xdpguard
from xdpguard.cli import unit

NOBODY = 65534
HELP = Path(xdpguard.__file__).parent / "help" / "security.md"


def documented(word: str) -> list[str]:
    """The capabilities that the topic names for a command that need not be root."""
    (row,) = [line for line in HELP.read_text().splitlines() if re.match(rf"\| (.*, )?(tcp )?{word}[ ,]", line)]
    return re.findall(r"CAP_\w+", row)


@pytest.fixture
def folder(reachable: Path) -> Iterator[Path]:
    """A folder of that user's, with a BPF file system of theirs in it."""
    made = reachable / "theirs"
    for its in (made, made / "bpf"):
        its.mkdir(mode=0o700)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(made)], check=True)
    options = f"mode=700,uid={NOBODY},gid={NOBODY}"
    subprocess.run(["mount", "-t", "bpf", "-o", options, "bpf", str(made / "bpf")], check=True)
    try:
        yield made
    finally:
        subprocess.run(["umount", str(made / "bpf")], check=True)


class User:
    """Runs commands as another user, with capabilities, in a network namespace."""

    def __init__(self, command: Command, folder: Path, netns: str) -> None:
        self._command = command
        self._netns = netns
        self._environment = command.environment | {
            "HOME": "/",
            "XDPGUARD_BPFFS": str(folder / "bpf"),
            "XDPGUARD_STATE_DIR": str(folder / "state"),
            "XDPGUARD_CACHE_DIR": str(folder / "cache"),
            "XDPGUARD_CONFIG_DIR": str(folder / "etc"),
        }

    def __call__(self, kept: Sequence[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        sets = "".join(f",+{name.removeprefix('CAP_').lower()}" for name in kept)
        line = [
            "nsenter",
            f"--net=/run/netns/{self._netns}",
            "setpriv",
            f"--reuid={NOBODY}",
            f"--regid={NOBODY}",
            "--clear-groups",
        ]
        line += [f"--{which}=-all{sets}" for which in ("bounding-set", "inh-caps", "ambient-caps")]
        return subprocess.run(
            [*line, *self._command.line(*arguments)],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.mark.timeout(300)
def test_a_user_with_capabilities_alone(lab: Lab, command: Command, folder: Path) -> None:
    user = User(command, folder, lab.server)
    lines = [f"attach {INTERFACE}", "block 203.0.113.1", "rules", "stats", "syns", "status"]
    lines += ["explain 203.0.113.1", "tcp states", "tcp retrans --for 1s"]
    try:
        for arguments in map(str.split, lines):
            needs = documented(arguments[1] if arguments[0] == "tcp" else arguments[0])
            done = user(needs, *arguments)
            assert done.returncode == 0, (arguments, done)
    finally:
        assert user(documented("detach"), "detach", "--all").returncode == 0
    assert "203.0.113.1" in user(["CAP_BPF"], "rules").stdout
    done = user([], "rules")
    assert (done.returncode, done.stderr) == (3, "xdpguard: this needs root (CAP_BPF); run it with sudo\n")


def test_tracefs_names_what_is_lacking(lab: Lab, command: Command, folder: Path) -> None:
    needs = [it for it in documented("retrans") if it != "CAP_DAC_READ_SEARCH"]
    done = User(command, folder, lab.server)(needs, "tcp", "retrans", "--for", "1s")
    assert done.returncode == 3, done
    assert "CAP_DAC_READ_SEARCH" in done.stderr


def test_the_unit_grants_what_is_documented() -> None:
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", unit.text("default", None, [], ""), re.MULTILINE)
    assert set(line.split()) == set(documented("run")) - {"CAP_DAC_READ_SEARCH"}
