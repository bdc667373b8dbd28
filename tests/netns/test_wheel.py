# SPDX-License-Identifier: GPL-2.0
"""An installed package works outside the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from support.command import Command
from topology import INTERFACE, Lab

CHECKOUT = Path(__file__).parents[2]


def test_the_wheel_carries_the_data_plane_and_attaches_from_any_folder(
    lab: Lab, command: Command, tmp_path: Path
) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(CHECKOUT)], check=True)
    (wheel,) = tmp_path.glob("xdpguard-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    sources = {f"xdpguard/{path.relative_to(CHECKOUT)}" for path in (CHECKOUT / "bpf").rglob("*") if path.is_file()}
    assert sources <= set(names)
    assert {"xdpguard/metrics/alerts.yml", "xdpguard/systemd/xdpguard.service"} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "netns-lab"))]
    topics = {path.stem for path in (CHECKOUT / "xdpguard" / "help").glob("*.md")}
    assert {f"xdpguard/help/{name}.md" for name in topics} <= set(names)
    manual = {name.rpartition("/share/man/")[2] for name in names if "/share/man/" in name}
    assert {f"man7/xdpguard-{name}.7" for name in topics} | {"man1/xdpguard.1", "man1/xdpguard-block.1"} <= manual

    site = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--root-user-action=ignore", "--target", str(site), str(wheel)], check=True
    )
    where = subprocess.check_output(
        [sys.executable, "-c", "from xdpguard.dataplane.sys.source import source_folder; print(source_folder())"],
        cwd="/",
        env=command.environment | {"PYTHONPATH": str(site)},
        text=True,
    )
    assert where.strip() == str(site / "xdpguard" / "bpf")
    done = subprocess.run(
        command.line("attach", INTERFACE, "--netns", lab.server),
        cwd="/",
        env=command.environment | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert command.json("status")["interfaces"][0]["state"] == "attached"
