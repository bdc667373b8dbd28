# SPDX-License-Identifier: GPL-2.0
"""xdpguard bench: every figure is present and plausible, and everything is cleaned up, however it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.command import Command

pytestmark = pytest.mark.timeout(300)

_PATIENCE = 240  # seconds
_WAYS = {"pass_ack", "pass_syn", "denied", "malformed", "blocked", "allowed", "closed_port"}


def bench(command: Command, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts a bench whose temporary files are in a folder of the test's own."""
    (tmp_path / "tmp").mkdir()
    return subprocess.Popen(
        command.line("bench", *arguments),
        env=command.environment | {"TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left_by(process: subprocess.Popen[str], tmp_path: Path) -> list[str]:
    """What a bench that has ended has left: namespaces, records, pins, files, processes that know its folder."""
    mark = f"xgbench{process.pid}"
    found = [str(path) for folder in ("/run/netns", "/run/xdpguard-lab") for path in Path(folder).glob(f"{mark}*")]
    found += [str(path) for path in Path("/sys/fs/bpf/xdpguard").glob(f"xgbench-{process.pid}-*")]
    found += [str(path) for path in (tmp_path / "tmp").iterdir()]
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"TMPDIR={tmp_path}/tmp".encode() in path.read_bytes():
                found.append((path.parent / "cmdline").read_bytes().decode("utf-8", "replace"))
        except OSError:
            continue
    return found


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=_PATIENCE)
    assert process.returncode == 0, err
    return out


def test_a_quick_run_has_every_figure_and_leaves_nothing(command: Command, tmp_path: Path) -> None:
    process = bench(command, tmp_path, "--quick", "--json")
    found: dict[str, Any] = json.loads(finish(process))
    assert left_by(process, tmp_path) == []
    assert not command.store.exists()
    assert {"machine", "versions", "quick", "costs", "rates", "loading", "ratios", "skipped"} <= found.keys()
    assert {"cpu", "cores", "kernel"} <= found["machine"].keys()
    assert found["versions"]["xdpguard"]
    ours = [cost for cost in found["costs"] if cost["program"] == "xdpguard"]
    assert {cost["way"] for cost in ours} == _WAYS
    assert {cost["entries"] for cost in ours} == {0, 1_000}
    assert {(cost["family"], cost["sources"]) for cost in ours} == {(4, 1), (4, 10_000), (6, 1), (6, 10_000)}
    # A packet that is dropped for its header costs a few ns, which a busy machine can hide.
    assert all(cost["value"] > 0 for cost in found["costs"] if cost["way"] != "malformed")
    assert {cost["unit"] for cost in found["costs"]} == {"ns"}
    assert {"XDP_DROP at once", "xdpguard, list", "xdpguard, blocked by hand"} <= {
        it["defence"] for it in found["rates"]
    }
    assert all(rate["value"] > 10_000 and rate["unit"] == "packets/s" for rate in found["rates"])
    whats = {load["what"]: load for load in found["loading"] if load["tool"] == "xdpguard"}
    assert whats.keys() == {"load", "peak memory", "kernel memory", "reload, 1 % changed", "block", "unblock"}
    assert all(load["value"] > 0 for what, load in whats.items() if what != "kernel memory")
    assert any(ratio["kind"] == "clean" for ratio in found["ratios"])


def test_what_is_installed_is_measured_and_what_is_not_is_said(command: Command, tmp_path: Path) -> None:
    process = bench(command, tmp_path, "--quick", "--json", "--only", "rates", "--entries", "10")
    found = json.loads(finish(process))
    measured = {rate["defence"] for rate in found["rates"]}
    assert ("xdp-filter" in measured) == bool(shutil.which("xdp-filter"))
    for name in ("xdp-filter", "nftables set, ingress", "nftables set, raw prerouting", "ipset, raw prerouting"):
        assert (name in found["skipped"]) != (name in measured)


def test_markdown_names_the_machine(command: Command, tmp_path: Path) -> None:
    out = finish(bench(command, tmp_path, "--quick", "--markdown", "--only", "loading"))
    assert os.uname().release in out
    assert re.search(r"^\| +\| xdpguard \|", out, re.MULTILINE)
    assert re.search(r"^\| load, s \| \d", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("ending", "part", "at"),
    [
        (signal.SIGTERM, "costs", "costs: xdpguard"),
        (signal.SIGTERM, "costs", "costs: ACK passes"),
        (signal.SIGINT, "rates", "rates: XDP_DROP"),
        (signal.SIGINT, "rates", "rates: xdpguard"),
        (signal.SIGTERM, "loading", "loading: xdpguard"),
    ],
)
def test_one_that_is_ended_half_way_leaves_nothing(
    command: Command, tmp_path: Path, ending: signal.Signals, part: str, at: str
) -> None:
    with bench(command, tmp_path, "--quick", "--only", part) as process:
        assert process.stderr is not None
        assert any(at in line for line in process.stderr)
        process.send_signal(ending)
        process.communicate(timeout=_PATIENCE)
    assert process.returncode == 130  # as Ctrl-C ends any command
    assert left_by(process, tmp_path) == []


def test_the_next_one_removes_what_a_killed_one_left(command: Command, tmp_path: Path) -> None:
    with bench(command, tmp_path, "--quick", "--only", "rates") as process:
        assert process.stderr is not None
        assert any("rates: xdpguard" in line for line in process.stderr)
        process.kill()
        process.communicate(timeout=_PATIENCE)
    (tmp_path / "next").mkdir()
    finish(bench(command, tmp_path / "next", "--quick", "--only", "loading", "--entries", "10"))
    mark = f"xgbench{process.pid}"
    assert not [*Path("/run/netns").glob(f"{mark}*"), *Path("/sys/fs/bpf/xdpguard").glob(f"xgbench-{process.pid}-*")]


@pytest.mark.parametrize(
    "arguments", [["--only", "nonsense"], ["--json", "--markdown"], ["--entries", "-1"], ["--entries", "many"]]
)
def test_wrong_usage_is_refused(command: Command, arguments: list[str]) -> None:
    assert command("bench", *arguments).code == 2
