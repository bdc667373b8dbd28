# SPDX-License-Identifier: GPL-2.0
"""The machine that was measured, and the versions of the tools."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

from xdpguard import __version__

# How to ask for each tool's version, first known way wins; xdp-filter itself does not report one.
_ASK = {
    "xdp-filter": (
        ["dpkg-query", "-W", "-f", "${Version}", "xdp-tools"],
        ["rpm", "-q", "--qf", "%{VERSION}", "xdp-tools"],
    ),
    "nft": (["nft", "--version"],),
    "ipset": (["ipset", "--version"],),
    "iptables": (["iptables", "--version"],),
}
_VERSION = re.compile(r"\d[\w.+~:-]*")


def describe() -> dict[str, str]:
    """Describe the processor, its cores, memory and the kernel."""
    return {
        "cpu": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30):.0f} GiB",
        "kernel": platform.release(),
        "architecture": platform.machine(),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of xdpguard and the other tools; None for a tool that is not installed."""
    return {"xdpguard": __version__} | {tool: _version(tool) if shutil.which(tool) else None for tool in _ASK}


def _version(tool: str) -> str:
    for question in _ASK[tool]:
        if shutil.which(question[0]):
            done = subprocess.run(question, capture_output=True, text=True, check=False, timeout=10)
            found = _VERSION.search(done.stdout)
            if done.returncode == 0 and found:
                return found[0]
    return "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu"):
            return " ".join(value.split())
    return "unknown"
